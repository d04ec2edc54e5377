"""Labelled sequences for fine-tuning: a folder with train, dev and test as CSV in, text and class ids out.

The layout is GUE's: `sequence,label`, or `sequence1,sequence2,label` for pairs.
"""

import csv
import gzip
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert2_jax.data.tables import Row, check_sequence, read_table
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file

LABELLED_SPLITS = ("train", "dev", "test")
_SINGLE = ("sequence", "label")
_PAIR = ("sequence1", "sequence2", "label")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSplit:
    """n examples.

    Attributes:
      sequences: n sequences, as written.
      seconds: the second sequence of each, for pairs; else None.
      labels: [n] int32, places in the class names.
    """

    sequences: list[str]
    seconds: list[str] | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """A data set with its three splits and the names of its classes, "0", "1", … where labels are numbers."""

    train: LabelledSplit
    dev: LabelledSplit
    test: LabelledSplit
    class_names: tuple[str, ...]

    @property
    def is_pairs(self) -> bool:
        """Whether an example is two sequences."""
        return self.train.seconds is not None


def load_labelled(folder: str | os.PathLike) -> LabelledData:
    """Loads train, dev and test, each `.csv` or `.csv.gz`.

    Labels that are all whole numbers are class ids and must be 0 … n-1; other labels are class names, sorted.
    The classes are those of the training split.

    Args:
      folder: holds the three files. Columns other than those named above are left aside.

    Raises:
      UserError: a file is missing, empty or damaged, lacks columns, mixes pairs with single sequences, has a
        field that is no sequence or no label, or a label that the training split has not.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that holds train.csv, dev.csv and test.csv")
    files = {split: _find(folder, split) for split in LABELLED_SPLITS}
    rows = {split: list(read_table(files[split], required=(_SINGLE, _PAIR))) for split in LABELLED_SPLITS}
    pairs = _is_pairs(rows["train"])
    for split in LABELLED_SPLITS:
        if _is_pairs(rows[split]) != pairs:
            raise UserError(
                f"{files[split]}: {files['train'].name} has {_kind(pairs)} and this file {_kind(not pairs)};"
                " give all splits the same columns"
            )
    class_names = _class_names(files["train"], rows["train"])
    splits = {
        split: _split(files[split], rows[split], pairs, class_names, files["train"].name)
        for split in LABELLED_SPLITS
    }
    return LabelledData(**splits, class_names=class_names)


def write_labelled(
    folder: str | os.PathLike, splits: Mapping[str, Iterable[tuple[object, ...]]], *, compress: bool = False
) -> None:
    """Writes one CSV file for each split, atomically; the same rows give the same bytes.

    Args:
      folder: is made if need be.
      splits: for "train", "dev", "test" the rows: (sequence, label) or (sequence1, sequence2, label).
      compress: writes `.csv.gz`.

    Raises:
      UserError: a file cannot be written.
    """
    for split, rows in splits.items():
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        rows = list(rows)
        writer.writerow(_PAIR if rows and len(rows[0]) == len(_PAIR) else _SINGLE)
        writer.writerows(rows)
        data = text.getvalue().encode()
        with atomic_file(Path(folder) / f"{split}.csv{'.gz' if compress else ''}") as file:
            file.write(gzip.compress(data, mtime=0) if compress else data)


def _find(folder: Path, split: str) -> Path:
    found = [path for path in (folder / f"{split}.csv", folder / f"{split}.csv.gz") if path.exists()]
    if not found:
        raise UserError(f"{folder}: has no {split}.csv or {split}.csv.gz; add the {split} split")
    if len(found) > 1:
        raise UserError(f"{folder}: has both {found[0].name} and {found[1].name}; keep one of them")
    return found[0]


def _is_pairs(rows: list[Row]) -> bool:
    return set(_PAIR) <= set(rows[0].fields)


def _kind(pairs: bool) -> str:
    return "pairs" if pairs else "single sequences"


def _class_names(path: Path, rows: list[Row]) -> tuple[str, ...]:
    labels = {row.fields["label"] for row in rows} - {""}
    if len(labels) == 1:
        raise UserError(f"{path}: all rows have the label {labels.pop()!r}; a classifier needs two classes")
    if not all(label.isascii() and label.isdigit() and str(int(label)) == label for label in labels):
        return tuple(sorted(labels))
    missing = next((str(i) for i in range(len(labels)) if str(i) not in labels), None)
    if missing is not None:
        raise UserError(
            f"{path}: labels are numbers up to {max(map(int, labels))} but none is {missing};"
            " number the classes from 0 without gaps, or name them"
        )
    return tuple(str(i) for i in range(len(labels)))


def _split(
    path: Path, rows: list[Row], pairs: bool, class_names: tuple[str, ...], train_file: str
) -> LabelledSplit:
    ids = {name: i for i, name in enumerate(class_names)}
    for row in rows:
        label = row.fields["label"]
        if not label:
            raise UserError(f"{path}: line {row.line}: has no label; give it one or remove the line")
        if label not in ids:
            raise UserError(
                f"{path}: line {row.line}: the label {label!r} is not among those of {train_file}"
                f" ({', '.join(class_names[:8])}{', …' if len(class_names) > 8 else ''}); correct it, or add"
                " training examples of it"
            )
        for column in (_PAIR if pairs else _SINGLE)[:-1]:
            check_sequence(path, row, column)
    first, second = ("sequence1", "sequence2") if pairs else ("sequence", None)
    return LabelledSplit(
        sequences=[row.fields[first] for row in rows],
        seconds=[row.fields[second] for row in rows] if second else None,
        labels=np.array([ids[row.fields["label"]] for row in rows], np.int32),
    )
