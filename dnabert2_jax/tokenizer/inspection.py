"""How a tokenizer cuts sequences: text in; pieces with their places, and counts over many sequences, out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.spans import encode_whole, letters_of, token_spans
from dnabert2_jax.tokenizer.vocabulary import UNK_ID


class Piece(NamedTuple):
    """A token of a sequence.

    Attributes:
      letters: of the sequence, in its case, that the token stands for.
      token_id: its id.
      start, end: where the letters lie, 0-based, half open, white space left out.
      is_known: whether it is another token than [UNK].
    """

    letters: str
    token_id: int
    start: int
    end: int
    is_known: bool


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """What a tokenizer makes of many sequences.

    Attributes:
      sequences: how many.
      letters: of them all, white space left out.
      counts: int64 [V], how often each token occurs; [CLS] and [SEP] are not counted.
      boundaries: places inside sequences where a token begins.
      shared: of these, those where one of the reverse complement's tokens ends too, as read there.
    """

    sequences: int
    letters: int
    counts: np.ndarray
    boundaries: int
    shared: int

    @property
    def tokens(self) -> int:
        """How many in all."""
        return int(self.counts.sum())

    @property
    def unknown(self) -> int:
        """How many of them are [UNK]."""
        return int(self.counts[UNK_ID])

    def most_frequent(self, most: int) -> list[tuple[int, int]]:
        """The most frequent tokens that occur, as id and count; of equals the lower id first."""
        order = np.argsort(-self.counts, kind="stable")[:most]
        return [(int(place), int(self.counts[place])) for place in order if self.counts[place]]

    def by_length(self, tokenizer: SequenceTokenizer) -> dict[int, int]:
        """How many tokens have each length in letters, [UNK] left out; by rising length."""
        found: dict[int, int] = {}
        for place in np.flatnonzero(self.counts):
            if place != UNK_ID:
                length = len(tokenizer.tokens[place])
                found[length] = found.get(length, 0) + int(self.counts[place])
        return dict(sorted(found.items()))


def cut_sequence(tokenizer: SequenceTokenizer, sequence: str) -> list[Piece]:
    """The tokens of a sequence in their order, without [CLS] and [SEP].

    Examples:
      >>> from dnabert2_jax.tokenizer.tokenizer import Tokenizer
      >>> tokenizer = Tokenizer(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A", "C", "G", "T", "TA"))
      >>> [(piece.letters, piece.start, piece.end) for piece in cut_sequence(tokenizer, "TATACN")]
      [('TA', 0, 2), ('TA', 2, 4), ('C', 4, 5), ('N', 5, 6)]
    """
    ids = encode_whole(tokenizer, sequence)[1:-1]
    letters = letters_of(sequence)
    starts, ends = token_spans(tokenizer, ids)
    return [
        Piece(letters[start:end], token_id, start, end, token_id != UNK_ID)
        for token_id, start, end in zip(ids.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


def count_tokens(tokenizer: SequenceTokenizer, sequences: Iterable[str]) -> TokenCounts:
    """Counts the tokens of sequences, and how many boundaries the opposite strand shares, one by one."""
    number = letters = boundaries = shared = 0
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for sequence in sequences:
        ids = encode_whole(tokenizer, sequence)[1:-1]
        opposite = encode_whole(tokenizer, reverse_complement(sequence))[1:-1]
        length = len(letters_of(sequence))
        here = token_spans(tokenizer, ids)[0][1:]
        there = length - token_spans(tokenizer, opposite)[1]
        number += 1
        letters += length
        counts += np.bincount(ids, minlength=len(counts))
        boundaries += len(here)
        shared += int(np.isin(here, there).sum())
    return TokenCounts(number, letters, counts, boundaries, shared)
