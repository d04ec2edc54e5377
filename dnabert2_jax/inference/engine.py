"""Runs a compiled function over sequences of any lengths: tokenised, sorted into buckets, order kept.

In: an iterator of sequences, or of pairs of them, and a function of padded batches. Out: one row of results
for each, in the order that they came.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import jax
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.rows import EncodedBatch, EncodedRow, pad_rows
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

type Example = str | tuple[str, str]
"""A sequence, or a pair of sequences that are read as one input."""

type Compute = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
"""(input_ids [B, S], attention_mask [B, S], token_type_ids [B, S], None without pairs) → results [B, …]."""

# Examples that are sorted by length together. It bounds memory, and the padding that sorting saves.
_BLOCK = 2048

# Attention scores of a batch, B·S², in one head: 32 sequences of 724 tokens. In float32 and 12 heads 0.8 GB.
_SCORES = 1 << 24


def map_sequences(
    compute: Compute,
    tokenizer: SequenceTokenizer,
    sequences: Iterable[Example],
    *,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Applies `compute` to every sequence or pair.

    Args:
      compute: works row by row. It sees few different S, and for each S one B, so that it is compiled for
        each but once.
      tokenizer: of the model.
      sequences: any number, read as they are needed.
      batch_size: the largest B; of long sequences fewer are computed at once.

    Yields:
      The result of each, in order.

    Raises:
      UserError: `batch_size` is below 1, or a batch needs more memory than there is.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
    iterator = iter(sequences)
    while block := list(islice(iterator, _BLOCK)):
        encoded = [_encode(tokenizer, example) for example in block]
        lengths = [len(ids) for ids, _ in encoded]
        remaining = sorted(range(len(block)), key=lengths.__getitem__)
        results: list[np.ndarray] = [np.empty(0)] * len(block)
        # From the longest down, so that the longest of a batch, which sets its shape, is known first.
        while remaining:
            length = bucket_length(lengths[remaining[-1]])
            rows = _rows_at_once(length, batch_size)
            chosen = remaining[-rows:]
            del remaining[-rows:]
            batch = pad_rows([encoded[index] for index in chosen], (rows, length))
            # Rows beyond the sequences hold one attended [PAD], so that no mean divides by nothing.
            batch.attention_mask[len(chosen) :, 0] = 1
            for index, row in zip(chosen, _computed(compute, batch, batch_size), strict=False):
                results[index] = row
        yield from results


def bucket_length(tokens: int) -> int:
    """The padded length of a sequence: the next of 16, 24, 32, 48, 64, 96, … (at most a third is padding)."""
    length = 16
    while length < tokens:
        length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
    return length


def _encode(tokenizer: SequenceTokenizer, example: Example) -> EncodedRow:
    if isinstance(example, str):
        return tokenizer.encode(example), None
    return tokenizer.encode_pair(*example)


def _rows_at_once(length: int, batch_size: int) -> int:
    return max(1, min(batch_size, _SCORES // length**2))


def _computed(compute: Compute, batch: EncodedBatch, batch_size: int) -> np.ndarray:
    try:
        return compute(*batch)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        rows, length = batch.input_ids.shape
        remedy = f"make it less than {rows}" if rows > 1 else "cut the sequences into shorter ones"
        raise UserError(
            f"a batch of {rows:,} × {length:,} tokens needs more memory than there is "
            f"(batch_size is {batch_size}); {remedy}"
        ) from error
