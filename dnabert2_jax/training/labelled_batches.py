"""Labelled sequences as batches of one shape: text in, padded token ids with labels and weights out."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.data.labelled import LabelledData, LabelledSplit
from dnabert2_jax.tokenizer.rows import EncodedRow, cut_row, pad_rows
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

type Batch = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """One split, tokenised.

    Attributes:
      input_ids, attention_mask: int32 [N, S].
      token_type_ids: int32 [N, S] for pairs, 1 in the second sequence; else None.
      labels: [N] or [N, C], as in `LabelledSplit`.
      cut: how many of the N were too long and have lost tokens.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray | None
    labels: np.ndarray
    cut: int

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

    How a sequence or pair that is longer is cut, `cut_row` says.
    """
    splits = (data.train, data.dev, data.test)
    whole = [_token_rows(split, tokenizer) for split in splits]
    kept = [[cut_row(row, max_length) for row in rows] for rows in whole]
    length = max(len(ids) for rows in kept for ids, _ in rows)

    def examples(index: int) -> EncodedExamples:
        batch = pad_rows(kept[index], (len(kept[index]), length))
        cut = sum(len(ids) > max_length for ids, _ in whole[index])
        return EncodedExamples(*batch, labels=splits[index].labels, cut=cut)

    return examples(0), examples(1), examples(2)


def warn_of_cuts(
    train: EncodedExamples, dev: EncodedExamples, test: EncodedExamples, max_length: int
) -> None:
    """Says on stderr, in one line, how many examples were longer than `max_length`; nothing when none was."""
    named = (("training", train), ("dev", dev), ("test", test))
    counts = [f"{split.cut:,} of {len(split):,} {name}" for name, split in named if split.cut]
    if counts:
        print(
            f"{', '.join(counts)} sequences were cut to {max_length} tokens; "
            "raise training.max_length to keep them whole",
            file=sys.stderr,
        )


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


def _token_rows(split: LabelledSplit, tokenizer: SequenceTokenizer) -> list[EncodedRow]:
    if split.seconds is None:
        return [(tokenizer.encode(sequence), None) for sequence in split.sequences]
    return [tokenizer.encode_pair(*pair) for pair in zip(split.sequences, split.seconds, strict=True)]


def _fill_up(array: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
