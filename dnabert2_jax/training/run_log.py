"""The log of a run: metrics.jsonl, one JSON object per line, and the same numbers for TensorBoard.

It is appended to as the run goes, and cut back where a run resumes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from dnabert2_jax.files import atomic_file


class RunLog:
    """Writes a run's rows; used as a context, so that TensorBoard's file is closed.

    Args:
      metrics: metrics.jsonl. Rows of steps after `first_step`, which will be written again, are removed.
      tensorboard: the folder of TensorBoard's files.
      first_step: the step from which the run goes on.
    """

    def __init__(self, metrics: Path, tensorboard: Path, first_step: int):
        cut_back(metrics, first_step)
        self._metrics = metrics
        self._tensorboard = SummaryWriter(str(tensorboard), purge_step=first_step + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        self._tensorboard.close()

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row: "kind", "step", and numbers, some of them in dicts by name."""
        append_row(self._metrics, row)
        for tag, value in _numbers(row["kind"], row):
            self._tensorboard.add_scalar(tag, value, row["step"])


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one line to metrics.jsonl; a crash leaves at most one broken last line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_back(path: Path, step: int) -> None:
    """Removes the lines of steps after `step`."""
    kept = [row for row in read_rows(path) if row["step"] <= step]
    with atomic_file(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)


def _numbers(tag: str, row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _numbers(f"{tag}/{name}", value)
        elif isinstance(value, int | float) and name != "step":
            yield f"{tag}/{name}", value
