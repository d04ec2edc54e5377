"""Stretches of genome in, the bytes of corpus records out: both strands, in pairs.

BPE does not commute with the reverse complement, so the strands are tokenised apart. A pure function that
several threads call at a time: SentencePiece holds no lock while it works.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.data.layout import RECORD_TOKENS
from dnabert2_jax.data.records import CorpusRecord, Strand, encode_record
from dnabert2_jax.genome.fasta import Stretch
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer


@dataclass(frozen=True, slots=True, eq=False)
class TokenisedStretches:
    """Records of some stretches of one species.

    Attributes:
      records: their bytes; the two strands of a place stand side by side, forward first.
      tokens: int32 [records], tokens of each.
      stretch: int32 [records], the stretch of each by its place in the batch.
      bases: of all stretches, on one strand.
      unigram_counts: int64 [V], how often each id occurs.
    """

    records: list[bytes]
    tokens: np.ndarray
    stretch: np.ndarray
    bases: int
    unigram_counts: np.ndarray


def tokenise(species: str, tokenizer: SequenceTokenizer, stretches: Sequence[Stretch]) -> TokenisedStretches:
    """Tokenises both strands of stretches.

    A strand of more than 8192 tokens is divided evenly, and the other one into as many records; the i-th of
    both, counted along the forward strand, make a pair.
    """
    strands = [bases for stretch in stretches for bases in (stretch.bases, reverse_complement(stretch.bases))]
    ids = tokenizer.encode_genome(strands)
    records: list[bytes] = []
    tokens: list[int] = []
    of_stretch: list[int] = []
    for number, (stretch, forward, reverse) in enumerate(zip(stretches, ids[::2], ids[1::2], strict=True)):
        pieces = -(-max(forward.size, reverse.size) // RECORD_TOKENS)
        pairs = zip(
            _divide(species, tokenizer, stretch, "+", forward, pieces),
            _divide(species, tokenizer, stretch, "-", reverse, pieces)[::-1],
            strict=True,
        )
        for record in itertools.chain.from_iterable(pairs):
            records.append(encode_record(record))
            tokens.append(record.tokens.size)
            of_stretch.append(number)
    return TokenisedStretches(
        records=records,
        tokens=np.array(tokens, np.int32),
        stretch=np.array(of_stretch, np.int32),
        bases=sum(stretch.bases.size for stretch in stretches),
        unigram_counts=np.bincount(np.concatenate(ids), minlength=tokenizer.vocab_size),
    )


def _divide(
    species: str, tokenizer: SequenceTokenizer, stretch: Stretch, strand: Strand, ids: np.ndarray, pieces: int
) -> list[CorpusRecord]:
    """A strand's records, in the order in which the strand is read."""
    ends = np.cumsum(tokenizer.token_lengths[ids])
    shares = _soft_mask_shares(stretch.soft_mask if strand == "+" else stretch.soft_mask[::-1], ends)
    borders = [ids.size * i // pieces for i in range(pieces + 1)]
    records = []
    for first, last in itertools.pairwise(borders):
        begin, end = (int(ends[first - 1]) if first else 0), int(ends[last - 1])
        piece_shares = None if shares is None else shares[first:last]
        records.append(
            CorpusRecord(
                species=species,
                contig=stretch.contig,
                start=stretch.start + (begin if strand == "+" else stretch.bases.size - end),
                bases=end - begin,
                strand=strand,
                tokens=ids[first:last].astype(np.uint16),
                soft_mask=piece_shares if piece_shares is not None and piece_shares.any() else None,
            )
        )
    return records


def _soft_mask_shares(soft_mask: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
    if not soft_mask.any():
        return None
    masked = np.diff(np.append(0, np.cumsum(soft_mask))[np.append(0, ends)])
    return np.rint(255 * masked / np.diff(ends, prepend=0)).astype(np.uint8)
