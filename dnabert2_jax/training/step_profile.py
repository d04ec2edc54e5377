"""A profile of chosen steps of a run: their numbers come in, a trace for TensorBoard or Perfetto goes out."""

from pathlib import Path
from typing import Any

import jax


class StepProfile:
    """Traces a stretch of steps; used as a context, so that a run that ends early leaves its trace too.

    The device is waited for once, when the last of the steps is done.

    Args:
      steps: "first:last", counted from 1 as in the log; "" for none.
      folder: where the trace goes.
    """

    def __init__(self, steps: str, folder: Path):
        first, _, last = steps.partition(":")
        self._wanted = range(int(first), int(last) + 1) if steps else range(0)
        self._folder = folder
        self._is_tracing = False

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """Starts the trace where `step`, which is about to be computed, is among the chosen ones."""
        if step in self._wanted and not self._is_tracing:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace once `results` are there, where `step` is the last of the chosen ones."""
        if self._is_tracing and step == self._wanted[-1]:
            jax.block_until_ready(results)
            self._stop()

    def _stop(self) -> None:
        if self._is_tracing:
            jax.profiler.stop_trace()
            self._is_tracing = False
