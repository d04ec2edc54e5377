"""Labelled sequences as batches of one shape: text in, padded token ids with labels and weights out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.data.labelled import LabelledData, LabelledSplit
from dnabert2_jax.tokenizer.sequence_tokenizer import EncodedPair, SequenceTokenizer
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, PAD_ID, SEP_ID

type Batch = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """One split, tokenised.

    Attributes:
      input_ids, attention_mask: int32 [N, S].
      token_type_ids: int32 [N, S] for pairs, 1 in the second sequence; else None.
      labels: [N] or [N, C], as in `LabelledSplit`.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def arrays(self) -> Batch:
        """What a batch has of each example; `token_type_ids` of pairs alone."""
        arrays = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "labels": self.labels,
        }
        return arrays if self.token_type_ids is None else arrays | {"token_type_ids": self.token_type_ids}


def encode_splits(
    data: LabelledData, tokenizer: SequenceTokenizer, max_length: int
) -> tuple[EncodedExamples, EncodedExamples, EncodedExamples]:
    """Tokenises train, dev and test, all to the length S of the longest example, at most `max_length`.

    Of a pair that is too long, the longer sequence loses its right end until both are of one length; then
    both do.
    """
    splits = (data.train, data.dev, data.test)
    train, dev, test = (_token_rows(split, tokenizer, max_length) for split in splits)
    length = max(len(ids) for rows in (train, dev, test) for ids, _ in rows)
    return (
        _padded(train, data.train, length),
        _padded(dev, data.dev, length),
        _padded(test, data.test, length),
    )


def encode_pair(tokenizer: SequenceTokenizer, first: str, second: str, max_length: int) -> EncodedPair:
    """`[CLS] first [SEP] second [SEP]`, cut longest first, as the Hugging Face tokenizers cut."""
    left = tokenizer.encode(first, special_tokens=False)
    right = tokenizer.encode(second, special_tokens=False)
    shorter, longer = sorted((len(left), len(right)))
    room = max_length - 3
    if shorter + longer > room:
        longer = max(room - shorter, room - room // 2)
        shorter = min(shorter, room // 2)
    # Of two sequences as long as each other, the second keeps the odd token.
    kept = (longer, shorter) if len(left) > len(right) else (shorter, longer)
    left, right = left[: kept[0]], right[: kept[1]]
    types = np.repeat(np.array([0, 1], np.int32), [len(left) + 2, len(right) + 1])
    return EncodedPair(np.concatenate([[CLS_ID], left, [SEP_ID], right, [SEP_ID]]).astype(np.int32), types)


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
        batch = {name: array[chosen] for name, array in examples.arrays().items()}
        batch["weights"] = np.ones(len(chosen), np.float32)
        yield {name: _fill_up(array, batch_size) for name, array in batch.items()}


def _token_rows(
    split: LabelledSplit, tokenizer: SequenceTokenizer, max_length: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    if split.seconds is None:
        batch = tokenizer.encode_batch(split.sequences, max_length=max_length)
        lengths = batch.attention_mask.sum(axis=1)
        return [(ids[:length], None) for ids, length in zip(batch.input_ids, lengths, strict=True)]
    pairs = zip(split.sequences, split.seconds, strict=True)
    return [encode_pair(tokenizer, first, second, max_length) for first, second in pairs]


def _padded(
    rows: list[tuple[np.ndarray, np.ndarray | None]], split: LabelledSplit, length: int
) -> EncodedExamples:
    input_ids = np.full((len(rows), length), PAD_ID, np.int32)
    attention_mask, token_type_ids = np.zeros((2, len(rows), length), np.int32)
    for row, (ids, types) in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        if types is not None:
            token_type_ids[row, : len(ids)] = types
    pairs = split.seconds is not None
    return EncodedExamples(input_ids, attention_mask, token_type_ids if pairs else None, split.labels)


def _fill_up(array: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
