"""`dnabert2 convert`: the same numbers in and out, whatever they were stored in, and what else it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dnabert2_jax.cli.main import main
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.torch_file import read_torch_file


def test_a_pytorch_file_becomes_safetensors_bit_by_bit_and_stays_so(shared: Path, tmp_path: Path):
    source = shared / "golden" / "hf_tiny_mlm"
    assert main(["convert", "--model", str(source), "--output", str(tmp_path / "first")]) == 0
    assert main(["convert", "--model", str(tmp_path / "first"), "--output", str(tmp_path / "second")]) == 0
    given = read_torch_file(source / "pytorch_model.bin")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == given.keys() == second.keys()
    for key, array in given.items():
        assert array.tobytes() == first[key].tobytes() == second[key].tobytes()
    for name in (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_classifier_keeps_its_numbers_and_labels(shared: Path, tmp_path: Path):
    source = shared / "golden" / "hf_tiny_cls"
    assert main(["convert", "--model", str(source), "--output", str(tmp_path / "out")]) == 0
    given = load_file(source / "model.safetensors")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(given[key], array) for key, array in written.items())
    assert len(written) == len(given)
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "out")
    )
    assert after.get("id2label") == before.get("id2label", after.get("id2label"))


def test_the_card_names_the_source(tiny_model: Path, tmp_path: Path):
    assert main(["convert", "--model", str(tiny_model), "--output", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "converted from" in card
    assert tiny_model.name in card.replace("\\", "")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_and_read_again(tiny_model: Path, tmp_path: Path, dtype: str):
    words = ["convert", "--model", str(tiny_model), "--output", str(tmp_path / "half"), "--dtype", dtype]
    assert main(words) == 0
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == dtype
    whole, half = (from_pretrained(folder).parameters for folder in (tiny_model, tmp_path / "half"))
    for name, array in whole.items():
        np.testing.assert_array_equal(
            np.asarray(array.astype(dtype).astype("float32")), np.asarray(half[name])
        )


def test_the_folder_that_one_is_in_cannot_be_made(tiny_model: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for output in (".", str(tmp_path)):
        assert main(["convert", "--model", str(tiny_model), "--output", output]) == 2
        assert "is the folder that you are in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_is_left_alone(tiny_model: Path, tmp_path: Path, capsys):
    (tmp_path / "precious").write_text("data")
    assert main(["convert", "--model", str(tiny_model), "--output", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
