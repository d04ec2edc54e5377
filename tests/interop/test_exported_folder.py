"""A model folder written here, read by PyTorch with every key in its place: the same numbers come out.

Once with the plain models of torch_models.py, once with the released classes themselves.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from folders import DIFFERENCE, SMALL, batch, describe, model_folder, needed, our_logits

import dnabert2_jax
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.model.parameters import merge, split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

REVISION = "0" * 40


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["masked-lm", "classifier"])
def test_the_same_numbers(tmp_path, tiny_tokenizer, run_torch, torch_code, kind, dtype):
    folder = model_folder(tmp_path / "model", describe(SMALL, kind), tiny_tokenizer)
    given = batch((3, 600), SMALL.vocab_size)

    theirs = run_torch("torch_forward.py", given, folder, torch_code, dtype, needs=needed(torch_code))

    model = dnabert2_jax.from_pretrained(folder, dtype=dtype)
    hidden = model.hidden_states(*given.values())
    assert theirs["hidden"].dtype == hidden.dtype == dtype
    np.testing.assert_allclose(hidden, theirs["hidden"], rtol=0, atol=DIFFERENCE[dtype])
    logits = our_logits(model, hidden) if kind == "classifier" else model.mlm_logits(*given.values())
    np.testing.assert_allclose(logits, theirs["logits"], rtol=0, atol=5 * DIFFERENCE[dtype])


def test_the_full_size(tmp_path, run_torch, torch_code):
    description = ModelDescription(Architecture())
    _, parameters = split(description.build(nnx.Rngs(0)))
    write_model(tmp_path, description, parameters)
    given = batch((2, 40), 4096)

    theirs = run_torch("torch_forward.py", given, tmp_path, torch_code, "float32", needs=needed(torch_code))

    graph, _ = description.abstract()
    model = merge(graph, parameters)
    hidden = jax.jit(model.encoder)(*given.values())
    np.testing.assert_allclose(hidden, theirs["hidden"], rtol=0, atol=DIFFERENCE["float32"])
    np.testing.assert_allclose(model.logits(hidden), theirs["logits"], rtol=0, atol=1e-4)


def test_the_released_layout_and_back(shared, tmp_path, run_torch, torch_code):
    """From the released files through this package to PyTorch, which finds the numbers it found at first."""
    expected = np.load(shared / "golden" / "hf_tiny_mlm" / "expected.npz")
    dnabert2_jax.from_pretrained(shared / "golden" / "hf_tiny_mlm").save_pretrained(tmp_path / "model")
    given = {name: expected[name] for name in ("input_ids", "attention_mask")}
    given["token_type_ids"] = np.zeros_like(given["input_ids"])

    theirs = run_torch(
        "torch_forward.py", given, tmp_path / "model", torch_code, "float64", needs=needed(torch_code)
    )

    # The file is stored in float32.
    np.testing.assert_allclose(theirs["hidden"], expected["last_hidden_state"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(theirs["logits"], expected["mlm_logits"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["masked-lm", "classifier"])
def test_what_the_released_code_saves(tmp_path, tiny_tokenizer, run_torch, released_code, kind):
    ours, saved = model_folder(tmp_path / "model", describe(SMALL, kind), tiny_tokenizer), tmp_path / "saved"
    given = batch((3, 60), SMALL.vocab_size)
    theirs = run_torch("torch_save.py", given, ours, released_code, saved, needs=needed(released_code))
    Tokenizer.load(tiny_tokenizer).save(saved)

    model = dnabert2_jax.from_pretrained(saved)

    hidden = model.hidden_states(*given.values())
    np.testing.assert_allclose(hidden, theirs["hidden"], rtol=0, atol=DIFFERENCE["float32"])
    np.testing.assert_allclose(our_logits(model, hidden), theirs["logits"], rtol=0, atol=1e-4)
    if kind == "classifier":
        assert model.class_names == ("promoter", "enhancer", "other")


@pytest.mark.parametrize("kind", ["masked-lm", "classifier"])
def test_transformers_auto_classes(tmp_path, tiny_tokenizer, run_torch, released_code, kind):
    """config.json sends transformers to the code on the hub; here that lies in the hub's cache."""
    folder = model_folder(tmp_path / "model", describe(SMALL, kind), tiny_tokenizer)
    given = batch((3, 60), SMALL.vocab_size)
    environment = {
        "HF_HOME": str(hub_cache(tmp_path / "hub", released_code)),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }
    auto_class = {"masked-lm": "AutoModelForMaskedLM", "classifier": "AutoModelForSequenceClassification"}

    def through(name: str) -> dict[str, np.ndarray]:
        needs = (*needed(released_code), "triton")
        return run_torch("torch_auto.py", given, folder, name, needs=needs, **environment)

    model = dnabert2_jax.from_pretrained(folder)
    hidden = model.hidden_states(*given.values())
    whole = through(auto_class[kind])
    assert whole["unexpected"].size == 0
    np.testing.assert_allclose(whole["output"], our_logits(model, hidden), rtol=0, atol=1e-4)
    if kind == "classifier":
        encoder = through("AutoModel")
        assert list(encoder["unexpected"]) == ["classifier.bias", "classifier.weight"]
        np.testing.assert_allclose(encoder["output"], hidden, rtol=0, atol=DIFFERENCE["float32"])


def hub_cache(home: Path, code: str) -> Path:
    """A hub cache that holds the released code as its model's main revision, and no weights."""
    repository = home / "hub" / "models--zhihan1996--DNABERT-2-117M"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for path in Path(code).glob("*.py"):
        shutil.copy(path, snapshot)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return home
