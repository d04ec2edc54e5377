"""Adapter folders: written and read back, PEFT's own configurations, and what must be refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.adapter import attach_adapter
from dnabert2_jax.model.adapter_folder import (
    base_of,
    is_adapter_folder,
    read_adapter,
    write_adapter,
)
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.lora import build_adapted, is_adapter
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.parameters import split

LORA = Lora(rank=4, alpha=6.0, dropout=0.1, targets=("Wqkv", "wo"))
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
LAYER = "base_model.model.bert.encoder.layer.1.attention.self.Wqkv"

# All that PEFT 0.21 writes beside what an adapter here has to say.
PEFT_EXTRAS = {
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": [1],
    "loftq_config": {},
    "lora_bias": False,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": ["pooler", "classifier", "classifier", "score"],
    "monteclora_config": None,
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_qalora": False,
    "velora_config": None,
}


@pytest.fixture
def base(tiny_architecture):
    """A masked-language model without adapters."""
    description = ModelDescription(tiny_architecture)
    _, parameters = split(description.build(nnx.Rngs(5)))
    return description, parameters


@pytest.fixture
def classifier(base):
    """A description, and parameters as after training: the base's, a head, and adapters."""
    description = ModelDescription(base[0].architecture, ("exon", "intron", "neither"))
    _, parameters = split(build_adapted(description, LORA, nnx.Rngs(6)))
    noise = np.random.default_rng(0)
    trained = {
        name: jnp.asarray(noise.standard_normal(array.shape), jnp.float32)
        for name, array in parameters.items()
        if is_adapter(name)
    }
    kept = {name: array for name, array in base[1].items() if name in parameters}
    return description, parameters | kept | trained


@pytest.fixture
def folder(tmp_path, classifier):
    """A folder of adapters."""
    description, parameters = classifier
    write_adapter(tmp_path / "adapter", LORA, "some/base", description, parameters)
    return tmp_path / "adapter"


def attach(base, folder):
    """The folder's adapter on a base of description and parameters."""
    description, parameters = base
    return attach_adapter(description, parameters, read_adapter(folder), str(folder))


def change_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    config = {key: value for key, value in (config | changes).items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(config))


def change_weights(folder, **changes):
    arrays = load_file(folder / WEIGHTS) | changes
    save_file({key: array for key, array in arrays.items() if array is not ...}, folder / WEIGHTS)


def test_round_trip(folder, base, classifier):
    assert is_adapter_folder(folder)
    adapter = read_adapter(folder)
    assert adapter.lora == LORA
    assert adapter.base == "some/base"
    assert adapter.description == classifier[0]
    description, parameters = attach(base, folder)
    assert description == classifier[0]
    assert set(parameters) == set(classifier[1])
    for name, array in classifier[1].items():
        np.testing.assert_array_equal(parameters[name], array, err_msg=name)


def test_the_layout_is_pefts(folder, classifier):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "config.json"]
    arrays = load_file(folder / WEIGHTS)
    assert len(arrays) == 2 * 2 * 2 + 4
    assert arrays[f"{LAYER}.lora_A.weight"].shape == (4, 32)
    assert arrays[f"{LAYER}.lora_B.weight"].shape == (96, 4)
    a = classifier[1]["encoder.blocks.1.attention.qkv.lora.a"]
    np.testing.assert_array_equal(arrays[f"{LAYER}.lora_A.weight"], a.T)
    assert arrays["base_model.model.bert.pooler.dense.weight"].shape == (32, 32)
    assert arrays["base_model.model.classifier.bias"].shape == (3,)
    config = json.loads((folder / CONFIG).read_text())
    assert (config["peft_type"], config["task_type"]) == ("LORA", "SEQ_CLS")
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 6, 0.1)
    assert config["target_modules"] == ["Wqkv", "wo"]
    assert config["modules_to_save"] == ["pooler", "classifier"]


