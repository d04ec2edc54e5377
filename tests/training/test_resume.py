"""A run that was killed, or asked to stop, and started again ends where the uninterrupted run ends, bit for bit."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.multiprocess

_DNABERT2 = "from dnabert2_jax.cli.main import main; raise SystemExit(main())"
_SETTINGS = {
    "model.num_hidden_layers": "1",
    "training.steps": "300",
    # Intervals without a common divisor: lines are due where no checkpoint is, and the other way round.
    "training.checkpoint_every": "25",
    "training.evaluate_every": "70",
    "training.log_every": "7",
}


@pytest.fixture
def start_run(start_python, tiny_config, tiny_corpus):
    """Starts, or resumes, the same run in a folder."""

    def start(output: Path) -> subprocess.Popen[str]:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return start_python(
            _DNABERT2, "pretrain", tiny_config, "--corpus", tiny_corpus, "--output", output, *settings
        )

    return start


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for_first_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 120
    while not [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def outcome(run: Path) -> dict[str, Any]:
    """All that a run leaves and that must not depend on its interruptions."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds", None)
        row.pop("tokens_per_second", None)
    return {
        "metrics": rows,
        **{f"model/{path.name}": path.read_bytes() for path in sorted((run / "model").iterdir())},
        "config": (run / "config.toml").read_text(),
        "has report": (run / "report.html").is_file(),
    }


def test_resume(start_run, tmp_path):
    whole, killed = start_run(tmp_path / "whole"), start_run(tmp_path / "killed")
    wait_for_first_checkpoint(killed, tmp_path / "killed")
    delay = random.uniform(0, 0.3)
    time.sleep(delay)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    resumed = start_run(tmp_path / "killed")

    finish(whole)
    expected = outcome(tmp_path / "whole")
    steps = [row["step"] for row in expected["metrics"] if row["kind"] == "train"]
    assert steps == [*range(7, 300, 7), 300]
    assert [row["step"] for row in expected["metrics"] if row["kind"] == "evaluation"] == [70, 140, 210, 280, 300]

    stopped = start_run(tmp_path / "stopped")
    finish(resumed)
    assert outcome(tmp_path / "killed") == expected, f"killed {delay} s after its first checkpoint"

    wait_for_first_checkpoint(stopped, tmp_path / "stopped")
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, errors
    assert errors == "dnabert2: interrupted; what was done is kept\n"
    finish(start_run(tmp_path / "stopped"))
    assert outcome(tmp_path / "stopped") == expected
