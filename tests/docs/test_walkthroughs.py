"""Pages to be followed word for word, followed: the tutorial in a shell, and the one about Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

DOCS = Path(__file__).resolve().parents[2] / "docs"


def code_blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tutorial_works_word_for_word(tmp_path):
    script = "set -e\n" + "".join(code_blocks("tutorial.md", "bash"))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": programs},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "GA|TTA|CAGA" in done.stdout or "[N]|[N]" in done.stdout
    assert done.stdout.count("with probability") == 4
    annotated = [line for line in (tmp_path / "out.vcf").read_text().splitlines() if "\tDNABERT2=" in line]
    assert len(annotated) == 3
    for made in (
        "quickstart/report.html",
        "run/report.html",
        "run/model/model.safetensors",
        "classifier/report.html",
        "vectors.parquet",
        "map.png",
        "classes.csv",
    ):
        assert (tmp_path / made).stat().st_size, made


@pytest.mark.slow
def test_python_page_works_word_for_word(
    tmp_path, monkeypatch, tiny_architecture, tiny_model, tiny_tokenizer
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "run/model")
    description = ModelDescription(tiny_architecture, class_names=("other", "promoter"))
    _, parameters = split(description.build(nnx.Rngs(3)))
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained("classifier/model")

    names: dict = {}
    exec("\n".join(code_blocks("python.md", "python")), names)
    width, vocab_size = tiny_architecture.hidden_size, tiny_architecture.vocab_size
    assert names["vectors"].shape == (2, width)
    assert [base.shape for base in names["bases"]] == [(8, width)]
    assert names["probabilities"].shape == (2, 2)
    assert set(names["best"]) <= {"other", "promoter"}
    assert names["logits"].shape[::2] == (2, vocab_size)
    np.testing.assert_allclose(names["maps"][0, 0].sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(names["expected"].sum(), 1, atol=1e-5)
    assert len(names["likeliest"]) >= 1
    assert (tmp_path / "folder" / "model.safetensors").is_file()
