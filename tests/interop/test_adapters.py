"""Low-rank adapters across the border: ours in the PEFT library, PEFT's here, the same numbers both ways."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from folders import DIFFERENCE, SMALL, batch, describe, model_folder, needed, our_logits

import dnabert2_jax
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.adapter import attach_adapter
from dnabert2_jax.model.adapter_folder import read_adapter, write_adapter
from dnabert2_jax.model.lora import build_adapted, merge_adapters, whole_modules
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.parameters import split

pytestmark = pytest.mark.slow


def with_adapter(base: Pretrained, folder: Path) -> Pretrained:
    """The base model with the adapter of `folder` merged into it, in float64."""
    adapter = read_adapter(folder)
    with jax.enable_x64(True):
        description, parameters = attach_adapter(base.description, base.parameters, adapter, str(folder))
        return Pretrained(
            description, merge_adapters(parameters, adapter.lora.scale), base.tokenizer, "float64"
        )


def trained_adapter(folder: Path, base: Pretrained, model: Path, targets: tuple[str, ...]) -> None:
    """An adapter folder of ours whose numbers are away from their start, head included."""
    lora = Lora(rank=4, alpha=12, targets=targets)
    _, parameters = split(build_adapted(base.description, lora, nnx.Rngs(2)))
    whole = whole_modules(base.description)
    moved = {
        name: array + 0.1 * jax.random.normal(jax.random.key(number), array.shape)
        for number, (name, array) in enumerate(parameters.items())
        if ".lora." in name or name.split(".")[0] in whole
    }
    write_adapter(folder, lora, str(model), base.description, moved)


def check(model: Pretrained, given: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    hidden = model.hidden_states(*given.values())
    assert np.abs(theirs["hidden"] - theirs["base_hidden"]).max() > 0.01, "the adapter must change something"
    np.testing.assert_allclose(hidden, theirs["hidden"], rtol=0, atol=DIFFERENCE["float64"])
    np.testing.assert_allclose(our_logits(model, hidden), theirs["logits"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("targets", [("Wqkv",), ("Wqkv", "attention.output.dense", "gated_layers", "wo")])
@pytest.mark.parametrize("kind", ["masked-lm", "classifier"])
def test_ours_in_peft(tmp_path, tiny_tokenizer, run_torch, torch_code, kind, targets):
    folder = model_folder(tmp_path / "model", describe(SMALL, kind), tiny_tokenizer)
    base = dnabert2_jax.from_pretrained(folder, dtype="float64")
    trained_adapter(tmp_path / "adapter", base, folder, targets)
    given = batch((3, 40), SMALL.vocab_size)

    arguments = ("torch_adapter.py", given, folder, torch_code, tmp_path / "adapter", "load")
    theirs = run_torch(*arguments, needs=("peft", *needed(torch_code)))

    check(with_adapter(base, tmp_path / "adapter"), given, theirs)


@pytest.mark.parametrize("kind", ["masked-lm", "classifier"])
def test_those_of_peft_here(tmp_path, tiny_tokenizer, run_torch, torch_code, kind):
    folder = model_folder(tmp_path / "model", describe(SMALL, kind), tiny_tokenizer)
    base = dnabert2_jax.from_pretrained(folder, dtype="float64")
    given = batch((3, 40), SMALL.vocab_size)

    arguments = ("torch_adapter.py", given, folder, torch_code, tmp_path / "adapter", "train")
    theirs = run_torch(*arguments, needs=("peft", *needed(torch_code)))

    check(with_adapter(base, tmp_path / "adapter"), given, theirs)
