"""A PyTorch script in a process of its own, which computes when it is told to: requests out, answers in.

Both are lines of JSON. The first answer, unasked, holds versions.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np


class TorchSide:
    """The process.

    Args:
      python: the Python that has PyTorch.
      script: its name, beside this file.
      arguments: of the script, before the number of threads.
      threads: how many it may use.
    """

    def __init__(self, python: str, script: str, arguments: list[str], threads: int):
        self.process = subprocess.Popen(
            [python, Path(__file__).with_name(script), *arguments, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )
        self.versions = self._answer()

    def __enter__(self) -> "TorchSide":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, request: dict) -> dict:
        """Sends a request and waits for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the PyTorch process ended; its messages are above")
        return json.loads(line)


def torch_arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """What every comparison is told: torch_python, torch_code, output and rounds.

    Args:
      description: the benchmark's docstring.
      rounds: the default.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--torch-code", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def time_in_turns(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate by round.

    Args:
      candidates: by name, what to call; it returns its seconds. Each is called once beforehand.
      rounds: in each of which every candidate is called once, so that the machine's mood falls on all alike.
    """
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            seconds[name].append(run())
    return seconds


def compare_seconds(seconds: dict[str, list[float]], reference: str, tokens: int) -> dict[str, dict]:
    """Medians, and the speed over the reference, whose ratios are taken within a round."""
    rows = {}
    for name, times in seconds.items():
        ratios = np.array(seconds[reference]) / np.array(times)
        rows[name] = {
            "seconds": round(float(np.median(times)), 4),
            "tokens_per_second": round(tokens / float(np.median(times)), 1),
            f"speed_over_{reference}": {
                "median": round(float(np.median(ratios)), 2),
                "least": round(float(ratios.min()), 2),
                "most": round(float(ratios.max()), 2),
            },
        }
    return rows
