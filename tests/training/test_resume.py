"""A run that was killed, or asked to stop, and started again ends where the uninterrupted run ends, bit for bit."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.multiprocess

_DNABERT2 = "from dnabert2_jax.cli.main import main; raise SystemExit(main())"
# Few steps between checkpoints, and both intervals such that lines are due where no checkpoint is.
_SETTINGS = ["--training.steps", "300", "--training.checkpoint_every", "25", "--training.evaluate_every", "70"]


@pytest.fixture
def start_run(start_python, tiny_config, tiny_corpus):
    """Starts, or resumes, the same run in a folder."""

    def start(output: Path) -> subprocess.Popen[str]:
        return start_python(
            _DNABERT2, "pretrain", tiny_config, "--corpus", tiny_corpus, "--output", output, *_SETTINGS
        )

    return start


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, object]:
    """What the run leaves that nobody disturbed; the first test to need it makes it."""
    return {}


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for_first_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 120
    while not [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def outcome(run: Path) -> dict[str, object]:
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
    finish(start_run(tmp_path / "whole"))
    expected = outcome(tmp_path / "whole")
    train_steps = [row["step"] for row in expected["metrics"] if row["kind"] == "train"]
    assert train_steps[-1] == 300
    assert len(train_steps) == len(set(train_steps)) == 100

    killed = start_run(tmp_path / "killed")
    wait_for_first_checkpoint(killed, tmp_path / "killed")
    delay = random.uniform(0, 0.5)
    time.sleep(delay)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    finish(start_run(tmp_path / "killed"))
    assert outcome(tmp_path / "killed") == expected, f"killed {delay} s after its first checkpoint"

    stopped = start_run(tmp_path / "stopped")
    wait_for_first_checkpoint(stopped, tmp_path / "stopped")
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, errors
    assert errors.splitlines()[-1] == "dnabert2: interrupted; what was done is kept"
    finish(start_run(tmp_path / "stopped"))
    assert outcome(tmp_path / "stopped") == expected