def test_a_masked_language_model_has_adapters_alone(tmp_path, base):
    description, parameters = base
    _, parameters = split(build_adapted(description, Lora(targets="bert.*Wqkv"), nnx.Rngs(0)))
    write_adapter(tmp_path / "adapter", Lora(targets="bert.*Wqkv"), "b", description, parameters)
    adapter = read_adapter(tmp_path / "adapter")
    assert (adapter.lora.targets, adapter.whole, adapter.description) == ("bert.*Wqkv", {}, description)
    assert json.loads((tmp_path / "adapter" / CONFIG).read_text())["modules_to_save"] is None


def test_writing_again_replaces_and_gives_the_same_bytes(folder, classifier):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_adapter(folder, LORA, "some/base", classifier[0], dict(reversed(classifier[1].items())))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_peft_writes_is_read_without_a_config_of_the_model(folder, base):
    """Then classes go by the names that the released code gives them, and the arrays say which layers."""
    change_config(folder, **PEFT_EXTRAS)
    (folder / "config.json").unlink()
    change_weights(
        folder,
        **{key: ... for key in load_file(folder / WEIGHTS) if ".layer.0." in key},
    )
    description, parameters = attach(base, folder)
    assert description.class_names == ("LABEL_0", "LABEL_1", "LABEL_2")
    layers = {name.rpartition(".lora.")[0] for name in parameters if is_adapter(name)}
    assert layers == {"encoder.blocks.1.attention.qkv", "encoder.blocks.1.feed_forward.output"}


def test_one_class_of_an_unknown_problem_is_regression(folder, base):
    (folder / "config.json").unlink()
    change_weights(
        folder,
        **{
            "base_model.model.classifier.weight": np.zeros((1, 32), np.float32),
            "base_model.model.classifier.bias": np.zeros(1, np.float32),
        },
    )
    description, _ = attach(base, folder)
    assert (description.class_names, description.problem) == (("LABEL_0",), "regression")


def test_rank_stabilised_adapters_are_the_same_with_another_alpha(folder):
    change_config(folder, use_rslora=True)
    assert read_adapter(folder).lora.scale == pytest.approx(6 / np.sqrt(4))


def test_an_adapter_of_the_encoder_alone_has_keys_without_bert(folder, base, classifier):
    arrays = load_file(folder / WEIGHTS)
    short = {key.replace(".bert.", "."): array for key, array in arrays.items() if ".lora_" in key}
    save_file(short, folder / WEIGHTS)
    (folder / "config.json").unlink()
    description, parameters = attach(base, folder)
    assert description == base[0]
    for name in filter(is_adapter, classifier[1]):
        np.testing.assert_array_equal(parameters[name], classifier[1][name])


def test_half_precision_is_widened_and_float64_is_kept(folder, base):
    arrays = load_file(folder / WEIGHTS)
    save_file({key: array.astype(np.float16) for key, array in arrays.items()}, folder / WEIGHTS)
    _, parameters = attach(base, folder)
    assert {array.dtype for array in parameters.values()} == {np.dtype(np.float32)}
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(array, jnp.float64) for name, array in base[1].items()}
        _, parameters = attach((base[0], wide), folder)
        assert {array.dtype for array in parameters.values()} == {np.dtype(np.float64)}


