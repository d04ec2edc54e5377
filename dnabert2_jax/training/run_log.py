"""The log of a run: metrics.jsonl, one JSON object per line, and the same numbers for TensorBoard.

It is appended to as the run goes, and cut back where a run resumes or goes back.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (  # Protobuf makes these classes when it is imported.
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.summary import scalar

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file

_FLUSH_SECONDS = 30


class RunLog:
    """Writes a run's rows; used as a context, so that TensorBoard's file is closed.

    Args:
      metrics: metrics.jsonl. Rows of steps after `first_step`, which will be written again, are removed.
      tensorboard: the folder of TensorBoard's files.
      first_step: the step from which the run goes on.
      writes: false at all but one of several processes, which then leave both alone.

    Raises:
      UserError: a file cannot be written; so does every method.
    """

    def __init__(self, metrics: Path, tensorboard: Path, first_step: int, *, writes: bool = True):
        self._metrics, self._tensorboard = metrics, tensorboard
        self._events: EventsWriter | None = None
        if not writes:
            return
        with _writing(tensorboard):
            tensorboard.mkdir(exist_ok=True)
            # Not tensorboardX' SummaryWriter: on a full disk its thread dies, and whoever writes hangs.
            self._events = EventsWriter(str(tensorboard / "events"), f".{os.getpid()}")
        self._flushed = time.monotonic()
        self.go_back(first_step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # What already went wrong is what counts.
        with (
            contextlib.suppress(UserError) if kind else contextlib.nullcontext(),
            _writing(self._tensorboard),
        ):
            if self._events is not None:
                self._events.close()

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row: "kind", "step", and numbers, some of them in dicts by name."""
        if self._events is None:
            return
        append_row(self._metrics, row)
        with _writing(self._tensorboard):
            for tag, value in _numbers(row["kind"], row):
                _add_event(self._events, step=row["step"], summary=scalar(tag, value))
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._events.flush()
                self._flushed = time.monotonic()

    def go_back(self, step: int) -> None:
        """Removes the rows of steps after `step`, and hides them from TensorBoard."""
        if self._events is None:
            return
        cut_back(self._metrics, step)
        with _writing(self._tensorboard):
            _add_event(self._events, step=step + 1, session_log=SessionLog(status=SessionLog.START))


def _add_event(events: EventsWriter, **content: Any) -> None:
    events.write_event(Event(wall_time=time.time(), **content))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one line to metrics.jsonl; a crash leaves at most one broken last line.

    Raises:
      UserError: it cannot be written.
    """
    with _writing(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_back(path: Path, step: int) -> None:
    """Removes the lines of steps after `step`.

    Raises:
      UserError: the file cannot be written.
    """
    kept = [row for row in read_rows(path) if row["step"] <= step]
    with atomic_file(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror}; make room or mend it, and give the same command "
            "again: it goes on from the last checkpoint"
        ) from error


def _numbers(tag: str, row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _numbers(f"{tag}/{name}", value)
        elif isinstance(value, int | float) and name != "step":
            yield f"{tag}/{name}", value
