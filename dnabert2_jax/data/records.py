"""The bytes of one corpus record: a run of tokens of one strand and where in which genome it lies.

`CorpusRecord` in, msgpack bytes out, and back. Decoding copies nothing: the arrays look into the bytes.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

Strand = Literal["+", "-"]
STRANDS = "+-"  # an index stores a strand by its place here


@dataclass(frozen=True, slots=True, eq=False)
class CorpusRecord:
    """A run of tokens of one strand.

    Attributes:
      species: the species, as named when the corpus was built.
      contig: the contig, as named in the FASTA file.
      start: 0-based position, on the forward strand, of the first base of the run's interval.
      bases: how many bases the run covers; the tokens spell `genome[start : start + bases]`, reverse
        complemented where `strand` is "-".
      strand: "+" or "-".
      tokens: [n] uint16 ids without specials, read along `strand`.
      soft_mask: [n] uint8, the share of each token's bases that the FASTA file had in lower case: 0 none,
        255 all; None where none of the run is.
    """

    species: str
    contig: str
    start: int
    bases: int
    strand: Strand
    tokens: np.ndarray
    soft_mask: np.ndarray | None = None


class _Wire(msgspec.Struct, array_like=True, frozen=True, gc=False):
    species: str
    contig: str
    start: int
    bases: int
    strand: Strand
    tokens: memoryview
    soft_mask: memoryview


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Wire)
_TOKEN = np.dtype("<u2")


def encode_record(record: CorpusRecord) -> bytes:
    """The bytes of `record`; the same record always gives the same bytes."""
    soft_mask = b"" if record.soft_mask is None else record.soft_mask.astype(np.uint8).tobytes()
    wire = _Wire(
        record.species,
        record.contig,
        record.start,
        record.bases,
        record.strand,
        memoryview(record.tokens.astype(_TOKEN).tobytes()),
        memoryview(soft_mask),
    )
    return _ENCODER.encode(wire)


def decode_record(data: bytes) -> CorpusRecord:
    """The record of `data`; its arrays are read-only views into `data`.

    Raises:
      ValueError: `data` is not a record.
    """
    try:
        wire = _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a corpus record: {error}") from error
    tokens = np.frombuffer(wire.tokens, _TOKEN)
    soft_mask = np.frombuffer(wire.soft_mask, np.uint8) if len(wire.soft_mask) else None
    if soft_mask is not None and soft_mask.size != tokens.size:
        raise ValueError(f"not a corpus record: {soft_mask.size} soft-mask bytes for {tokens.size} tokens")
    return CorpusRecord(wire.species, wire.contig, wire.start, wire.bases, wire.strand, tokens, soft_mask)
