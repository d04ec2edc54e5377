"""Long records in windows: how many tokens come in, where to cut them; results of windows, one for the whole.

Windows overlap, and each token belongs to one of them alone: the overlap of two is shared out in its middle,
so that a token is computed with context on both sides. The first window owns [CLS], the last one [SEP].
Pieces are windows that share nothing, as models that are bounded in length are given long sequences.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.rows import EncodedRow

type Stitch = Literal["mean", "average", "max", "tokens"]
"""How the results of a record's windows become one: their mean, each counting as much as the tokens that it
owns, or as much as the others; the largest of each number; or the owned tokens' vectors, one after another,
without [CLS] and [SEP]."""


class Window(NamedTuple):
    """A part of a record's tokens.

    Attributes:
      first: of the record's tokens, [CLS] being number 0, the one in whose place the window's [CLS] stands.
      length: tokens of the window, its [CLS] and [SEP] counted.
      start, stop: the tokens that the window owns, counted from its [CLS].
    """

    first: int
    length: int
    start: int
    stop: int


def check_window(window: int | None, overlap: int) -> None:
    """Raises UserError where windows of this kind would hold no token of their own."""
    if window is not None and window < 3:
        raise UserError(f"window is {window}; it must be at least 3: [CLS], a token and [SEP]")
    if overlap < 0 or (window is not None and overlap > window - 3):
        largest = "" if window is None else f" to {window - 3}, three less than the window"
        raise UserError(f"overlap (--overlap) is {overlap}; it must be 0{largest or ' or more'}")


def cut_windows(tokens: int, window: int | None, overlap: int) -> list[Window]:
    """Windows over a record, all of one length, that overlap by `overlap` tokens or a little more.

    Args:
      tokens: of the record, [CLS] and [SEP] counted.
      window: most tokens of a window, [CLS] and [SEP] counted; None for one window over all.
      overlap: at least so many tokens are in both of two neighbours.

    Examples:
      >>> [(window.first, window.length) for window in cut_windows(1000, 512, 64)]
      [(0, 512), (244, 512), (488, 512)]
    """
    if window is None or tokens <= window:
        return [Window(0, tokens, 0, tokens)]
    inner, room = tokens - 2, window - 2
    count = -(-(inner - overlap) // (room - overlap))
    firsts = [number * (inner - room) // (count - 1) for number in range(count)]
    borders = [(left + room + right) // 2 for left, right in pairwise(firsts)]
    starts = [0, *(border - first + 1 for border, first in zip(borders, firsts[1:], strict=True))]
    stops = [*(border - first + 1 for border, first in zip(borders, firsts, strict=False)), window]
    return [Window(*place) for place in zip(firsts, [window] * count, starts, stops, strict=True)]


def cut_pieces(tokens: int, most: int) -> list[Window]:
    """Pieces of a record, no more than needed and all of one length or one token less, that share no token.

    Args:
      tokens: of the record, [CLS] and [SEP] counted.
      most: tokens of a piece, [CLS] and [SEP] counted, of which each has its own.
    """
    inner = tokens - 2
    count = max(1, -(-inner // (most - 2)))
    borders = [number * inner // count for number in range(count + 1)]
    pieces = []
    for number, (start, end) in enumerate(pairwise(borders)):
        length = end - start + 2
        pieces.append(Window(start, length, int(number > 0), length - (number < count - 1)))
    return pieces


def cut_row_in_pieces(row: EncodedRow, most: int | None) -> tuple[list[Window], np.ndarray | None]:
    """The pieces of a sequence or a pair, and the token types of what is left whole.

    Of a pair with more tokens than `most` both sequences are cut, each for itself. A piece is a single
    sequence and has no types.
    """
    ids, types = row
    if most is None or len(ids) <= most:
        return cut_windows(len(ids), None, 0), types
    if types is None:
        return cut_pieces(len(ids), most), None
    second = int(types.sum()) + 1
    # The [SEP] between the two stands in the place of the second's [CLS], and belongs to the first.
    left, right = cut_pieces(len(ids) - second + 1, most), cut_pieces(second, most)
    right[0] = right[0]._replace(start=1)
    return [*left, *(piece._replace(first=piece.first + len(ids) - second) for piece in right)], None


def stitch_windows(windows: Sequence[Window], values: Sequence[np.ndarray], stitch: Stitch) -> np.ndarray:
    """One result for a record out of those of its windows.

    Args:
      windows: of the record, in order.
      values: float32, for each window [k], or [S, E] of all its tokens where the tokens are wanted.
      stitch: see `Stitch`.

    Returns:
      [k], or [tokens, E]. What a single window gives is not changed by a bit.
    """
    if stitch == "tokens":
        owned = [
            vectors[max(window.start, 1) : min(window.stop, window.length - 1)]
            for window, vectors in zip(windows, values, strict=True)
        ]
        return np.concatenate(owned)
    if len(windows) == 1:
        return values[0]
    if stitch == "max":
        return np.max(values, axis=0)
    if stitch == "average":
        return np.mean(values, axis=0, dtype=np.float64).astype(np.float32)
    weights = [window.stop - window.start for window in windows]
    return np.average(values, axis=0, weights=weights).astype(np.float32)
