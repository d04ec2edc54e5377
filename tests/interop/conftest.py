"""Another Python, one with PyTorch, that computes what the tests here compare with.

`TORCH_PYTHON` names it, where this Python has no PyTorch itself; `DNABERT2_TORCH_CODE` names a folder with
the released bert_layers.py and what it imports. What is absent is skipped by name.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

type RunTorch = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def torch_python() -> str:
    """An interpreter with PyTorch: this one, or the one that TORCH_PYTHON names."""
    if importlib.util.find_spec("torch"):
        return sys.executable
    if "TORCH_PYTHON" in os.environ:
        return os.environ["TORCH_PYTHON"]
    pytest.skip("needs PyTorch, here or in the interpreter that TORCH_PYTHON names")


@pytest.fixture
def run_torch(torch_python: str, tmp_path: Path) -> RunTorch:
    """run_torch(script, arrays, *arguments, needs=…, **environment): the arrays that the script computes.

    The script lies in this folder and is called as `SCRIPT GIVEN.npz RESULT.npz ARGUMENTS…`. The test is
    skipped where that Python lacks one of the libraries in `needs`.
    """

    def run(
        script: str,
        arrays: dict[str, np.ndarray],
        *arguments: str | Path,
        needs: tuple[str, ...] = (),
        **environment: str,
    ) -> dict[str, np.ndarray]:
        absent = [name for name in needs if not _has(torch_python, name)]
        if absent:
            pytest.skip(f"needs {', '.join(absent)} beside PyTorch")
        given, result = tmp_path / "given.npz", tmp_path / "result.npz"
        np.savez(given, allow_pickle=False, **arrays)
        command = [torch_python, Path(__file__).with_name(script), given, result, *map(str, arguments)]
        finished = subprocess.run(
            command,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-4000:]
        with np.load(result) as file:
            return dict(file)

    return run


@pytest.fixture(params=["plain", "released"])
def torch_code(request: pytest.FixtureRequest) -> str:
    """Whose model computes over there: "plain" is torch_models.py, else the folder of the released code."""
    return "plain" if request.param == "plain" else _released_code()


@pytest.fixture
def released_code() -> str:
    """The folder of the released PyTorch code."""
    return _released_code()


def _released_code() -> str:
    if "DNABERT2_TORCH_CODE" not in os.environ:
        pytest.skip("needs the released PyTorch code, in the folder that DNABERT2_TORCH_CODE names")
    return os.environ["DNABERT2_TORCH_CODE"]


@cache
def _has(python: str, library: str) -> bool:
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([python, "-c", probe, library], check=False).returncode == 0
