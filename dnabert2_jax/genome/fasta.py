"""FASTA files as streams: plain or gzip text, from a file or standard input, comes in; chunks of bases,
stretches of A, C, G and T, or whole records go out.

`read_chunks` feeds `acgt_stretches`, which is what a tokenizer or a corpus is made from; `read_records` is
for short sequences; `write_fasta` is the way back.
"""

import gzip
import os
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.genome.bed import Regions
from dnabert2_jax.genome.fasta_parser import Header, parse_fasta
from dnabert2_jax.genome.inputs import Source, is_standard_input
from dnabert2_jax.genome.sequence import ACGT

_LOWER_CASE_BIT = 0x20
_LINE_WIDTH = 60


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A piece of a contig.

    Attributes:
      contig: the first word of the record's header.
      start: 0-based position of the first base in the contig.
      bases: uint8 [L], ASCII, upper case, DNA (U is read as T); ambiguity codes as they are.
      soft_mask: bool [L], true where the file had lower case.
    """

    contig: str
    start: int
    bases: np.ndarray
    soft_mask: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A run of A, C, G and T only.

    Attributes:
      contig: the contig's name.
      start: 0-based position of the first base in the contig.
      bases: uint8 [L], ASCII, upper case; a view where possible, so copy what you keep for long.
      soft_mask: bool [L], true where the file had lower case.
    """

    contig: str
    start: int
    bases: np.ndarray
    soft_mask: np.ndarray


@dataclass(slots=True)
class StretchCounts:
    """Where the bases went: into stretches, dropped in pieces that were too short, dropped as not A, C, G, T,
    dropped as outside of the wanted regions, whatever their letter.

    The four add up to the bases of the chunks that were read.
    """

    kept: int = 0
    too_short: int = 0
    not_acgt: int = 0
    outside_regions: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record.

    Attributes:
      name: the first word of the header.
      description: what follows the name in the header, or "".
      sequence: the letters in the case of the file, without line breaks and blanks, as DNA (U is read as T).
    """

    name: str
    description: str
    sequence: str


@dataclass(frozen=True, slots=True)
class Contig:
    """What a contig holds, in bases: all of them, those that are A, C, G or T, and those in lower case."""

    name: str
    length: int
    acgt: int
    soft_masked: int


def read_chunks(source: Source, chunk_bases: int = 1 << 20) -> Iterator[Chunk]:
    """Reads a FASTA file, plain or gzip (bgzip too; told by its first bytes), in chunks.

    Contigs come in the order of the file. Every chunk has `chunk_bases` bases except the last one of its
    contig; a contig without bases gives one empty chunk. Memory does not grow with the file.

    Args:
      source: the file, or "-" for standard input.
      chunk_bases: bases per chunk, at least 1.

    Warns:
      InputWarning: the file has U; it is read as T.

    Raises:
      UserError: the file cannot be read, is no FASTA, is damaged, has two records of one name or a record
        without a name, or holds a letter that is no IUPAC nucleotide code. X, gaps and stops are refused.
      ValueError: `chunk_bases` is out of range.
    """
    if chunk_bases < 1:
        raise ValueError(f"chunk_bases is {chunk_bases}; it must be at least 1")
    contig, start = "", 0
    pending = bytearray()
    for event in parse_fasta(source):
        if isinstance(event, Header):
            if contig and (pending or start == 0):
                yield _chunk(contig, start, pending)
            contig, start, pending = event.name, 0, bytearray()
            continue
        pending += event
        while len(pending) >= chunk_bases:
            yield _chunk(contig, start, pending[:chunk_bases])
            del pending[:chunk_bases]
            start += chunk_bases
    if pending or start == 0:
        yield _chunk(contig, start, pending)


def read_records(source: Source) -> Iterator[Record]:
    """Reads a FASTA file record by record, as text, holding one record in memory at a time.

    Takes the same files as `read_chunks`, and warns of and refuses the same.

    Raises:
      UserError: as in `read_chunks`.

    Examples:
      >>> [(record.name, record.sequence) for record in read_records("genome.fa")]
      [('chr1', 'ACGTTGCA')]
    """
    header: Header | None = None
    parts: list[bytes] = []
    for event in parse_fasta(source):
        if isinstance(event, Header):
            if header:
                yield _record(header, parts)
            header, parts = event, []
        else:
            parts.append(event)
    if header:
        yield _record(header, parts)


def acgt_stretches(
    chunks: Iterable[Chunk],
    *,
    length: int,
    minimum: int,
    cuts: Mapping[str, Sequence[int]] | None = None,
    keep: Regions | None = None,
    drop: Regions | None = None,
    counts: StretchCounts | None = None,
) -> Iterator[Stretch]:
    """Cuts contigs into stretches of A, C, G and T.

    Anything else ends a run, and so does the edge of a region. A run is cut at every position of `cuts`, and
    every `length` bases counted from its start or from the last cut. A piece that comes out shorter than
    `minimum`, such as the tail of a run, is dropped. The result does not depend on how the contigs were
    chunked.

    Args:
      chunks: the chunks of whole contigs, in order. A gap between two chunks of a contig ends a run.
      length: most bases of a stretch, at least 1.
      minimum: fewest bases of a stretch, at most `length`.
      cuts: for a contig's name, sorted 0-based positions; a cut at p separates base p - 1 from base p.
      keep: the regions that stretches come from; the whole genome where None. Whether the genome has their
        contigs is for the caller to check (`Regions.check_contigs`).
      drop: the regions that no stretch touches; they win over `keep`.
      counts: is added to as the stretches are drawn, and complete when they are exhausted.

    Raises:
      ValueError: `length` or `minimum` is out of range.
    """
    if length < 1 or minimum > length:
        raise ValueError(f"length {length} must be at least 1 and at least the minimum {minimum}")
    cuts = cuts or {}
    counts = counts if counts is not None else StretchCounts()

    def is_kept(stretch: Stretch) -> bool:
        if len(stretch.bases) < minimum:
            counts.too_short += len(stretch.bases)
            return False
        counts.kept += len(stretch.bases)
        return True

    unfinished: Stretch | None = None
    for chunk in chunks:
        bases, soft_mask, origin = chunk.bases, chunk.soft_mask, chunk.start
        if unfinished is not None:
            if (unfinished.contig, unfinished.start + len(unfinished.bases)) == (chunk.contig, chunk.start):
                bases = np.concatenate([unfinished.bases, bases])
                soft_mask = np.concatenate([unfinished.soft_mask, soft_mask])
                origin = unfinished.start
            elif is_kept(unfinished):
                yield unfinished
            unfinished = None
        contig_cuts = cuts.get(chunk.contig, ())
        wanted = _wanted(chunk.contig, origin, len(bases), keep, drop)
        outside = len(bases) - int(np.count_nonzero(wanted))
        runs = _runs(_is_acgt(bases) & wanted)
        counts.outside_regions += outside
        counts.not_acgt += len(bases) - outside - sum(end - start for start, end in runs)
        for run_start, run_end in runs:
            start = run_start
            while start < run_end:
                end = min(start + length, _next_cut(contig_cuts, origin + start) - origin)
                piece = slice(start, min(end, run_end))
                stretch = Stretch(chunk.contig, origin + start, bases[piece], soft_mask[piece])
                if end > run_end == len(bases):
                    unfinished = stretch
                elif is_kept(stretch):
                    yield stretch
                start = piece.stop
    if unfinished is not None and is_kept(unfinished):
        yield unfinished


def scan(path: str | os.PathLike) -> list[Contig]:
    """Reads a FASTA file once and says what each contig holds, in the order of the file.

    Raises:
      UserError: as in `read_chunks`; or the file is standard input, of which nothing would be left for those
        who scan to plan a second reading.
    """
    if is_standard_input(path):
        raise UserError("standard input: can be read only once, and this needs two passes; save it as a file")
    contigs: list[Contig] = []
    for chunk in read_chunks(path):
        before = Contig(chunk.contig, 0, 0, 0) if chunk.start == 0 else contigs.pop()
        contigs.append(
            Contig(
                name=chunk.contig,
                length=before.length + len(chunk.bases),
                acgt=before.acgt + int(np.count_nonzero(_is_acgt(chunk.bases))),
                soft_masked=before.soft_masked + int(np.count_nonzero(chunk.soft_mask)),
            )
        )
    return contigs


def write_fasta(path: str | os.PathLike, contigs: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Writes contigs in lines of 60 letters; the file appears whole or not at all.

    The same contigs give the same bytes, gzip included.

    Args:
      path: the file to write; gzip if its name ends in .gz.
      contigs: for each its name, bases (uint8 [L], ASCII, upper case) and soft mask (bool [L], written as
        lower case).

    Raises:
      UserError: the file cannot be written.
    """
    with atomic_file(path) as file:
        if not str(path).endswith(".gz"):
            _write_records(file, contigs)
            return
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as compressed:
            _write_records(compressed, contigs)


