"""Results as files, read back by other means than they were written by."""

import csv

import numpy as np
import pytest
from pyarrow import parquet

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.output import check_output, write_rows

NAMES = ["first", "second, with a comma", "third"]
VALUES = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], np.float32)


def read_back(path) -> tuple[list[str], list[tuple]]:
    """The columns of a file, and its rows."""
    if path.suffix == ".npz":
        with np.load(path) as content:
            rows = [(name, *row) for name, row in zip(content["name"], content["values"], strict=True)]
            return ["name", *content["columns"]], rows
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return header, [(name, *map(float, numbers)) for name, *numbers in rows]


@pytest.mark.parametrize("ending", ["parquet", "npz", "csv"])
def test_rows_come_back(tmp_path, ending):
    path = tmp_path / f"out.{ending}"
    write_rows(path, NAMES, VALUES, ["none", "donor"])
    expected = [(name, *row) for name, row in zip(NAMES, VALUES.tolist(), strict=True)]
    assert read_back(path) == (["name", "none", "donor"], expected)


@pytest.mark.parametrize(
    ("ending", "columns", "headings"),
    [
        ("parquet", ["name", "other"], ["name", "name_", "other"]),
        ("csv", ["name", "other"], ["name", "name_", "other"]),
        ("csv", ["name_", "name"], ["name", "name_", "name__"]),
        ("npz", ["name", "other"], ["name", "name", "other"]),  # no collision: names are an array apart
    ],
)
def test_a_class_called_name_does_not_replace_the_names(tmp_path, ending, columns, headings):
    path = tmp_path / f"out.{ending}"
    write_rows(path, NAMES, VALUES, columns)
    expected = [(name, *row) for name, row in zip(NAMES, VALUES.tolist(), strict=True)]
    assert read_back(path) == (headings, expected)


def test_outputs_that_cannot_be_written_are_refused_at_once(tmp_path):
    check_output(tmp_path / "deep" / "out.csv")
    with pytest.raises(UserError, match=r"ends in \.parquet, \.npz, \.csv"):
        check_output(tmp_path / "out.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: is a folder"):
        check_output(tmp_path / "folder.csv")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"out\.csv: cannot be written"):
        check_output(tmp_path / "file" / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
