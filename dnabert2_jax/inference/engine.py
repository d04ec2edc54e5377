"""Runs a compiled function over sequences of any lengths: tokenised, sorted into buckets, order kept.

In: an iterator of sequences and a function of padded batches. Out: one row of results per sequence, in
the order that the sequences came.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.vocabulary import PAD_ID

# Sequences that are sorted by length together. It bounds memory, and the padding that sorting saves.
_BLOCK = 2048


def map_sequences(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    tokenizer: Tokenizer,
    sequences: Iterable[str],
    *,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Applies `compute` to every sequence.

    Args:
      compute: (input_ids [B, S], attention_mask [B, S]) → results [B, …], row by row. It sees few
        different S, so that it is compiled for each but once.
      tokenizer: of the model.
      sequences: any number, read as they are needed.
      batch_size: B.

    Yields:
      The result of each sequence, in order.
    """
    iterator = iter(sequences)
    while block := list(islice(iterator, _BLOCK)):
        encoded = [tokenizer.encode(sequence) for sequence in block]
        by_length = sorted(range(len(block)), key=lambda index: len(encoded[index]))
        results: list[np.ndarray] = [np.empty(0)] * len(block)
        for first in range(0, len(block), batch_size):
            chosen = by_length[first : first + batch_size]
            input_ids, attention_mask = _pad([encoded[index] for index in chosen], batch_size)
            for index, row in zip(chosen, compute(input_ids, attention_mask), strict=False):
                results[index] = row
        yield from results


def bucket_length(tokens: int) -> int:
    """The padded length of a sequence: the next of 16, 24, 32, 48, 64, 96, … (at most a third is padding)."""
    length = 16
    while length < tokens:
        length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
    return length


def _pad(encoded: list[np.ndarray], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    # Rows beyond the sequences hold one attended [PAD], so that no mean divides by nothing.
    length = bucket_length(max(len(ids) for ids in encoded))
    input_ids = np.full((batch_size, length), PAD_ID, np.int32)
    attention_mask = np.zeros((batch_size, length), np.int32)
    attention_mask[len(encoded) :, 0] = 1
    for row, ids in enumerate(encoded):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return input_ids, attention_mask
