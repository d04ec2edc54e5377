"""The label column: text in, class ids, sets of classes or numbers out, as the problem asks.

`sequence,label` of one class each, of several separated by ";", or of a real number.
"""

import os
import re
from collections.abc import Sequence

import numpy as np

from dnabert2_jax.data.tables import Row
from dnabert2_jax.errors import UserError
from dnabert2_jax.problem import Problem

SEPARATOR = ";"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_MOST_SHOWN = 8


def find_class_names(path: str | os.PathLike, rows: Sequence[Row], problem: Problem) -> tuple[str, ...]:
    """The classes that the training rows name; none in regression.

    Names that are all whole numbers are class ids and must be 0 … n-1; others are sorted.

    Args:
      path: the file, for messages.
      rows: of the training split.
      problem: what a label is.

    Raises:
      UserError: there are too few classes, a number is missing among the ids, or a label is a number that is
        not whole.
    """
    if problem == "regression":
        return ()
    names: set[str] = set()
    for row in rows:
        for name in _named_classes(path, row, problem):
            if _NUMBER.fullmatch(name) and not _INTEGER.fullmatch(name):
                raise UserError(
                    f"{path}: line {row.line}: the label {name!r} is a number that is not whole; number the"
                    " classes 0, 1, …, or name them, or set training.problem to regression"
                )
            names.add(name)
    if problem == "single_label_classification" and len(names) == 1:
        raise UserError(f"{path}: all rows have the label {names.pop()!r}; a classifier needs two classes")
    if not names:
        raise UserError(f"{path}: no row names a class; give at least one row a label")
    if not all(name.isascii() and name.isdigit() and str(int(name)) == name for name in names):
        return tuple(sorted(names))
    missing = next((str(i) for i in range(len(names)) if str(i) not in names), None)
    if missing is not None:
        raise UserError(
            f"{path}: labels are numbers up to {max(map(int, names))} but none is {missing};"
            " number the classes from 0 without gaps, or name them"
        )
    return tuple(str(i) for i in range(len(names)))


def read_labels(
    path: str | os.PathLike,
    rows: Sequence[Row],
    problem: Problem,
    class_names: tuple[str, ...],
    train_file: str,
) -> np.ndarray:
    """The labels of n rows as an array.

    Args:
      path: the file, for messages.
      rows: n rows.
      problem: what a label is.
      class_names: C names.
      train_file: the name of the file that these come from.

    Returns:
      int32 [n], places in the class names; float32 [n, C] of zeros and ones for several labels; float32 [n]
      in regression.

    Raises:
      UserError: a row has no label, one that is not among the classes, or no number in regression.
    """
    if problem == "regression":
        return np.array([_read_number(path, row) for row in rows], np.float32)
    places = {name: place for place, name in enumerate(class_names)}
    labels = np.zeros((len(rows), len(class_names)), np.float32)
    for index, row in enumerate(rows):
        for name in _named_classes(path, row, problem):
            if name not in places:
                more = ", …" if len(class_names) > _MOST_SHOWN else ""
                raise UserError(
                    f"{path}: line {row.line}: the label {name!r} is not among those of {train_file}"
                    f" ({', '.join(class_names[:_MOST_SHOWN])}{more}); correct it, or add training examples"
                    " of it"
                )
            labels[index, places[name]] = 1
    return labels if problem == "multi_label_classification" else labels.argmax(axis=1).astype(np.int32)


def _named_classes(path: str | os.PathLike, row: Row, problem: Problem) -> list[str]:
    label = row.fields["label"]
    if problem == "single_label_classification":
        return [_given(path, row)]
    names = [name.strip() for name in label.split(SEPARATOR)] if label else []
    if "" in names or len(set(names)) < len(names):
        raise UserError(
            f"{path}: line {row.line}: the label {label!r} names a class twice or leaves one out;"
            f" separate different names by {SEPARATOR!r}"
        )
    return names


def _read_number(path: str | os.PathLike, row: Row) -> np.float32:
    label = _given(path, row)
    number = float(label) if _NUMBER.fullmatch(label) else np.nan
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise UserError(
            f"{path}: line {row.line}: the label {label!r} is no number that regression can learn;"
            " correct it, or set training.problem to single_label_classification"
        )
    return np.float32(number)


def _given(path: str | os.PathLike, row: Row) -> str:
    if not row.fields["label"]:
        raise UserError(f"{path}: line {row.line}: has no label; give it one or remove the line")
    return row.fields["label"]
