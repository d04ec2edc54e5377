"""Matplotlib figures as small, repeatable SVG text that takes its colours and font from the page around it.

In: a function that draws on axes or a figure, in the light colours of the palette. Out: an `<svg>`, or a PNG.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from dnabert2_jax.reports.palette import INK, css_references

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS_PER_INCH = 72
_DOTS_PER_INCH = 200
_DRAWING_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dnabert2_jax",
    "axes.edgecolor": INK[0],
    "axes.labelcolor": INK[0],
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "legend.frameon": False,
    "text.color": INK[0],
    "text.parse_math": False,
    "xtick.color": INK[0],
    "ytick.color": INK[0],
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
}


def draw_svg(draw: Callable[["Axes"], None], *, width: float, height: float) -> str:
    """Draws one set of axes.

    The same drawing gives the same text, whatever the machine's Matplotlib settings. Ids are made from what
    they name: where two plots share an id, they share its meaning.

    Args:
      draw: draws on the axes it is given.
      width, height: in points; at full width on a page a point is a little more than a pixel.
    """
    return figure_svg(_drawn(draw, width, height))


def draw_png(draw: Callable[["Axes"], None], *, width: float, height: float) -> bytes:
    """Draws one set of axes as a PNG file on white, at 200 dots an inch.

    Args:
      draw: draws on the axes it is given.
      width, height: in points.
    """
    return figure_png(_drawn(draw, width, height))


def figure_svg(figure: "Figure") -> str:
    """A figure of `new_figure` as an `<svg>` element, as `draw_svg` gives it."""
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The dots are those of images within.
    return _slim(_saved(figure, format="svg", transparent=True, metadata=metadata, dpi=_DOTS_PER_INCH))


def figure_png(figure: "Figure") -> bytes:
    """A figure of `new_figure` as a PNG file on white, at 200 dots an inch."""
    return _saved(figure, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})


@contextmanager
def new_figure(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure, to be drawn on inside of the context.

    Args:
      width, height: in points.
    """
    from matplotlib.figure import Figure

    with _style():
        yield Figure((width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")


def _drawn(draw: Callable[["Axes"], None], width: float, height: float) -> "Figure":
    with new_figure(width, height) as figure:
        draw(figure.add_subplot())
    return figure


def _saved(figure: "Figure", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, **options)
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", _DRAWING_STYLE]), warnings.catch_warnings():
        # The reader's browser sets the text and has the letters that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _slim(svg: bytes) -> str:
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(name): value for name, value in element.attrib.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None
    # The style sheet that Matplotlib adds would reach the whole page; the root's attributes say the same.
    _drop(root, "style")
    _drop(root, "metadata")
    written = " ".join(value for element in root.iter() for value in element.attrib.values())
    named = set(re.findall(r"#([\w-]+)", written))
    references = css_references()
    for element in root.iter():
        if element.get("id") not in named:
            element.attrib.pop("id", None)
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                # A hundredth of a point cannot be seen.
                short = re.sub(r"-?\d+\.\d+", _shorten, element.attrib[name])
                element.set(name, " ".join(short.split()))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if "style" in element.attrib:
            element.set("style", _rewrite_style(element.attrib["style"], references))
    for element in root.iter():
        _share_style(element)
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.attrib["viewBox"],
        "font-family": "sans-serif",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _drop(root: ElementTree.Element, tag: str) -> None:
    for parent in list(root.iter()):
        for child in parent.findall(tag):
            parent.remove(child)


def _shorten(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _rewrite_style(style: str, references: dict[str, str]) -> str:
    declarations = [part.strip() for part in style.split(";")]
    kept = [part for part in declarations if part and not part.startswith("font-family")]
    return re.sub(r"#[0-9a-f]{6}", lambda colour: references.get(colour[0], colour[0]), "; ".join(kept))


def _share_style(group: ElementTree.Element) -> None:
    # Matplotlib repeats the style on each of a thousand markers; they inherit it from their group as well.
    styles = {child.get("style") for child in group}
    if group.tag == "g" and len(styles) == 1 and all(child.tag == "use" for child in group):
        style = styles.pop()
        if style is not None:
            group.set("style", style)
            for child in group:
                del child.attrib["style"]
