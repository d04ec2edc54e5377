"""The local launcher: what it starts, what it starts again, and what it passes on."""

import signal
import time

import pytest

pytestmark = pytest.mark.multiprocess


def test_every_process_is_told_of_the_others(start_job):
    code = (
        "import os; "
        "print(*(os.environ['DNABERT2_' + n] for n in ('PROCESS_ID', 'NUM_PROCESSES', 'COORDINATOR')))"
    )
    job = start_job(3, "-c", code)
    output, errors = job.communicate(timeout=30)
    assert (job.returncode, errors) == (0, "")
    told = sorted(line.split() for line in output.splitlines())
    assert [line[:3] for line in told] == [[f"[{i}]", str(i), "3"] for i in range(3)]
    assert len({line[3] for line in told}) == 1


@pytest.mark.parametrize(
    ("code", "status", "starts"),
    [
        ("open({file!r}, 'a').write('x'); os.kill(os.getpid(), 9)", 1, 3),
        ("open({file!r}, 'a').write('x'); sys.exit(1)", 1, 3),
        ("open({file!r}, 'a').write('x'); sys.exit(2)", 2, 1),
        ("open({file!r}, 'a').write('x'); sys.exit(130)", 130, 1),
        ("open({file!r}, 'a').write('x'); sys.exit(len(open({file!r}).read()) < 2)", 0, 2),
    ],
)
def test_what_died_is_started_again_and_what_is_wrong_is_not(start_job, tmp_path, code, status, starts):
    file = tmp_path / "starts"
    job = start_job(1, "-c", "import os, sys; " + code.format(file=str(file)), restarts=2)
    output, errors = job.communicate(timeout=60)
    assert job.returncode == status, output + errors
    assert len(file.read_text()) == starts
    assert errors.count("local.py: restart") == starts - 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on_and_end_it(start_job, tmp_path, number):
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        f"pathlib.Path({str(tmp_path)!r}, 'ready').touch()\n"
        "time.sleep(60)"
    )
    job = start_job(1, "-c", code, restarts=2)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    job.send_signal(number)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 130
    assert "restart" not in errors