def _chunk(contig: str, start: int, letters: bytearray) -> Chunk:
    as_written = np.frombuffer(letters, np.uint8)
    return Chunk(
        contig=contig,
        start=start,
        bases=as_written & np.uint8(~_LOWER_CASE_BIT & 0xFF),
        soft_mask=(as_written & np.uint8(_LOWER_CASE_BIT)) != 0,
    )


def _record(header: Header, parts: list[bytes]) -> Record:
    return Record(header.name, header.description, b"".join(parts).decode("ascii"))


def _wanted(contig: str, start: int, length: int, keep: Regions | None, drop: Regions | None) -> np.ndarray:
    wanted = keep.mask(contig, start, start + length) if keep else np.ones(length, np.bool_)
    return wanted & ~drop.mask(contig, start, start + length) if drop else wanted


def _is_acgt(bases: np.ndarray) -> np.ndarray:
    # bytes.translate is several times as fast as indexing the table with an array.
    return np.frombuffer(bases.tobytes().translate(ACGT.tobytes()), np.bool_)


def _runs(chosen: np.ndarray) -> list[tuple[int, int]]:
    inside = np.zeros(len(chosen) + 2, np.bool_)
    inside[1:-1] = chosen
    edges = np.flatnonzero(inside[1:] != inside[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _next_cut(cuts: Sequence[int], position: int) -> int:
    index = bisect_right(cuts, position)
    return cuts[index] if index < len(cuts) else sys.maxsize


def _write_records(
    file: IO[bytes] | gzip.GzipFile, contigs: Iterable[tuple[str, np.ndarray, np.ndarray]]
) -> None:
    for name, bases, soft_mask in contigs:
        letters = bases | (soft_mask.astype(np.uint8) * np.uint8(_LOWER_CASE_BIT))
        file.write(f">{name}\n".encode())
        whole = len(letters) - len(letters) % _LINE_WIDTH
        lines = np.full((whole // _LINE_WIDTH, _LINE_WIDTH + 1), ord("\n"), np.uint8)
        lines[:, :-1] = letters[:whole].reshape(-1, _LINE_WIDTH)
        file.write(lines.tobytes())
        if whole < len(letters):
            file.write(letters[whole:].tobytes() + b"\n")
