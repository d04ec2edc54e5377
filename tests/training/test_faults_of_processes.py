"""Thirty kills of one of several processes, each answered by the launcher, cost a run nothing."""

import os
import random
import signal
import time
from pathlib import Path
from subprocess import Popen

import pytest
from fault_injection import newest_checkpoint, outcome, wait_for_instant

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow, pytest.mark.timeout(3600)]

_KILLS = 30
# Intervals without a common divisor: lines are due where no checkpoint is, and the other way round.
_SETTINGS = {
    "training__steps": 1500,
    "training__checkpoint_every": 20,
    "training__evaluate_every": 700,
    "training__log_every": 7,
}


@pytest.mark.parametrize("processes", [2, 4])
def test_thirty_kills_cost_nothing(start_job, pretrain_words, tmp_path, processes):
    # A start is compiled once, so that each of the thirty costs seconds.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    calm = start_job(processes, *pretrain_words(tmp_path / "calm", **_SETTINGS), **cache)
    output, errors = calm.communicate(timeout=600)
    assert calm.returncode == 0, output + errors

    run = tmp_path / "run"
    log = tmp_path / "log"
    with open(log, "w") as file:
        job = start_job(processes, *pretrain_words(run, **_SETTINGS), restarts=_KILLS, output=file, **cache)
        story = kill_at_random(job, run, processes, seed=processes)
        assert job.wait(timeout=600) == 0, log.read_text()[-4000:]
    assert log.read_text().count("local.py: restart ") == _KILLS
    assert outcome(run) == outcome(tmp_path / "calm"), story


def kill_at_random(job: Popen[str], run: Path, processes: int, seed: int) -> list[str]:
    """Kills a random process of a job at a random instant, as often as it is to be, and tells of it."""
    draw = random.Random(seed)
    story, former = [], set[int]()
    for number in range(_KILLS):
        started = wait_for_start(job, processes, former)
        instant = wait_for_instant(run, draw, lambda: job.poll() is None)
        assert job.poll() is None, f"the run ended before kill {number}: {story}"
        victim = draw.randrange(processes)
        os.kill(started[victim], signal.SIGKILL)
        story.append(f"process {victim} {instant}, newest checkpoint {newest_checkpoint(run)}")
        former = set(started)
    return story


def wait_for_start(job: Popen[str], processes: int, former: set[int]) -> list[int]:
    """The processes that the launcher has started anew, in order."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [int(child) for child in children.read_text().split() if int(child) not in former]
        if len(found) == processes:
            return found
        time.sleep(0.01)
    raise AssertionError("the launcher did not start the processes again")
