"""What the others do when one process of a job dies, fails, or is asked to stop."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from fault_injection import newest_checkpoint

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

_HOST = re.escape(socket.gethostname())
_ENDLESS = {"training__steps": 100_000, "training__checkpoint_every": 20, "training__evaluate_every": 100_000}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_which_names_it(start_job, pretrain_words, tmp_path, victim):
    job = start_job(2, *pretrain_words(tmp_path / "run", **_ENDLESS))
    wait_for_checkpoint(job, tmp_path / "run")
    os.kill(process_of(job, victim), signal.SIGKILL)
    start = time.monotonic()
    output, errors = job.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert job.returncode == 1
    survivor = 1 - victim
    told = rf"\[{survivor}\] dnabert2: process {victim} of 2 on {_HOST}: gone, .*; process {survivor} of 2 "
    assert re.search(told, output), output
    assert f"process {victim} was ended by SIGKILL" in errors
    assert "fault of dnabert2_jax" not in output


def test_a_process_that_hangs_ends_the_other_which_names_it(start_job, pretrain_words, tmp_path):
    job = start_job(2, *pretrain_words(tmp_path / "run", **_ENDLESS), DNABERT2_PEER_TIMEOUT="8")
    wait_for_checkpoint(job, tmp_path / "run")
    os.kill(process_of(job, 1), signal.SIGSTOP)
    output, _ = job.communicate(timeout=90)
    assert job.returncode == 1
    assert re.search(rf"\[0\] dnabert2: process 1 of 2 on {_HOST}: gone, without a word for 8 s", output), (
        output
    )


def test_a_signal_to_one_process_stops_all_at_the_same_step(start_job, pretrain_words, tmp_path):
    run = tmp_path / "run"
    job = start_job(2, *pretrain_words(run, **_ENDLESS))
    for victim, number in ((1, signal.SIGTERM), (0, signal.SIGUSR1)):
        wait_for_checkpoint(job, run)
        before = newest_checkpoint(run)
        os.kill(process_of(job, victim), number)
        output, errors = job.communicate(timeout=60)
        assert job.returncode == 130, output + errors
        (step, other) = re.findall(r"is saved at step (\d+); the same command goes on", output)
        assert step == other
        assert newest_checkpoint(run) == int(step) > before
        job = start_job(2, *pretrain_words(run, **_ENDLESS))
    # Long before there is anything to save.
    while len(children_of(job)) < 2:
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    output, errors = job.communicate(timeout=60)
    assert job.returncode == 130, output + errors


def test_an_error_at_one_process_stops_the_other(start_job, pretrain_words, tiny_corpus, tmp_path):
    # Process 1 is given another corpus folder, which is not there.
    words = [str(word) for word in pretrain_words(tmp_path / "run", **_ENDLESS)]
    code = (
        "import os, sys; from dnabert2_jax.cli.main import main\n"
        "words = [w + '/nothing' * (os.environ['DNABERT2_PROCESS_ID'] == '1' and w == sys.argv[1])"
        " for w in sys.argv[2:]]\n"
        "sys.exit(main(words))"
    )
    job = start_job(2, "-c", code, str(tiny_corpus), *words[2:])
    output, errors = job.communicate(timeout=90)
    assert job.returncode == 2, output + errors
    assert re.search(r"\[1\] dnabert2: \S+/nothing: ", output), output
    assert re.search(
        rf"\[0\] dnabert2: process 1 of 2 on {_HOST}: has stopped, .*; process 0 of 2 .* stops",
        output,
    ), output


@pytest.mark.parametrize("index", [0, 1])
def test_processes_that_do_not_all_come(start_python, index):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    process = start_python(
        "from dnabert2_jax.parallel.processes import start_processes; start_processes()",
        DNABERT2_COORDINATOR=f"localhost:{port}",
        DNABERT2_NUM_PROCESSES="2",
        DNABERT2_PROCESS_ID=str(index),
        DNABERT2_START_TIMEOUT="3",
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    expected = {
        0: f"the others did not all come to localhost:{port} within 3 s",
        1: f"process 0 cannot be reached at localhost:{port}",
    }
    assert errors.splitlines()[-1].startswith(f"dnabert2: process {index} of 2 on {socket.gethostname()}: ")
    assert expected[index] in errors.splitlines()[-1]


def process_of(job, index: int) -> int:
    """The id of a process of a local job: the launcher's children come in order."""
    return children_of(job)[index]


def children_of(job) -> list[int]:
    return [int(child) for child in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]


def wait_for_checkpoint(job, run: Path) -> None:
    before, deadline = newest_checkpoint(run), time.monotonic() + 120
    while newest_checkpoint(run) <= before:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
