"""Stretches of genome in, the bytes of corpus records out: both strands, in pairs.

BPE does not commute with the reverse complement, so the strands are tokenised apart. A pure function that
several threads call at a time: SentencePiece holds no lock while it works.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.data.layout import RECORD_TOKENS
from dnabert2_jax.data.records import CorpusRecord, encode_record
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
    sizes = np.array([of_strand.size for of_strand in ids])
    # From here on the strands lie end to end: token t of strand s stands for the bases [ends[t] - lengths[t],
    # ends[t]) of that strand.
    tokens = np.concatenate(ids).astype(np.uint16)
    borders = np.append(0, np.cumsum(sizes))
    lengths = tokenizer.token_lengths[tokens].astype(np.int64)
    read = np.append(0, np.cumsum(lengths))
    ends = read[1:] - np.repeat(read[borders[:-1]], sizes)
    shares = _soft_mask_shares(stretches, ends, lengths, sizes)
    records: list[bytes] = []
    tokens_of: list[int] = []
    stretch_of: list[int] = []
    for number, stretch in enumerate(stretches):
        pieces = -(-max(sizes[2 * number : 2 * number + 2]) // RECORD_TOKENS)
        # The reverse strand is read from the other end of the stretch.
        for piece, reverse in itertools.product(range(pieces), (False, True)):
            place, order = 2 * number + reverse, pieces - 1 - piece if reverse else piece
            first, last = (borders[place] + sizes[place] * i // pieces for i in (order, order + 1))
            begin, end = int(ends[first] - lengths[first]), int(ends[last - 1])
            piece_shares = None if shares is None else shares[first:last]
            record = CorpusRecord(
                species=species,
                contig=stretch.contig,
                start=stretch.start + (stretch.bases.size - end if reverse else begin),
                bases=end - begin,
                strand="-" if reverse else "+",
                tokens=tokens[first:last],
                soft_mask=piece_shares if piece_shares is not None and piece_shares.any() else None,
            )
            records.append(encode_record(record))
            tokens_of.append(last - first)
            stretch_of.append(number)
    return TokenisedStretches(
        records=records,
        tokens=np.array(tokens_of, np.int32),
        stretch=np.array(stretch_of, np.int32),
        bases=sum(stretch.bases.size for stretch in stretches),
        unigram_counts=np.bincount(tokens, minlength=tokenizer.vocab_size),
    )


def _soft_mask_shares(
    stretches: Sequence[Stretch], ends: np.ndarray, lengths: np.ndarray, sizes: np.ndarray
) -> np.ndarray | None:
    """Of each token the share of bases in lower case, 255 for all; None where nothing is."""
    masks = [mask for stretch in stretches for mask in (stretch.soft_mask, stretch.soft_mask[::-1])]
    if not any(mask.any() for mask in masks[::2]):
        return None
    masked_before = np.append(0, np.cumsum(np.concatenate(masks)))
    first_bases = np.append(0, np.cumsum([mask.size for mask in masks]))[:-1]
    last = np.repeat(first_bases, sizes) + ends
    masked = masked_before[last] - masked_before[last - lengths]
    return np.rint(255 * masked / lengths).astype(np.uint8)
