"""Results by sequence as a file: Parquet, npz or CSV, by the name's ending."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, check_writable

_ENDINGS = (".parquet", ".npz", ".csv")


def check_output(path: str | Path) -> None:
    """Finds out, before anything is computed, whether `write_rows` can write at `path`.

    Raises:
      UserError: `path` has none of the endings that `write_rows` knows, is a folder, or cannot be written.
    """
    if Path(path).suffix not in _ENDINGS:
        raise UserError(f"{path}: name an output that ends in {', '.join(_ENDINGS)}")
    check_writable(path)


def write_rows(path: str | Path, names: Sequence[str], values: np.ndarray, columns: Sequence[str]) -> None:
    """Writes one row per sequence, whole or not at all.

    Args:
      path: `.npz` holds the arrays `name` [n], `values` [n, k] and `columns` [k]; `.parquet` and `.csv`
        hold a column `name` and one for each of `columns`. There, one of these that is called `name` too
        becomes `name_`, with more underscores where that is taken.
      names: n names.
      values: float32 [n, k].
      columns: k names.

    Raises:
      UserError: see `check_output`; the disk is full.
    """
    check_output(path)
    suffix = Path(path).suffix
    with atomic_file(path) as file:
        if suffix == ".npz":
            np.savez(file, name=np.array(names, str), values=values, columns=np.array(columns, str))
            return
        import pyarrow
        from pyarrow import csv, parquet

        arrays = [pyarrow.array(names, pyarrow.string()), *map(pyarrow.array, values.T)]
        table = pyarrow.Table.from_arrays(arrays, names=["name", *_beside_name(columns)])
        if suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            csv.write_csv(table, file)


def _beside_name(columns: Sequence[str]) -> list[str]:
    other = "name_"
    while other in columns:
        other += "_"
    return [other if column == "name" else column for column in columns]
