"""Examples in docstrings: what they show is what happens."""

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dnabert2_jax"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
# Where a reader begins; each of these has an example.
MAIN = [
    "config",
    "genome.fasta",
    "genome.sequence",
    "inference.loading",
    "kernels.alibi",
    "kernels.attention",
    "tokenizer.tokenizer",
    "tokenizer.training",
    "training.scores",
]


@pytest.fixture
def folder_of_examples(tmp_path, monkeypatch, tiny_model):
    """A folder that holds the files that examples name: a genome, regions of it, and a model."""
    monkeypatch.chdir(tmp_path)
    Path("genome.fa").write_text(">chr1 the only one\nACGTTGCA\n")
    Path("peaks.bed").write_text("chr1\t2\t4\nchr1\t5\t8\n")
    shutil.copytree(tiny_model, "run/model")


@pytest.mark.usefixtures("folder_of_examples")
@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_happens(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_main_modules_have_examples():
    assert {f"dnabert2_jax.{name}" for name in MAIN} <= set(MODULES)
