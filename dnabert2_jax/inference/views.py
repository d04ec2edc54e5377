"""What a model is shown of a sequence that is explained: a sequence with its flanks in; views of it out.

A view is a window of the text, and says which of the explained bases are read off it. Views of a long text
overlap by half, so that each base has a quarter of a window on both sides. All of them mirrored are the views
of the reverse complement.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.sequence import ACGT, reverse_complement
from dnabert2_jax.tokenizer.spans import letters_of

SMALLEST_WINDOW = 16
"""Bases."""


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
      phases: of each window there are so many views: phase p, from 0 on, lacks p bases at each end, so that
        the text is cut into other tokens. A base that phase p lacks is read off the others.

    Raises:
      UserError: a number makes no sense.
    """
    if window is not None and window < SMALLEST_WINDOW:
        raise UserError(f"window (--window) is {window}; it must be at least {SMALLEST_WINDOW} bases")
    if phases < 1:
        raise UserError(f"phases (--phases) is {phases}; it must be at least 1")
    text = shown.text
    is_base = ACGT[np.frombuffer(text.encode("ascii", "replace"), np.uint8)]
    targets = np.arange(len(text)) - len(shown.left)
    is_wanted = is_base & (targets >= 0) & (targets < len(shown.bases))
    places = np.arange(len(text))
    windows = _windows(len(text), window)
    # Twice the distance from the middle of a base to that of a window, which is a whole number.
    distances = np.array([np.abs(2 * places + 1 - start - end) for start, end in windows])
    is_nearest = distances == distances.min(axis=0)
    views = []
    for (start, end), owned in zip(windows, is_nearest, strict=True):
        for phase in range(phases):
            first, last = start + phase, end - phase
            inside = is_wanted & owned & (places >= first) & (places < last)
            if inside.any():
                sites = np.flatnonzero(inside)
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
