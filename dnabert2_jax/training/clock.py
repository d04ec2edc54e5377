"""Speed and goodput of a run: what the loop is doing comes in, figures for each line of its log go out.

Everything is measured on the host, from times at which it waits anyway: nothing here waits for the device.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.flops import training_flops
from dnabert2_jax.parallel.chips import chip_of
from dnabert2_jax.settings import PretrainSettings

type Loss = Literal["input", "compilation", "checkpoint", "evaluation"]

_LOSSES: tuple[Loss, ...] = ("input", "compilation", "checkpoint", "evaluation")

# Entries of a log's line that depend on the machine and its day, and not on the run.
TIMINGS = (
    "seconds",
    "tokens_per_second",
    "real_token_share",
    "model_flops_per_second",
    "mfu",
    "input_share",
    "time",
)


class Counts(NamedTuple):
    """What a batch has: places for tokens, real tokens, and pairs of a token and one it attends to."""

    places: int = 0
    tokens: int = 0
    pairs: int = 0


def count_tokens(segment_ids: np.ndarray) -> Counts:
    """Counts a batch.

    Args:
      segment_ids: integers [B, S]; tokens of a segment are neighbours, and 0 is padding.
    """
    starts = np.ones(segment_ids.shape, bool)
    starts[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=segment_ids.size)
    real = lengths[segment_ids.reshape(-1)[first] != 0].astype(np.int64)
    return Counts(segment_ids.size, int(real.sum()), int((real * real).sum()))


class Clock:
    """Measures a run.

    The time since the run began, over all its starts, is shared out in `time`:

    - steps: training, of which something is left;
    - input: waiting for a batch (the device may still have been busy: an upper bound of what it lost);
    - compilation, checkpoint, evaluation: as far as the loop waited for them;
    - starts: all else, which is process starts, time between two of them, and steps that were lost and done
      again.

    Args:
      architecture: of the model.
      predicted_share: share of the real tokens that the head predicts.
      peak: FLOP/s of all devices together; None where it is not known.
      perf_counter, now: seconds from anywhere, and since 1970.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        predicted_share: float,
        peak: float | None,
        perf_counter: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
    ):
        self._architecture, self._predicted_share, self._peak = architecture, predicted_share, peak
        self._perf_counter, self._now = perf_counter, now
        self._began = now()
        self._total: dict[str, float] = {"steps": 0.0, **dict.fromkeys(_LOSSES, 0.0)}
        self._start_lap()

    def go_back_to(self, row: Mapping[str, Any] | None) -> None:
        """Goes on from the last line that the log has kept; None for none. What came after is lost."""
        # Lines of a run that an earlier version began have no such entry.
        kept = (row or {}).get("time")
        if kept is not None:
            self._began = datetime.fromisoformat(kept["began"]).timestamp()
            self._total = {name: kept[name] for name in self._total}
        else:
            self._total = dict.fromkeys(self._total, 0.0)
        self._start_lap()

    @contextmanager
    def spent(self, on: Loss) -> Iterator[None]:
        """Books the time inside as lost to `on`."""
        start = self._perf_counter()
        try:
            yield
        finally:
            self._lost[on] += self._perf_counter() - start

    def add(self, step: int, counts: Counts, parts: float = 1.0) -> None:
        """Notes the batch of a step, given the counts of one of so many parts like it."""
        self._batches.append((step, counts, parts))

    def lap(self, step: int) -> dict[str, Any]:
        """What a line of the log says of speed, since the line before; `step` has been computed.

        Returns:
          seconds: without compilation, checkpoints and evaluations.
          tokens_per_second: real tokens.
          real_token_share: of the places for tokens.
          model_flops_per_second: by formula, for real tokens.
          mfu: that, as a share of the peak of bfloat16 products; only where the peak is known.
          input_share: of the seconds.
          time: seconds since the run began as the class describes them, "began", "elapsed", and "goodput",
            which is the share of steps in what has elapsed.
        """
        lost = dict(self._lost)
        seconds = self._perf_counter() - self._start - (sum(lost.values()) - lost["input"])
        places, tokens, pairs = self._take(step)
        flops = training_flops(
            self._architecture, tokens=tokens, pairs=pairs, predicted=tokens * self._predicted_share
        )
        for name in _LOSSES:
            self._total[name] += lost[name]
        self._total["steps"] += seconds - lost["input"]
        self._start_lap(keep_batches=True)
        rate = flops / seconds
        return {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "real_token_share": round(tokens / places, 4) if places else 0.0,
            "model_flops_per_second": round(rate),
            **({} if self._peak is None else {"mfu": round(rate / self._peak, 4)}),
            "input_share": round(lost["input"] / seconds, 5),
            "time": self._shares(),
        }

    def _shares(self) -> dict[str, Any]:
        elapsed = self._now() - self._began
        return {
            "began": datetime.fromtimestamp(self._began, UTC).isoformat(),
            "elapsed": round(elapsed, 3),
            **{name: round(seconds, 3) for name, seconds in self._total.items()},
            "starts": round(elapsed - sum(self._total.values()), 3),
            "goodput": round(self._total["steps"] / elapsed, 4) if elapsed > 0 else 0.0,
        }

    def _take(self, step: int) -> tuple[float, float, float]:
        """Sums over the batches up to `step`, which are forgotten; later ones are on their way already."""
        sums = np.zeros(3)
        while self._batches and self._batches[0][0] <= step:
            _, counts, parts = self._batches.popleft()
            sums += np.array(counts) * parts
        return float(sums[0]), float(sums[1]), float(sums[2])

    def _start_lap(self, *, keep_batches: bool = False) -> None:
        self._start = self._perf_counter()
        self._lost: dict[Loss, float] = dict.fromkeys(_LOSSES, 0.0)
        if not keep_batches:
            self._batches: deque[tuple[int, Counts, float]] = deque()


def start_clock(settings: PretrainSettings, devices: Iterable[Any]) -> Clock:
    """The clock of a pre-training run on such devices; `parallel/chips.py` has the peaks of some."""
    chips = [chip_of(device.device_kind) for device in devices]
    known = [chip.flops for chip in chips if chip is not None]
    return Clock(
        settings.model,
        predicted_share=settings.training.masking_rate,
        peak=sum(known) if len(known) == len(chips) else None,
    )
