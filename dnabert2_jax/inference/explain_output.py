"""A folder of explanations: one after another comes in; files, means of them all, and a page go out."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnabert2_jax.inference.explain_inputs import Explained
from dnabert2_jax.reports.attention import draw_distances, draw_heads
from dnabert2_jax.reports.explanations import Section, write_explanations
from dnabert2_jax.reports.logos import draw_heat_map, draw_logo, information_heights
from dnabert2_jax.reports.svg import figure_png, figure_svg
from dnabert2_jax.tokenizer.vocabulary import LETTERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AVERAGE = "average"
_RESERVED: tuple[str, ...] = (_AVERAGE, "table", "report")
_LONGEST_NAME = 80
_TITLES = {
    "mutagenesis": "In-silico mutagenesis",
    "bases": "Probabilities of bases",
    "attention": "Attention maps",
}
_MEANING = {
    "mutagenesis": (
        "Every base is changed to each of the other three, and the model is asked again. In a logo the base"
        " that is there is as high as the others lower the prediction, on average: a letter that hangs under"
        " the line is one that the model would rather see changed. In a map the colour is the change itself,"
        " and a dot marks the base that is there.",
        "This is what the model does, and not what a cell does. Changes are made one at a time, so that of"
        " two bases that can stand in for each other neither may show.",
    ),
    "bases": (
        "Each base is hidden, and the model tells from all others how probable each of the four is. A letter"
        " is as high as its share of the information at its place, in bits; where the model knows no more"
        " than the background the place is empty. A dot in a map marks the base that is there.",
        "High letters show what a model finds predictable, which repeats and simple stretches are as much as"
        " binding sites.",
    ),
    "attention": (
        "A square is a head: from top to bottom the tokens that attend, [CLS] first, from left to right those"
        " attended to. The weights are those that the model computes with. ALiBi lets heads see near tokens"
        " or far ones whatever the sequence is, and weight on a token does not mean that a prediction depends"
        " on it; mutagenesis tells that.",
    ),
}


@dataclass(frozen=True, eq=False)
class Explanation:
    """What came out for a sequence.

    Attributes:
      explained: the sequence.
      quantity: what `values` are, with the unit.
      arrays: by name; `values` is [L, 4], or of attention [layers, H, S, S].
      heights: float64 [L, 4] of letters in a logo; None for attention.
      class_name: the label that is explained, where there are any.
      facts: names and values for the page.
      is_far_apart: whether the strands disagree.
    """

    explained: Explained
    quantity: str
    arrays: Mapping[str, np.ndarray]
    heights: np.ndarray | None
    class_name: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_far_apart: bool = False


class Folder:
    """The folder while it is made.

    For each sequence there is `NAME.npz`: `values`, `bases` (the order of columns), `sequence`, `name`,
    `what`, `quantity`, `offset`, of a logo `heights`, and where they are known `class_name`, `log_odds`,
    `reference`, `background`, and `contig`, `start`, `end` and `strand`. `table.tsv` has all values in rows.
    Of the first sequences there are `NAME.logo` and `NAME.map`, or of attention `NAME.heads`, as .png and
    .svg; of all sequences of one length `average` in the same way; and `report.html` shows the pictures.

    Args:
      path: an empty folder.
      what: is explained.
      facts: names and values for the page.
      pictures: of how many sequences there are pictures.

    Attributes:
      sequences, bases: how many were added.
      pictured: how many of them have pictures.
      has_average: after `finish`, whether there is a mean.
    """

    def __init__(self, path: Path, what: str, facts: Mapping[str, Any], pictures: int):
        self.sequences = self.bases = self.pictured = 0
        self.has_average = False
        self._path = path
        self._what = what
        self._facts = facts
        self._pictures = pictures
        self._names: dict[str, int] = dict.fromkeys(_RESERVED, 1)
        self._sections: list[Section] = []
        self._mean = _Mean()
        self._last: Explanation | None = None

    def add(self, explanation: Explanation) -> None:
        """Writes what there is of one sequence."""
        name = safe_name(explanation.explained.name, self._names)
        self._write_arrays(name, explanation)
        if self._what != "attention":
            self._write_rows(explanation)
        self._mean.add(explanation)
        if self.pictured < self._pictures:
            self.pictured += 1
            self._draw(name, explanation)
        self.sequences += 1
        self.bases += len(explanation.explained.shown.bases)
        self._last = explanation

    def finish(self, remarks: Sequence[str]) -> None:
        """Writes the means, where all sequences have one length, and the page."""
        means = self._mean.result()
        if means is not None and self._last is not None:
            self.has_average = True
            if self._what == "bases":
                means["heights"] = information_heights(means["values"], means.get("background"))
            self._write_average(means, self._last)
        facts = {"sequences": self.sequences, "bases": self.bases} | dict(self._facts)
        if self.pictured < self.sequences:
            facts["pictures"] = f"of the first {self.pictured:,} sequences; arrays are there for all"
        if self.sequences > 1 and not self.has_average:
            facts["average"] = "none, as the sequences differ in length; --center makes them equal"
        title = _TITLES[self._what]
        write_explanations(
            self._path / "report.html", title, facts, remarks, _MEANING[self._what], self._sections
        )

    def _write_arrays(self, name: str, explanation: Explanation) -> None:
        explained = explanation.explained
        arrays: dict[str, Any] = dict(explanation.arrays) | {
            "bases": np.array(list(LETTERS)),
            "sequence": np.array(explained.shown.bases),
            "name": np.array(explained.name),
            "what": np.array(self._what),
            "quantity": np.array(explanation.quantity),
            "offset": np.array(explained.offset),
        }
        if explanation.heights is not None:
            arrays["heights"] = explanation.heights.astype(np.float32)
        if explanation.class_name is not None:
            arrays["class_name"] = np.array(explanation.class_name)
        if explained.place is not None:
            arrays |= {key: np.array(value) for key, value in explained.place._asdict().items()}
        np.savez_compressed(self._path / f"{name}.npz", allow_pickle=False, **arrays)

    def _write_rows(self, explanation: Explanation) -> None:
        explained, place = explanation.explained, explanation.explained.place
        with open(self._path / "table.tsv", "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            if not self.sequences:
                in_genome = () if place is None else ("contig", "genome_position", "strand")
                writer.writerow(("name", "position", "ref", *LETTERS, *in_genome))
            for number, (letter, values) in enumerate(
                zip(explained.shown.bases, explanation.arrays["values"].tolist(), strict=True)
            ):
                row = [explained.name, explained.offset + number + 1, letter]
                row += ["" if value != value else f"{value:.6g}" for value in values]
                if place is not None:
                    position = place.end - number if place.strand == "-" else place.start + number + 1
                    row += [place.contig, position, place.strand]
                writer.writerow(row)

    def _draw(self, name: str, explanation: Explanation) -> None:
        explained, values = explanation.explained, explanation.arrays["values"]
        place = explained.place
        facts = dict(explanation.facts)
        if place is not None:
            facts["place"] = f"{place.contig}:{place.start + 1:,}-{place.end:,}, strand {place.strand}"
        if explanation.heights is None:
            layers = explanation.arrays["layers"].tolist()
            drawn = {"heads": (draw_heads(values, layers, title=explained.name), "attention of each head")}
        else:
            first = explained.offset + 1
            drawn = self._bases_drawn(
                explanation, explanation.heights, values, explained.name, first, explained.shown.bases
            )
        self._keep(name, explained.name, facts, drawn)

    def _write_average(self, means: Mapping[str, np.ndarray], last: Explanation) -> None:
        length = len(last.explained.shown.bases)
        arrays: dict[str, Any] = dict(means) | {
            "bases": np.array(list(LETTERS)),
            "what": np.array(self._what),
            "quantity": np.array(last.quantity),
            "sequences": np.array(self.sequences),
        }
        title = f"Mean of {self.sequences:,} sequences, positions from their middle"
        first = -(length // 2)
        if last.heights is None:
            layers = last.arrays["layers"]
            arrays["layers"] = layers
            figure = draw_distances(means["from_centre"], layers.tolist(), first=first, title=title)
            drawn = {"map": (figure, "attention of the middle base's token to the bases around it")}
        else:
            drawn = self._bases_drawn(last, means["heights"], means["values"], title, first, None)
        np.savez_compressed(self._path / f"{_AVERAGE}.npz", allow_pickle=False, **arrays)
        self._keep(_AVERAGE, title, {}, drawn)
        self._sections.insert(0, self._sections.pop())

    def _bases_drawn(
        self,
        explanation: Explanation,
        heights: np.ndarray,
        values: np.ndarray,
        title: str,
        first: int,
        sequence: str | None,
    ) -> dict[str, tuple["Figure", str]]:
        is_bases = self._what == "bases"
        logo = draw_logo(heights, title=title, ylabel="bits" if is_bases else "−change", first=first)
        heat_map = draw_heat_map(
            values,
            sequence=sequence,
            title=title,
            label="probability" if is_bases else "change",
            first=first,
            centred=not is_bases,
        )
        measured = "information in bits" if is_bases else f"mean {explanation.quantity}, turned round"
        return {"logo": (logo, measured), "map": (heat_map, explanation.quantity)}

    def _keep(
        self,
        name: str,
        heading: str,
        facts: Mapping[str, Any],
        drawn: Mapping[str, tuple["Figure", str]],
    ) -> None:
        pictures = []
        for kind, (figure, caption) in drawn.items():
            svg = figure_svg(figure)
            (self._path / f"{name}.{kind}.svg").write_text(svg, encoding="utf-8")
            (self._path / f"{name}.{kind}.png").write_bytes(figure_png(figure))
            pictures.append((svg, f"{heading}, {caption}"))
        self._sections.append(Section(heading, facts, pictures))


class _Mean:
    """Means over sequences, place by place; none where their lengths differ."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._sequences = 0
        self._differ = False

    def add(self, explanation: Explanation) -> None:
        names = ("values", "background") if explanation.heights is not None else ("from_centre",)
        arrays = {name: explanation.arrays.get(name) for name in names} | {"heights": explanation.heights}
        self._sequences += 1
        for name, array in arrays.items():
            if array is None or self._differ:
                continue
            known = ~np.isnan(array)
            if name not in self._sums:
                self._sums[name], self._counts[name] = np.zeros(array.shape), np.zeros(array.shape)
            if array.shape != self._sums[name].shape:
                self._differ = True
                return
            self._sums[name] += np.where(known, array, 0)
            self._counts[name] += known

    def result(self) -> dict[str, np.ndarray] | None:
        """float32; NaN where no sequence has a number."""
        if self._differ or self._sequences < 2:
            return None
        with np.errstate(invalid="ignore"):
            return {
                name: (total / self._counts[name]).astype(np.float32) for name, total in self._sums.items()
            }


def safe_name(name: str, taken: dict[str, int]) -> str:
    """A name for files on any system: letters, digits, and . _ -; unlike all that are taken, in any case.

    Args:
      name: what a sequence is called.
      taken: names in lower case, each with the last number that was put behind it; the new one is added.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:_LONGEST_NAME] or "sequence"
    found, number = plain, taken.get(plain.lower(), 1)
    while found.lower() in taken:
        number += 1
        found = f"{plain}-{number}"
    taken[plain.lower()] = number
    taken.setdefault(found.lower(), 1)
    return found
