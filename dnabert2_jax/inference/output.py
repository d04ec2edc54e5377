"""Results by sequence as a file: Parquet, npz or CSV, by the name's ending."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file

_ENDINGS = (".parquet", ".npz", ".csv")


def check_output(path: str | Path) -> None:
    """Raises UserError where `path` has none of the endings that `write_rows` knows."""
    if Path(path).suffix not in _ENDINGS:
        raise UserError(f"{path}: name an output that ends in {', '.join(_ENDINGS)}")


def write_rows(path: str | Path, names: Sequence[str], values: np.ndarray, columns: Sequence[str]) -> None:
    """Writes one row per sequence, whole or not at all.

    Args:
      path: `.npz` holds the arrays `name` [n], `values` [n, k] and `columns` [k]; `.parquet` and `.csv`
        hold a column `name` and one for each of `columns`.
      names: n names.
      values: float32 [n, k].
      columns: k names.
    """
    check_output(path)
    suffix = Path(path).suffix
    with atomic_file(path) as file:
        if suffix == ".npz":
            np.savez(file, name=np.array(names, str), values=values, columns=np.array(columns, str))
            return
        import pyarrow
        from pyarrow import csv, parquet

        by_column = {column: values[:, index] for index, column in enumerate(columns)}
        table = pyarrow.table({"name": pyarrow.array(names, pyarrow.string()), **by_column})
        if suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            csv.write_csv(table, file)
