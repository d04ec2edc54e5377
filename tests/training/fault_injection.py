"""Kills a run at random instants and starts it again; and tells what two runs must have in common.

`survive` does it to processes that it may start; a test of a launcher, which starts them again by itself,
takes `wait_for_instant` and kills on its own. All is drawn from a seed, but for the clock of the machine.
"""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What a row says of the training; all else in it is of the clock.
_COMPUTED = {
    "train": {"loss", "accuracy", "gradient_norm", "learning_rate", "skipped", "first_skipped"},
    "rewind": {"from_step", "to_step", "loss"},
}
_PATIENCE = 300.0


def survive(
    start: Callable[[], Sequence[subprocess.Popen[str]]], run: Path, *, kills: int, seed: int
) -> list[str]:
    """Kills a job `kills` times by SIGKILL, and then lets it finish.

    Args:
      start: starts the job, or resumes it, and gives its processes. Of these a random one is killed; then
        the others, as whoever manages them would do.
      run: its run folder.
      kills: how often.
      seed: of the instants and of whom it hits.

    Returns:
      Where each kill came, to be told when the outcome is wrong.

    Raises:
      AssertionError: a process ended by itself before its kill, or not well in the end.
    """
    draw = random.Random(seed)
    story = []
    for _ in range(kills):
        processes = start()
        instant = wait_for_instant(run, draw, lambda started=processes: all_alive(started))
        victim = draw.randrange(len(processes))
        for number in (victim, *range(len(processes))):
            processes[number].kill()
        errors = [process.communicate()[1] for process in processes]
        assert processes[victim].returncode == -signal.SIGKILL, f"ended by itself: {errors[victim]}"
        story.append(f"process {victim} {instant}, newest checkpoint {newest_checkpoint(run)}")
    for process in start():
        _, errors = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 0, errors
    return story


def wait_for_instant(run: Path, draw: random.Random, alive: Callable[[], bool]) -> str:
    """Waits until a random instant of a run that has just been started, and says which.

    Some are in the start; the others come after the first line of the log that is new, after a new
    checkpoint, or while one is being written, plus a random fraction of a second.
    """
    kind = draw.choices(["start", "line", "checkpoint", "writing"], [1, 2, 3, 4])[0]
    if kind == "start":
        delay = draw.uniform(0, 3)
    else:
        delay = draw.uniform(0, 0.1 if kind == "writing" else 0.3)
        signs: dict[str, Callable[[], Any]] = {
            "line": lambda: _modified(run / "metrics.jsonl"),
            "checkpoint": lambda: newest_checkpoint(run),
            "writing": lambda: sorted((run / "checkpoints").glob("*.writing*")),
        }
        before, deadline = signs[kind](), time.monotonic() + _PATIENCE
        while signs[kind]() in (before, []) and alive():
            assert time.monotonic() < deadline, f"no {kind} in {_PATIENCE} s"
            time.sleep(0.002)
    time.sleep(delay)
    return f"{delay:.3f} s after {kind}"


def all_alive(processes: Sequence[subprocess.Popen[str]]) -> bool:
    """Whether no process of a job has ended."""
    return all(process.poll() is None for process in processes)


def newest_checkpoint(run: Path) -> int:
    """The step of the newest complete checkpoint; 0 where there is none."""
    return max((int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run leaves and that must not depend on what happened on the way."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "metrics": [_computed(row) for row in rows],
        **{f"model/{path.name}": path.read_bytes() for path in sorted((run / "model").iterdir())},
        "config": (run / "config.toml").read_text(),
        "has report": (run / "report.html").is_file(),
    }


def _computed(row: dict[str, Any]) -> dict[str, Any]:
    known = _COMPUTED.get(row["kind"])
    return {name: row[name] for name in row if known is None or name in known | {"kind", "step"}}


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
