"""The rows of a run's metrics.jsonl, picked by kind and turned into the curves of a plot."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def select_rows(rows: Sequence[Row], kind: str) -> list[Row]:
    """The rows whose "kind" is `kind`, in their order."""
    return [row for row in rows if row["kind"] == kind]


def metric(row: Row, name: str) -> float:
    """One number of a row, NaN where it is absent or null."""
    value = row.get(name)
    return math.nan if value is None else float(value)


def curve(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """A metric over the steps, as `line_plot` takes it."""
    return [metric(row, "step") for row in rows], [metric(row, name) for row in rows]