def test_the_base_is_looked_for_beside_the_adapter(folder):
    adapter = read_adapter(folder)
    assert base_of(folder, adapter) == "some/base"
    (folder / "some" / "base").mkdir(parents=True)
    assert base_of(folder, adapter) == str(folder / "some" / "base")
    change_config(folder, base_model_name_or_path=None)
    with pytest.raises(UserError, match="base_model_name_or_path is empty"):
        base_of(folder, read_adapter(folder))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA' can be loaded"),
        ({"peft_type": ...}, "peft_type is None"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"rank_pattern": {"wo": 2}}, "rank_pattern is {'wo': 2}"),
        ({"alpha_pattern": {"wo": 2}}, "alpha_pattern is {'wo': 2}"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is [3]"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is [[0, 2]]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"an_idea_of_next_year": 1}, "an_idea_of_next_year is 1; an adapter with it is not computed here"),
        ({"r": 0}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"r": ...}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"r": "8"}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"r": "8", "use_rslora": True}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf; it must be a finite number"),
        ({"lora_alpha": 10**400, "use_rslora": True}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"lora_alpha": [1]}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"lora_dropout": 1}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"target_modules": 3}, "r, lora_alpha, lora_dropout and target_modules"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path is 3"),
        ({"revision": 3}, "revision is 3"),
    ],
)
def test_configurations_that_are_refused(folder, changes, complaint):
    change_config(folder, **changes)
    with pytest.raises(UserError) as raised:
        read_adapter(folder)
    assert str(raised.value).startswith(str(folder / CONFIG))
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({f"{LAYER}.lora_B.weight": ...}, "holds one of lora_A and lora_B"),
        ({f"{LAYER}.lora_B.weight": np.zeros(3, np.float32)}, "is not a matrix of floating-point numbers"),
        ({f"{LAYER}.lora_B.weight": np.zeros((96, 4), np.int32)}, "is not a matrix of floating-point"),
        ({f"{LAYER}.lora_B.weight": np.zeros((96, 5), np.float32)}, "r and the base model ask for (4, 32)"),
        ({f"{LAYER}.lora_A.weight": np.zeros((4, 31), np.float32)}, "r and the base model ask for (4, 32)"),
        ({f"{LAYER}.lora_magnitude_vector": np.zeros(96, np.float32)}, "which the model does not have"),
        ({"something.else": np.zeros(3, np.float32)}, "does not begin with base_model.model."),
        ({"base_model.model.classifier.bias": ...}, "lacks classifier.bias, and so does its base model"),
        ({"base_model.model.classifier.bias": np.zeros(2, np.float32)}, "classifier.bias has shape (2,)"),
        (
            {f"{LAYER}2.lora_{half}.weight": np.zeros((4, 4), np.float32) for half in "AB"},
            "Wqkv2, which is not a dense layer of the model",
        ),
    ],
)
def test_weights_that_are_refused(folder, base, changes, complaint):
    change_weights(folder, **changes)
    with pytest.raises(UserError) as raised:
        attach(base, folder)
    assert str(raised.value).startswith(str(folder))
    assert complaint in str(raised.value)


def test_an_adapter_without_the_pooler_needs_a_base_that_has_one(folder, base, classifier):
    pooler = "base_model.model.bert.pooler.dense."
    change_weights(folder, **{f"{pooler}weight": ..., f"{pooler}bias": ...})
    with pytest.raises(
        UserError, match=r"lacks bert\.pooler\.dense.*modules_to_save=\['pooler', 'classifier'\]"
    ):
        attach(base, folder)
    tuned = {name: array for name, array in classifier[1].items() if not is_adapter(name)}
    _, parameters = attach((classifier[0], tuned), folder)
    assert parameters["pooler.dense.kernel"] is tuned["pooler.dense.kernel"]


def test_a_base_of_another_architecture(folder, base):
    other = ModelDescription(base[0].architecture.__class__())
    with pytest.raises(UserError, match="has another architecture than it was trained on"):
        attach((other, base[1]), folder)


def test_folders_that_lack_something(folder, tmp_path):
    assert not is_adapter_folder(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_adapter(tmp_path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"holds neither adapter_model\.safetensors nor adapter_model\.bin"):
        read_adapter(folder)
    save_file({"base_model.model.classifier.bias": np.zeros(2, np.float32)}, folder / WEIGHTS)
    with pytest.raises(UserError, match="holds no low-rank adapters"):
        read_adapter(folder)
    (folder / CONFIG).write_text("[]")
    with pytest.raises(UserError, match="is not a JSON object"):
        read_adapter(folder)
