"""Sequence logos and heat maps of what a model says of each base: arrays [L, 4] in, Matplotlib figures out.

Columns are A, C, G, T; rows that are NaN stay empty. Long sequences go over several lines.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dnabert2_jax.reports.formats import printable
from dnabert2_jax.reports.palette import INK, SERIES
from dnabert2_jax.reports.svg import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_SHOWN = 300
"""Bases of a picture; of more the middle is drawn."""

_LETTERS = "ACGT"
_FONT = "DejaVu Sans"  # comes with Matplotlib
_COLOURS = dict(zip(_LETTERS, (SERIES[place][0] for place in (2, 0, 4, 1)), strict=True))
_LINE = 50
_TICKS = 10
_WIDTH = 520.0
_LOGO_LINE, _MAP_LINE = 76.0, 62.0
_TITLE = 22.0


def information_heights(probabilities: np.ndarray, background: np.ndarray | None = None) -> np.ndarray:
    """The letters' heights of an information logo, in bits: p · Σ p log2(p / background).

    Args:
      probabilities: [L, 4], rows that add up to 1.
      background: [4] or [L, 4], how probable each base is anyway; None for 1/4 each, with which a position
        has 2 bits less its entropy (Schneider and Stephens 1990, without their correction for small samples).

    Returns:
      float64 [L, 4]; the letters of a position add up to its information.
    """
    p = np.asarray(probabilities, np.float64)
    q = np.full(4, 0.25) if background is None else np.asarray(background, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0, p * np.log2(p / q))
    return p * terms.sum(axis=1, keepdims=True)


def effect_heights(effects: np.ndarray, sequence: str) -> np.ndarray:
    """The letters' heights of a mutagenesis logo: of the base that is there, minus the others' mean effect.

    A letter above the line holds a prediction up: whatever else stands there makes it smaller.

    Args:
      effects: [L, 4], mutant minus reference; 0 at the base that is there.
      sequence: L letters.

    Returns:
      float64 [L, 4], 0 at the other bases; NaN where the effects are.
    """
    values = np.asarray(effects, np.float64)
    is_there = np.array(list(sequence.upper()))[:, None] == np.array(list(_LETTERS))
    return np.where(np.isnan(values), np.nan, np.where(is_there, -values.sum(axis=1, keepdims=True) / 3, 0))


def draw_logo(heights: Any, *, title: str = "", ylabel: str = "", first: int = 1) -> "Figure":
    """Draws a logo: at each position letters of these heights, the larger further from the line.

    Args:
      heights: [L, 4], L at least 1; letters of negative ones hang under the line, upside down.
      title: written above.
      ylabel: what the heights measure, with the unit.
      first: the number of the first position; negative where positions are counted from a centre.
    """
    import pandas
    from logomaker import Logo

    known = np.nan_to_num(np.asarray(heights, np.float64))
    known, first = known[_middle(len(known))], first + _middle(len(known)).start
    top, bottom = np.maximum(known, 0).sum(axis=1).max(), np.minimum(known, 0).sum(axis=1).min()
    top = top if top > bottom else bottom + 1
    with new_figure(_WIDTH, _height(len(known), _LOGO_LINE)) as figure:
        for axes, start in _lines(figure, len(known), first, title):
            part = pandas.DataFrame(known[start : start + _LINE], columns=list(_LETTERS))
            part.index += first + start
            if part.to_numpy().any():
                Logo(part, ax=axes, color_scheme=_COLOURS, font_name=_FONT, show_spines=False)
            _number(axes, first + start, len(part))
            axes.set_ylim(1.05 * bottom, 1.05 * top)
            axes.locator_params(axis="y", nbins=3)
        figure.supylabel(ylabel, fontsize=9)
    return figure


def draw_heat_map(
    values: Any,
    *,
    sequence: str | None = None,
    title: str = "",
    label: str = "",
    first: int = 1,
    centred: bool = True,
) -> "Figure":
    """Draws a number for each position and base as a colour.

    Args:
      values: [L, 4], L at least 1.
      sequence: L letters, of which the base that is there is marked with a dot; None for no dots.
      title: written above.
      label: what the colours measure, with the unit.
      first: as in `draw_logo`.
      centred: whether colours tell negative from positive, white being 0; otherwise white is 0 and darker is
        more.

    Raises:
      ValueError: `sequence` has another length.
    """
    numbers = np.asarray(values, np.float64)
    if sequence is not None and len(sequence) != len(numbers):
        raise ValueError(f"{len(numbers)} rows need as many letters, not {len(sequence)}")
    middle = _middle(len(numbers))
    letters = (sequence or "").upper()[middle]
    shown, first = numbers[middle], first + middle.start
    most = float(np.nanmax(np.abs(shown), initial=0)) or 1.0
    with new_figure(_WIDTH, _height(len(shown), _MAP_LINE)) as figure:
        image: Any = None
        for axes, start in _lines(figure, len(shown), first, title):
            left = first + start - 0.5
            part = shown[start : start + _LINE]
            image = axes.imshow(
                part.T,
                cmap="RdBu_r" if centred else "Blues",
                vmin=-most if centred else 0,
                vmax=most,
                aspect="auto",
                interpolation="nearest",
                extent=(left, left + len(part), 3.5, -0.5),
            )
            for place, letter in enumerate(letters[start : start + _LINE], start=first + start):
                if letter in _LETTERS:
                    axes.plot(place, _LETTERS.index(letter), ".", color=INK[0], markersize=2.5)
            _number(axes, first + start, len(part))
            axes.set_yticks(range(4), list(_LETTERS))
            axes.set_ylim(3.5, -0.5)
            axes.tick_params(axis="y", length=0, labelsize=8)
        figure.colorbar(image, ax=figure.axes, aspect=30, fraction=0.05, pad=0.01, label=label)
    return figure


def _middle(length: int) -> slice:
    start = max(0, (length - LONGEST_SHOWN) // 2)
    return slice(start, start + min(length, LONGEST_SHOWN))


def _height(length: int, line: float) -> float:
    return _TITLE + line * -(-length // _LINE)


def _lines(figure: "Figure", length: int, first: int, title: str) -> Iterator[tuple["Axes", int]]:
    """Axes one below another, and where in the positions each begins."""
    starts = range(0, length, _LINE)
    yield from zip(figure.subplots(len(starts), squeeze=False)[:, 0], starts, strict=True)
    shown = f"{title} (positions {first} to {first + length - 1})" if length == LONGEST_SHOWN else title
    figure.suptitle(printable(shown), fontsize=10)


def _number(axes: "Axes", start: int, length: int) -> None:
    """All lines have the same number of places, so that letters are as wide in the last one."""
    axes.set_xlim(start - 0.5, start + _LINE - 0.5)
    axes.set_xticks(range(start + -start % _TICKS, start + length, _TICKS))
    axes.tick_params(axis="x", labelsize=8)
