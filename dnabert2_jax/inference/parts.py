"""Results that are kept while a long run goes on: blocks of rows in, files beside the output that outlive it.

A block appears whole or not at all, so that a run killed at any instant goes on after its last block.
"""

import json
import os
import shutil
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.files import atomic_file, folder_lock
from dnabert2_jax.inference.output import Rows

_PLAN = "plan.json"
_PLACE = "place_"


class Parts:
    """The blocks of an output that is being made: `.NAME.parts` beside it, held by one process.

    A context, which leaves the folder behind only after an error, and only where there is something in it to
    go on with.

    Args:
      output: the file to be made.
      plan: all that its content depends on, which JSON can hold; None where the run cannot be repeated.

    Attributes:
      sequences, rows: how many the blocks hold.

    Raises:
      UserError: on entering, where another run makes the same output, or the folder cannot be written.
    """

    def __init__(self, output: str | Path, plan: Mapping[str, Any] | None):
        path = Path(output)
        self.folder = path.parent / f".{path.name}.parts"
        self.sequences = 0
        self.rows = 0
        self._plan = None if plan is None else json.dumps(plan, sort_keys=True)
        self._blocks = 0
        self._held = ExitStack()

    def __enter__(self) -> "Parts":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written: {error.strerror}") from error
        self._held.enter_context(folder_lock(self.folder))
        try:
            self._find_blocks()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None or self._plan is None or not self._blocks:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()

    def add(self, rows: Rows, measures: np.ndarray) -> None:
        """Keeps a block.

        Args:
          rows: its results.
          measures: [n, m] besides, for each sequence.

        Raises:
          UserError: the disk is full.
        """
        # The names as JSON: an array of text would have the width of the longest for each.
        names, labels = (
            np.frombuffer(msgspec.json.encode(texts), np.uint8) for texts in (rows.names, rows.labels)
        )
        arrays = {_PLACE + name: array for name, array in rows.places.items()}
        arrays |= {
            "names": names,
            "labels": labels,
            "counts": rows.counts,
            "values": rows.values,
            "measures": measures,
        }
        with atomic_file(self._path(self._blocks)) as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._count(rows.counts)

    def __iter__(self) -> Iterator[Rows]:
        for number in range(self._blocks):
            with np.load(self._path(number), allow_pickle=False) as content:
                places = {key.removeprefix(_PLACE): content[key] for key in content if key.startswith(_PLACE)}
                names = msgspec.json.decode(content["names"].tobytes(), type=list[str])
                labels = msgspec.json.decode(content["labels"].tobytes(), type=list[str | None])
                yield Rows(names, content["counts"], content["values"], places, labels)

    def measures(self) -> np.ndarray:
        """The measures of all sequences, [n, m]; [0, 0] where there is none."""
        parts = []
        for number in range(self._blocks):
            with np.load(self._path(number), allow_pickle=False) as content:
                parts.append(content["measures"])
        return np.concatenate(parts) if parts else np.empty((0, 0))

    def _count(self, counts: np.ndarray) -> None:
        self._blocks += 1
        self.sequences += len(counts)
        self.rows += int(counts.sum())

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def _find_blocks(self) -> None:
        plan = self.folder / _PLAN
        left = plan.read_text(encoding="utf-8") if plan.is_file() else None
        if left is not None and left == self._plan:
            while (counts := _counts_of(self._path(self._blocks))) is not None:
                self._count(counts)
            return
        if left is not None and self._path(0).exists():
            warnings.warn(
                f"{self.folder}: holds what was done with another input, model or options; it is begun anew",
                InputWarning,
                stacklevel=3,
            )
        plan.unlink(missing_ok=True)
        for path in self.folder.glob("*.npz"):
            path.unlink()
        if self._plan is not None:
            with atomic_file(plan, "w") as file:
                file.write(self._plan)


def file_states(paths: Iterable[str | Path]) -> list[list[str | int]] | None:
    """Path, size and time of change of each file, for a plan; None where one can be read but once.

    Args:
      paths: files, "-" for standard input.
    """
    try:
        statuses = [(path, os.stat(path)) for path in paths]
    except OSError:
        return None
    if not all(stat.S_ISREG(status.st_mode) for _, status in statuses):
        return None
    return [[str(Path(path).resolve()), status.st_size, status.st_mtime_ns] for path, status in statuses]


def _counts_of(path: Path) -> np.ndarray | None:
    """The rows of each sequence of a block; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["counts"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
