"""The Slurm script, really run: JAX's own detection reads the variables that srun gives its tasks."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

_SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"

# srun on one node, as far as the script needs it: two tasks with the variables of a step, --label, and
# --wait, which ends the others so many seconds after the first has ended. Its status is the tasks' highest.
_SRUN = """#!{python}
import os, signal, subprocess, sys, threading, time

def label(index, stream):
    for line in stream:
        sys.stdout.write(f"{{index}}: {{line}}")
        sys.stdout.flush()

words = sys.argv[1:]
options = [words.pop(0) for _ in list(words) if words[0].startswith("--")]
assert options == ["--kill-on-bad-exit=0", "--wait=180", "--label"], options
step = {{"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2"}}
tasks = []
for index in range(2):
    task = {{"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)}}
    tasks.append(subprocess.Popen(
        words, env=os.environ | step | task, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ))
    threading.Thread(target=label, args=(index, tasks[-1].stdout)).start()
open(os.environ["SHIM"] + "/tasks", "w").write(" ".join(str(task.pid) for task in tasks))
waiting = None
while any(task.poll() is None for task in tasks):
    time.sleep(0.05)
    if waiting is None and any(task.poll() is not None for task in tasks):
        waiting = time.monotonic() + 180
    if waiting is not None and time.monotonic() > waiting:
        [task.kill() for task in tasks]
sys.exit(max(status if status >= 0 else 128 - status for status in [task.wait() for task in tasks]))
"""
_SCONTROL = """#!/bin/bash
echo "$*" >> "$SHIM/scontrol"
"""
_DNABERT2 = """#!/bin/bash
exec {python} -m dnabert2_jax "$@"
"""


@pytest.fixture
def slurm(tmp_path, tiny_config, tiny_corpus):
    """slurm(output, restarts, **settings): starts the script as Slurm would, its commands on the PATH."""
    programs = {"srun": _SRUN, "scontrol": _SCONTROL, "dnabert2": _DNABERT2}
    for name, text in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(python=sys.executable) if name != "scontrol" else text)
        path.chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    def start(output: Path, restarts: int, **settings: object) -> subprocess.Popen[str]:
        (tmp_path / "tasks").unlink(missing_ok=True)
        chosen = {"model__num_hidden_layers": 1, "training__checkpoint_every": 20} | settings
        variables = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SHIM": str(tmp_path),
            "JAX_PLATFORMS": "cpu",
            "SLURM_RESTART_COUNT": str(restarts),
            # JAX derives the coordinator's port from it.
            "SLURM_JOB_ID": str(random.randrange(100_000, 10_000_000)),
        }
        words = [f"--{name.replace('__', '.')}={value}" for name, value in chosen.items()]
        started.append(
            subprocess.Popen(
                ["bash", _SCRIPT, tiny_config, "--corpus", tiny_corpus, "--output", output, *words],
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for job in started:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()


def test_a_job_that_loses_a_task_or_its_time_comes_back_and_ends(slurm, tmp_path):
    run, steps = tmp_path / "run", {"training__steps": 600}
    job = slurm(run, 0, **steps)
    wait_for_checkpoint(job, run)
    os.kill(tasks(tmp_path)[1], signal.SIGKILL)
    output, _ = job.communicate(timeout=90)
    assert re.search(
        r"0: dnabert2: process 1 of 2 on \S+: gone, .*; process 0 of 2 \S+ \S+ stops too", output
    )
    assert "status 137; back into the queue, restart 1" in output

    # The time is nearly up: every task of the step gets the signal.
    job = slurm(run, 1, **steps)
    wait_for_checkpoint(job, run)
    for task in tasks(tmp_path):
        os.kill(task, signal.SIGUSR1)
    output, _ = job.communicate(timeout=90)
    first, second = re.findall(r"is saved at step (\d+); the same command goes on", output)
    assert first == second
    assert "status 130; back into the queue, restart 2" in output

    job = slurm(run, 2, **steps)
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    assert output.count(f"{run}/model: held-out loss") == 1
    requeued = (tmp_path / "scontrol").read_text().splitlines()
    assert len(requeued) == 2
    assert all(re.fullmatch(r"requeue \d+", line) for line in requeued)


def test_a_wrong_request_does_not_come_back(slurm, tmp_path):
    job = slurm(tmp_path / "run", 0, training__steps=20, model__vocab_size=65)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 2, output
    assert "model.vocab_size is 65" in output
    assert not (tmp_path / "scontrol").exists()


def tasks(shim: Path) -> list[int]:
    return [int(task) for task in (shim / "tasks").read_text().split()]


def wait_for_checkpoint(job: subprocess.Popen[str], run: Path) -> None:
    def newest() -> int:
        return max(
            (int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdigit()), default=0
        )

    before, deadline = newest(), time.monotonic() + 120
    while newest() <= before:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
