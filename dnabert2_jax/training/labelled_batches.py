"""Labelled sequences as batches of one shape: text in, padded token ids with labels and weights out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.data.labelled import LabelledData
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

type Batch = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """One split, tokenised.

    Attributes:
      input_ids, attention_mask: int32 [N, S].
      labels: int32 [N].
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def encode_splits(data: LabelledData, tokenizer: Tokenizer, max_length: int) -> list[EncodedExamples]:
    """Tokenises train, dev and test, all to the length S of the longest example, at most `max_length`."""
    splits = [data.train, data.dev, data.test]
    encoded = [tokenizer.encode_batch(split.sequences, max_length=max_length) for split in splits]
    length = max(batch.input_ids.shape[1] for batch in encoded)
    return [
        EncodedExamples(_widen(batch.input_ids, length), _widen(batch.attention_mask, length), split.labels)
        for split, batch in zip(splits, encoded, strict=True)
    ]


def steps_per_epoch(examples: EncodedExamples, batch_size: int) -> int:
    """Batches in one pass; the last may be part empty."""
    return -(-len(examples) // batch_size)


def shuffled_batches(examples: EncodedExamples, batch_size: int, epochs: int, seed: int) -> Iterator[Batch]:
    """All batches of a training run, each epoch in an order that depends on (seed, epoch) alone."""
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(examples))
        yield from _batches(examples, order, batch_size)


def batches_in_order(examples: EncodedExamples, batch_size: int) -> Iterator[Batch]:
    """All examples once, as they stand."""
    return _batches(examples, np.arange(len(examples)), batch_size)


def _batches(examples: EncodedExamples, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        empty = (0, batch_size - len(chosen))
        yield {
            "input_ids": np.pad(examples.input_ids[chosen], (empty, (0, 0))),
            "attention_mask": np.pad(examples.attention_mask[chosen], (empty, (0, 0))),
            "labels": np.pad(examples.labels[chosen], empty),
            "weights": np.pad(np.ones(len(chosen), np.float32), empty),
        }


def _widen(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, length - array.shape[1])))
