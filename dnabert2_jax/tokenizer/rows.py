"""Token ids as rows of a batch: cut to a length, and padded to one shape.

In: the ids of single sequences or pairs. Out: the same with fewer tokens, or arrays [B, S].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import PAD_ID, SEP_ID

type EncodedRow = tuple[np.ndarray, np.ndarray | None]
"""(input_ids int32 [S], with [CLS] and [SEP]; token_type_ids int32 [S] of a pair, None of one sequence)."""


class EncodedPair(NamedTuple):
    """Token ids of `[CLS] first [SEP] second [SEP]`: an EncodedRow.

    Attributes:
      input_ids: int32 [S].
      token_type_ids: int32 [S], 0 up to the first [SEP], then 1.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray


class EncodedBatch(NamedTuple):
    """Token ids of several sequences or pairs, padded with [PAD].

    Attributes:
      input_ids: int32 [B, S].
      attention_mask: int32 [B, S], 0 at padding.
      token_type_ids: int32 [B, S], 1 in the second sequence of a pair; None where there is no pair.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray | None = None


def cut_row(row: EncodedRow, max_length: int) -> EncodedRow:
    """The row with at most `max_length` tokens, cut as the Hugging Face tokenizers cut.

    One sequence loses its right end. Of a pair the longer sequence does, until both are of one length; then
    both do.

    Args:
      row: with all its special tokens.
      max_length: special tokens counted.

    Raises:
      UserError: `max_length` leaves no room for the special tokens.
    """
    ids, types = row
    special = 2 if types is None else 3
    if max_length < special:
        names = "[CLS] and [SEP]" if types is None else "[CLS] and two [SEP]"
        raise UserError(f"max_length is {max_length}; {names} alone need {special}")
    if len(ids) <= max_length:
        return row
    if types is None:
        return np.concatenate([ids[: max_length - 1], ids[-1:]]), None
    right = int(types.sum()) - 1
    left = len(ids) - 3 - right
    room = max_length - 3
    longer = max(room - min(left, right), room - room // 2)
    # Of two sequences as long as each other, the second keeps the odd token.
    kept = longer if left > right else room - longer
    second = ids[left + 2 : left + 2 + room - kept]
    separator = np.array([SEP_ID], np.int32)
    return EncodedPair(
        np.concatenate([ids[: kept + 1], separator, second, separator]),
        np.repeat(np.array([0, 1], np.int32), [kept + 2, len(second) + 1]),
    )


def pad_rows(rows: Sequence[EncodedRow], shape: tuple[int, int] | None = None) -> EncodedBatch:
    """The rows as one batch.

    Args:
      rows: at most B, of at most S tokens.
      shape: (B, S); rows beyond those given are all padding. None means no more than the rows need.
    """
    shape = shape or (len(rows), max((len(ids) for ids, _ in rows), default=0))
    input_ids = np.full(shape, PAD_ID, np.int32)
    attention_mask, token_type_ids = np.zeros((2, *shape), np.int32)
    for number, (ids, types) in enumerate(rows):
        input_ids[number, : len(ids)] = ids
        attention_mask[number, : len(ids)] = 1
        if types is not None:
            token_type_ids[number, : len(ids)] = types
    has_pairs = any(types is not None for _, types in rows)
    return EncodedBatch(input_ids, attention_mask, token_type_ids if has_pairs else None)
