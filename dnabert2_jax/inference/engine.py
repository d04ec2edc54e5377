"""Runs a compiled function over sequences of any lengths: tokenised, sorted into buckets, order kept.

In: an iterator of sequences, or of pairs of them, and a function of padded batches. Out: one row of results
for each, in the order that they came.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.vocabulary import PAD_ID

type Example = str | tuple[str, str]
"""A sequence, or a pair of sequences that are read as one input."""

type Compute = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
"""(input_ids [B, S], attention_mask [B, S], token_type_ids [B, S], None without pairs) → results [B, …]."""

# Examples that are sorted by length together. It bounds memory, and the padding that sorting saves.
_BLOCK = 2048


def map_sequences(
    compute: Compute,
    tokenizer: SequenceTokenizer,
    sequences: Iterable[Example],
    *,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Applies `compute` to every sequence or pair.

    Args:
      compute: works row by row. It sees few different S, so that it is compiled for each but once.
      tokenizer: of the model.
      sequences: any number, read as they are needed.
      batch_size: B.

    Yields:
      The result of each, in order.
    """
    iterator = iter(sequences)
    while block := list(islice(iterator, _BLOCK)):
        encoded = [_encode(tokenizer, example) for example in block]
        by_length = sorted(range(len(block)), key=lambda index: len(encoded[index][0]))
        results: list[np.ndarray] = [np.empty(0)] * len(block)
        for first in range(0, len(block), batch_size):
            chosen = by_length[first : first + batch_size]
            batch = _pad([encoded[index] for index in chosen], batch_size)
            for index, row in zip(chosen, compute(*batch), strict=False):
                results[index] = row
        yield from results


def bucket_length(tokens: int) -> int:
    """The padded length of a sequence: the next of 16, 24, 32, 48, 64, 96, … (at most a third is padding)."""
    length = 16
    while length < tokens:
        length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
    return length


def _encode(tokenizer: SequenceTokenizer, example: Example) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(example, str):
        return tokenizer.encode(example), None
    return tokenizer.encode_pair(*example)


def _pad(
    encoded: list[tuple[np.ndarray, np.ndarray | None]], batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    # Rows beyond the sequences hold one attended [PAD], so that no mean divides by nothing.
    length = bucket_length(max(len(ids) for ids, _ in encoded))
    input_ids = np.full((batch_size, length), PAD_ID, np.int32)
    attention_mask = np.zeros((batch_size, length), np.int32)
    token_type_ids = np.zeros((batch_size, length), np.int32)
    attention_mask[len(encoded) :, 0] = 1
    for row, (ids, types) in enumerate(encoded):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        if types is not None:
            token_type_ids[row, : len(ids)] = types
    # Without pairs the types are left out, which saves the encoder their look-up.
    return input_ids, attention_mask, token_type_ids if token_type_ids.any() else None
