"""Attention maps as pictures: weights of layers and heads in, Matplotlib figures out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnabert2_jax.reports.formats import printable
from dnabert2_jax.reports.svg import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of more tokens neighbours share a point of the picture, which is their mean.
_POINTS = 96
_PANEL = 76.0
_ROW = 9.0
_WIDTH = 520.0


def draw_heads(weights: Any, layers: Sequence[int], *, title: str = "") -> "Figure":
    """Draws what each token attends to: a square for each head, a row of squares for each layer.

    In a square, from top to bottom the tokens that attend, from left to right those attended to. Darker is
    more; colours go with the square root, as most weights are small.

    Args:
      weights: [layers, H, S, S].
      layers: their numbers.
      title: written above.
    """
    from matplotlib.colors import PowerNorm

    small = _shrunk(_shrunk(np.asarray(weights, np.float64), 2, mean=True), 3, mean=False)
    count, heads = small.shape[:2]
    with new_figure(_PANEL * heads + 40, _PANEL * count + 40) as figure:
        panels = figure.subplots(count, heads, squeeze=False)
        norm = PowerNorm(0.5, 0, float(small.max()) or 1.0)
        for row, layer in enumerate(layers):
            for head in range(heads):
                axes = panels[row, head]
                axes.imshow(small[row, head], cmap="Blues", norm=norm, interpolation="nearest", aspect="auto")
                axes.set(xticks=[], yticks=[])
                if not row:
                    axes.set_title(f"head {head}", fontsize=8)
            panels[row, 0].set_ylabel(f"layer {layer}", fontsize=8)
        figure.suptitle(printable(title), fontsize=10)
    return figure


def draw_distances(weights: Any, layers: Sequence[int], *, first: int, title: str = "") -> "Figure":
    """Draws how much a centre attends to bases around it: a line for each head, by distance.

    Args:
      weights: [layers, H, L].
      layers: their numbers.
      first: the distance of the first base from the centre, negative before it.
      title: written above.
    """
    from matplotlib.colors import PowerNorm

    values = np.asarray(weights, np.float64)
    count, heads, length = values.shape
    with new_figure(_WIDTH, 90 + _ROW * count * heads) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(
            values.reshape(-1, length),
            cmap="Blues",
            norm=PowerNorm(0.5, 0, float(values.max()) or 1.0),
            interpolation="nearest",
            aspect="auto",
            extent=(first - 0.5, first + length - 0.5, count * heads - 0.5, -0.5),
        )
        axes.set_yticks(np.arange(count) * heads, [f"layer {layer}, head 0" for layer in layers], fontsize=8)
        axes.set_xlabel("bases from the centre")
        figure.colorbar(image, ax=axes, label="attention", fraction=0.05, pad=0.01)
        figure.suptitle(printable(title), fontsize=10)
    return figure


def _shrunk(values: np.ndarray, axis: int, *, mean: bool) -> np.ndarray:
    """At most _POINTS along an axis: sums of what is attended to, means of what attends."""
    length = values.shape[axis]
    if length <= _POINTS:
        return values
    borders = np.arange(_POINTS) * length // _POINTS
    sums = np.add.reduceat(values, borders, axis=axis)
    if not mean:
        return sums
    shape = [1] * values.ndim
    shape[axis] = _POINTS
    return sums / np.diff(borders, append=length).reshape(shape)
