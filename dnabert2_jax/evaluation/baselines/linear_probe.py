"""What a model's embeddings hold before fine-tuning: logistic regression on them, the model left as it is."""

import time

import numpy as np

from dnabert2_jax.data.labelled import LabelledData, LabelledSplit
from dnabert2_jax.evaluation.baselines.logistic import predict_classes
from dnabert2_jax.evaluation.predictions import Predictions, check_classes
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.tokenizer.rows import cut_row
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.spans import token_spans


def linear_probe(
    model: Pretrained, data: LabelledData, *, max_length: int | None, batch_size: int = 32
) -> Predictions:
    """Learns from the mean embedding of each sequence, every dimension brought to mean 0 and variance 1.

    Args:
      model: the model, whose head, if it has one, is not used.
      data: classes that exclude each other. Of pairs the embeddings of both sequences stand side by side.
      max_length: tokens that are kept of an example, as in fine-tuning; None keeps all.
      batch_size: sequences embedded at once.

    Raises:
      UserError: the labels are no classes, there is one class only, or `max_length` leaves no room for the
        special tokens.
    """
    check_classes(data)
    start = time.perf_counter()
    train, dev, test = (_embeddings(model, split, max_length, batch_size) for split in data.splits)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    train, dev, test = ((part - mean) / deviation for part in (train, dev, test))
    return predict_classes((train, dev, test), data, start, {"max_length": max_length})


def _embeddings(
    model: Pretrained, split: LabelledSplit, max_length: int | None, batch_size: int
) -> np.ndarray:
    """float64 [rows, E], or [rows, 2 E] of pairs."""
    firsts, seconds = split.sequences, split.seconds
    if max_length is not None and seconds is None:
        firsts = [cut_text(model.tokenizer, text, max_length) for text in firsts]
    elif max_length is not None and seconds is not None:
        cut = [cut_pair(model.tokenizer, *pair, max_length) for pair in zip(firsts, seconds, strict=True)]
        firsts, seconds = [first for first, _ in cut], [second for _, second in cut]
    columns = [firsts] if seconds is None else [firsts, seconds]
    parts = [model.embed(column, batch_size=batch_size) for column in columns]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def cut_text(tokenizer: SequenceTokenizer, sequence: str, max_length: int) -> str:
    """The start of a sequence that `cut_row` keeps the tokens of.

    A start that ends where a token ends has the same tokens by itself as in the whole.

    Args:
      tokenizer: of the model.
      sequence: letters without white space, as `LabelledSplit` has them.
      max_length: as in `cut_row`.

    Raises:
      UserError: `max_length` leaves no room for [CLS] and [SEP].
    """
    ids = tokenizer.encode(sequence)
    kept, _ = cut_row((ids, None), max_length)
    return _start(tokenizer, sequence, ids, len(kept) - 2)


def cut_pair(tokenizer: SequenceTokenizer, first: str, second: str, max_length: int) -> tuple[str, str]:
    """The starts of both sequences of a pair, as `cut_text` of one.

    Raises:
      UserError: `max_length` leaves no room for [CLS] and two [SEP].
    """
    whole = tokenizer.encode_pair(first, second)
    _, types = cut_row(whole, max_length)
    assert types is not None
    right = int(types.sum()) - 1
    left = len(types) - 3 - right
    return _start(tokenizer, first, tokenizer.encode(first), left), _start(
        tokenizer, second, tokenizer.encode(second), right
    )


def _start(tokenizer: SequenceTokenizer, sequence: str, ids: np.ndarray, tokens: int) -> str:
    """The letters of the first so many tokens; `ids` are those of the sequence, with [CLS] and [SEP]."""
    if tokens == len(ids) - 2:
        return sequence
    if not tokens:
        return ""
    _, ends = token_spans(tokenizer, ids[1 : 1 + tokens])
    return sequence[: ends[-1]]
