"""The notebooks: kept tidy, and executed on what a small quickstart makes, facts checked in their kernels."""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# What is put behind the last cell of a notebook, and how many pictures it shows at least.
FACTS = {
    "1-embeddings": """
assert vectors.shape == (284, 128)
assert "".join(words[1:-1]) == sequence
written = pd.read_parquet(OUTPUT).filter(regex=r"^d\\d+$").to_numpy()
assert np.allclose(written, vectors, atol=1e-4)
assert min(scores.mean() for scores in accuracy.values()) > 0.6
""",
    "2-fine-tuning": """
import json
written = json.loads(Path(OUTPUT, "test_scores.json").read_text())
assert abs(written["accuracy"] - accuracy) < 1e-6
assert accuracy > 0.75
assert np.allclose(pd.read_csv(classes)[list(model.class_names)], probabilities, atol=1e-4)
assert not set(parts["train"]["sequence"]) & set(parts["test"]["sequence"])
""",
    "3-pre-training": """
assert len(tokens) == VOCABULARY - 5 and set("".join(tokens)) == set("ACGT")
assert last["step"] == STEPS
assert last["mixed_loss"] < last["masked_loss"] < last["unigram_loss"] < np.log(VOCABULARY)
assert abs(probabilities.sum() - 1) < 1e-5
""",
    "4-variants-and-logos": """
assert len(scores) == 120 and scores["reason"].isna().all()
assert np.allclose(scores["score"], (scores["forward"] + scores["reverse"]) / 2, atol=1e-4)
with pysam.VariantFile(f"{OUTPUT}.vcf") as records:
    for record in records:
        other, promoter = map(float, record.info["DNABERT2"][0].split("|"))
        assert abs(other + promoter) < 1e-5
there = np.array(list(sequence))[:, None] == np.array(list("ACGT"))
assert effects.shape == (300, 4) and (effects[there] == 0).all() and (effects[~there] != 0).all()
from dnabert2_jax.genome.simulate import _MOTIFS
planted = {170 + at + n for kind in _MOTIFS.values() for motif, at in kind for n in range(len(motif))}
assert set(np.flatnonzero(motifs)) == planted
assert strength[motifs].mean() > 1.5 * strength[~motifs].mean()
assert np.allclose(expected.values.sum(axis=1), 1, atol=1e-5) and len(expected.values) == 80
""",
    "5-attention-and-alibi": """
assert np.allclose(slopes, [2**-2, 2**-4, 2**-6, 2**-8])
assert np.allclose(maps.sum(axis=-1), 1, atol=1e-5)
assert ((shift >= 0) & (shift <= 1 + 1e-6)).all()
assert found.shape == (6, hidden.sum()) and np.isfinite(found).all()
assert abs(difference.mean(axis=1)).max() < 0.1
""",
}
PICTURES = {
    "1-embeddings": 1,
    "2-fine-tuning": 2,
    "3-pre-training": 1,
    "4-variants-and-logos": 5,
    "5-attention-and-alibi": 4,
}

named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_are_here():
    assert [path.stem for path in NOTEBOOKS] == sorted(FACTS) == sorted(PICTURES)


@named
def test_tidy(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, set(notebook.metadata)) == (4, {"kernelspec", "language_info"})
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not cell.metadata
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users|opt|mnt)\b", path.read_text())


@named
def test_names_the_one_cell_to_change(path):
    notebook = nbformat.read(path, as_version=4)
    headings = [n for n, cell in enumerate(notebook.cells) if cell.source == "## The one cell to change"]
    (heading,) = headings
    settings = notebook.cells[heading + 1]
    assert settings == code_cells(notebook)[0]
    assert "# Your " in settings.source
    assert "GPU or TPU" in settings.source
    assert "[notebooks,gpu]" in settings.source
    # It holds settings and nothing else: whatever is in quickstart/ is named here, or made from it.
    assert all(line.startswith("#") or " = " in line for line in settings.source.splitlines() if line)


def test_a_single_csv_is_split(tmp_path):
    notebook = nbformat.read(FOLDER / "2-fine-tuning.ipynb", as_version=4)
    (split,) = [cell.source for cell in notebook.cells if cell.id == "split"]
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ACGT"), 30)) for _ in range(205)]
    rows = pandas.DataFrame({"sequence": texts, "label": random.choice(["odd", "even"], len(texts))})
    csv = tmp_path / "mine.csv"
    pandas.concat([rows, rows[:7]]).to_csv(csv, index=False)
    names = {"DATA": str(csv), "OUTPUT": str(tmp_path / "out"), "Path": Path}
    exec(split, names)
    parts = names["parts"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 160, "dev": 20, "test": 25}
    assert sorted(sequence for part in parts.values() for sequence in part["sequence"]) == sorted(texts)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `quickstart` of a run with few steps, made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "notebooks"
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "quickstart" / "report.html").exists():
            subprocess.run(
                [sys.executable, "-m", "dnabert2_jax", "quickstart", "--steps", "150"],
                cwd=home,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
                check=True,
            )
    return home / "quickstart"


@pytest.mark.notebook
@pytest.mark.timeout(1800)
@named
def test_runs_offline_on_the_quickstart(path, quickstart, tmp_path, monkeypatch):
    (tmp_path / "quickstart").symlink_to(quickstart)
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    facts = f"import sys\nassert sys.executable == {sys.executable!r}\n{FACTS[path.stem]}"
    notebook.cells.append(nbformat.v4.new_code_cell(facts))

    NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()  # raises CellExecutionError where a cell fails

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) >= PICTURES[path.stem]
    # What a command returns is its exit status.
    statuses = [data["text/plain"] for data in shown if re.fullmatch(r"\d+", data.get("text/plain", ""))]
    assert set(statuses) <= {"0"}
