"""Rows of tokens of any lengths in, batches of few shapes out, which waste little on padding.

Rows are sorted by length and taken from the longest down. A batch's length is rounded up to one of a few
for each octave: so many that little is padding, and no more than there are batches to make up for compiling.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dnabert2_jax.tokenizer.vocabulary import CLS_ID, PAD_ID, SEP_ID

# Tokens for which one sequence of a batch counts: with 32 at once, a batch has up to 4,096 tokens.
TOKENS_PER_SEQUENCE = 128

# Attention scores of a batch, B·S², in one head: 32 sequences of 724 tokens. In float32 and 12 heads 0.8 GB.
_SCORES = 1 << 24

_SHORTEST = 16
_STEP = 8
_MOST_DIVISIONS = 16


class Row(NamedTuple):
    """What is computed as one row of a batch.

    Attributes:
      ids: int32 [S]; whatever its ends hold, the first is computed as [CLS] and the last as [SEP].
      types: int32 [S] of a pair, None of one sequence.
      start, stop: the tokens whose results count.
    """

    ids: np.ndarray
    types: np.ndarray | None
    start: int
    stop: int


class Inputs(NamedTuple):
    """A padded batch.

    Attributes:
      input_ids: int32 [B, S].
      attention_mask: int32 [B, S], 0 at padding.
      token_type_ids: int32 [B, S]; None where there is no pair.
      owned: int32 [B, 2], the tokens of each row whose results count, from the one up to the other.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray | None
    owned: np.ndarray


class BatchPlanner:
    """Plans the batches of one block of rows after another.

    The more rows of about a length there have been, the finer is what that length is rounded up to: what was
    compiled for one block serves the next ones.

    Args:
      batch_size: most rows of a batch on one device; of rows longer than 128 tokens there are fewer.
      devices: over how many devices the rows of a batch are split.
    """

    def __init__(self, batch_size: int, devices: int = 1):
        self._batch_size = batch_size
        self._devices = devices
        self._seen: Counter[int] = Counter()

    def plan(self, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Which rows of a block are computed together.

        Args:
          lengths: [n] tokens of each row.

        Yields:
          The places of a batch's rows in `lengths`, and the batch's shape (B, S). For each S there is one B.
        """
        octaves = np.ceil(np.log2(lengths)).astype(int)
        self._seen.update(octaves.tolist())
        divisions = {octave: self._divisions(octave) for octave in set(octaves.tolist())}
        remaining = np.argsort(lengths, kind="stable")
        while remaining.size:
            longest = int(lengths[remaining[-1]])
            length = bucket_length(longest, divisions[_octave(longest)])
            rows = self._devices * rows_at_once(length, self._batch_size)
            yield remaining[-rows:], (rows, length)
            remaining = remaining[:-rows]

    def _divisions(self, octave: int) -> int:
        """How many lengths it is worth to have in an octave: one for four batches."""
        batches = self._seen[octave] / (self._devices * rows_at_once(1 << octave, self._batch_size))
        worth = 1 << max(0, int(np.log2(max(batches / 4, 1))))
        return min(max(worth, 2), _MOST_DIVISIONS)


def bucket_length(tokens: int, divisions: int = _MOST_DIVISIONS) -> int:
    """The padded length of a row: a multiple of 8, one of `divisions` between a power of two and the next.

    Args:
      tokens: of the row.
      divisions: a power of two. The lengths of fewer divisions are among those of more.
    """
    step = max(_STEP, (1 << _octave(tokens)) // 2 // divisions)
    return max(_SHORTEST, -(-tokens // step) * step)


def rows_at_once(length: int, batch_size: int) -> int:
    """Rows of a batch of this length on one device."""
    return max(1, min(batch_size, batch_size * TOKENS_PER_SEQUENCE // length, _SCORES // length**2))


def fill(rows: Sequence[Row], shape: tuple[int, int]) -> Inputs:
    """The rows as arrays of this shape.

    Rows beyond those given hold one attended and owned [PAD], so that no mean divides by nothing.
    """
    lengths = np.zeros(shape[0], np.int64)
    lengths[: len(rows)] = [len(row.ids) for row in rows]
    real = np.arange(shape[1]) < lengths[:, None]
    input_ids = np.full(shape, PAD_ID, np.int32)
    input_ids[real] = np.concatenate([row.ids for row in rows])
    numbers = np.arange(len(rows))
    input_ids[numbers, 0] = CLS_ID
    input_ids[numbers, lengths[numbers] - 1] = SEP_ID
    token_type_ids = None
    if any(row.types is not None for row in rows):
        token_type_ids = np.zeros(shape, np.int32)
        for number, row in enumerate(rows):
            if row.types is not None:
                token_type_ids[number, : len(row.types)] = row.types
    owned = np.tile(np.array([0, 1], np.int32), (shape[0], 1))
    owned[: len(rows)] = [(row.start, row.stop) for row in rows]
    attention_mask = real.astype(np.int32)
    attention_mask[len(rows) :, 0] = 1
    return Inputs(input_ids, attention_mask, token_type_ids, owned)


def _octave(tokens: int) -> int:
    return (tokens - 1).bit_length()
