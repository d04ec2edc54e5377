"""Attention of one sequence: its letters in, the weights of layers and heads with the tokens' places out."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.batching import bucket_length
from dnabert2_jax.inference.inputs import check_layers
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.tokenizer.rows import pad_rows
from dnabert2_jax.tokenizer.spans import letters_of, token_spans

# Bytes of one sequence's weights: 12 layers and heads of 1,300 tokens.
_LARGEST = 1 << 30


class AttentionMap(NamedTuple):
    """What each token of a sequence attends to.

    Attributes:
      weights: float32 [layers, H, S, S]; `[n, h, i, j]` is the weight of token j in what head h makes of
        token i, and a row adds up to 1.
      layers: their numbers, from 0 on.
      tokens: the S tokens' texts, the first [CLS] and the last [SEP].
      starts, ends: int64 [S], the letters that a token stands for, 0-based and half open; none for [CLS] and
        [SEP].
    """

    weights: np.ndarray
    layers: tuple[int, ...]
    tokens: list[str]
    starts: np.ndarray
    ends: np.ndarray


def attention_map(model: Pretrained, sequence: str, *, layers: Iterable[int] | None = None) -> AttentionMap:
    """What each token of a sequence attends to, as the model computes it.

    Args:
      model: of any kind.
      sequence: DNA text.
      layers: which, from 0 on, from the end with negative numbers; None for all.

    Raises:
      UserError: there is no such layer; the weights would take over 1 GiB.
    """
    architecture = model.description.architecture
    chosen = check_layers(architecture, layers)
    ids = model.tokenizer.encode(sequence)
    size = 4 * len(chosen) * architecture.num_attention_heads * len(ids) ** 2
    if size > _LARGEST:
        raise UserError(
            f"the attention of {len(ids):,} tokens in {len(chosen)} layers takes {size / 2**30:.1f} GiB;"
            " give shorter sequences, or fewer layers (--layers)"
        )
    # Few lengths, as the model is compiled for each.
    batch = pad_rows([(ids, None)], (1, bucket_length(len(ids))))
    maps = model.attention_maps(batch.input_ids, batch.attention_mask, layers=chosen)
    weights = np.asarray(maps[:, 0, :, : len(ids), : len(ids)], np.float32)
    starts, ends = (
        np.concatenate([[0], bounds, [len(letters_of(sequence))]])
        for bounds in token_spans(model.tokenizer, ids[1:-1])
    )
    ends[0], ends[-1] = starts[0], starts[-1]
    return AttentionMap(weights, chosen, [model.tokenizer.tokens[number] for number in ids], starts, ends)


def attention_from(found: AttentionMap, centre: int, first: int, last: int) -> np.ndarray:
    """What the tokens over one base attend to, spread evenly over the bases that tokens stand for.

    Args:
      found: of a sequence.
      centre: the base.
      first, last: between which bases the weights are given, half open.

    Returns:
      float32 [layers, H, last - first]. All bases of the sequence together have what [CLS] and [SEP] leave
      of 1; 0 where no token lies over the base.
    """
    lengths = found.ends - found.starts
    over = (found.starts <= centre) & (centre < found.ends)
    if not over.any():
        return np.zeros((*found.weights.shape[:2], last - first), np.float32)
    rows = found.weights[:, :, over].mean(axis=2) / np.maximum(lengths, 1)
    places = np.arange(first, last)
    covers = (found.starts[:, None] <= places) & (places < found.ends[:, None])
    return (rows @ covers).astype(np.float32)
