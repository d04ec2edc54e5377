"""What a model is shown of a sequence that is explained: a sequence with its flanks in; views of it out.

A view is a window of the text, and says which of the explained bases are read off it. Views of a long text
overlap by half, so that each base has a quarter of a window on both sides. All of them mirrored are the views
of the reverse complement.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.sequence import ACGT, reverse_complement
from dnabert2_jax.tokenizer.spans import letters_of

DEFAULT_WINDOW = 512
"""Bases that a masked-language model is shown at once."""

PHASES = 3
"""How many phases are averaged unless something else is asked for."""

_SMALLEST_WINDOW = 16


def check_window(window: int) -> None:
    """Raises UserError where a window of so many bases is too small to be of use."""
    if window < _SMALLEST_WINDOW:
        raise UserError(f"window (--window) is {window}; it must be at least {_SMALLEST_WINDOW} bases")


class Subject(NamedTuple):
    """A sequence that is explained, and what lies beside it in a genome: upper case, without white space."""

    left: str
    bases: str
    right: str

    @property
    def text(self) -> str:
        """All of it."""
        return self.left + self.bases + self.right


class View(NamedTuple):
    """A window as the model is shown it.

    Attributes:
      text: its letters.
      sites: int64 [n], places in `text` that are read off this view; each is A, C, G or T.
      targets: int64 [n], the same counted from the first explained base.
    """

    text: str
    sites: np.ndarray
    targets: np.ndarray

    def mutants(self) -> Iterator[tuple[int, int, str]]:
        """All 3n changes of one base: its number in `sites`, that of the new base in A C G T, the letters."""
        for number, site in enumerate(self.sites.tolist()):
            for base, letter in enumerate("ACGT"):
                if letter != self.text[site]:
                    yield number, base, self.text[:site] + letter + self.text[site + 1 :]


def subject(sequence: str, left: str = "", right: str = "") -> Subject:
    """A sequence and its flanks as they are explained.

    Raises:
      UserError: the sequence has no letters.
    """
    if not letters_of(sequence):
        raise UserError("the sequence is empty; give one with at least one base")
    return Subject(*(letters_of(part).upper() for part in (left, sequence, right)))


def opposite(view: View) -> View:
    """The same window on the other strand; sites in the same order."""
    return View(reverse_complement(view.text), len(view.text) - 1 - view.sites, view.targets)


def cut_views(shown: Subject, window: int | None, phases: int) -> list[View]:
    """The views that explain a sequence.

    Args:
      shown: the sequence and its flanks.
      window: most bases of a view; None for one view of everything.
      phases: of each window there are so many views: phase p, from 0 on, lacks p bases at each end. Side by
        side k-mers are all cut anew by it; tokens of BPE near the ends, and further inside hardly ever. A
        base that phase p lacks is read off the others.

    Raises:
      UserError: a number makes no sense.
    """
    if window is not None:
        check_window(window)
    if phases < 1:
        raise UserError(f"phases (--phases) is {phases}; it must be at least 1")
    text = shown.text
    is_base = ACGT[np.frombuffer(text.encode("ascii", "replace"), np.uint8)]
    targets = np.arange(len(text)) - len(shown.left)
    is_wanted = is_base & (targets >= 0) & (targets < len(shown.bases))
    windows = _windows(len(text), window)
    # Twice the middle of each, which is a whole number, and that of a base at p is 2p + 1. A base is read off
    # the window whose middle is nearest, and one that lies between two off both.
    middles = [start + end for start, end in windows]
    borders = [before + after - 2 for before, after in pairwise(middles)]
    lowest = [0, *(-(-border // 4) for border in borders)]
    highest = [*(border // 4 for border in borders), len(text) - 1]
    views = []
    for (start, end), low, high in zip(windows, lowest, highest, strict=True):
        for phase in range(phases):
            first, last = start + phase, end - phase
            owned = max(first, low), max(first, low, min(last, high + 1))
            sites = owned[0] + np.flatnonzero(is_wanted[slice(*owned)])
            if len(sites):
                views.append(View(text[first:last], sites - first, targets[sites]))
    return views


def _windows(length: int, window: int | None) -> list[tuple[int, int]]:
    """Windows over a text: start and end of each."""
    if window is None or length <= window:
        return [(0, length)]
    # One base is left for rounding, which must be the same from both ends.
    width = window - 1
    spare = length - width
    steps = math.ceil(spare / (width // 2))
    return [(n * spare // steps, -(-n * spare // steps) + width) for n in range(steps + 1)]


class PositionMeans:
    """The mean of what several views say of each explained base, four numbers each."""

    def __init__(self, length: int):
        self._sums = np.zeros((length, 4))
        self._counts = np.zeros((length, 1))

    def add(self, targets: np.ndarray, values: np.ndarray) -> None:
        """What one view says, [n, 4]."""
        self._sums[targets] += values
        self._counts[targets] += 1

    def result(self) -> np.ndarray:
        """float32 [length, 4]; NaN where no view said anything."""
        with np.errstate(invalid="ignore"):
            return (self._sums / self._counts).astype(np.float32)
