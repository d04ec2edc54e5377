"""The released keys and shapes, and config.json, against the table of the released checkpoint."""

import json

import numpy as np
import pytest

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.released import (
    architecture_from_config,
    class_names_from_config,
    config_from_architecture,
    from_released,
    refuse_other_models,
    to_released,
    with_released_prefixes,
)


def released_table() -> dict[str, tuple[int, ...]]:
    """The state dict of the released masked-language model: key and shape."""
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (4096, 768),
        "bert.embeddings.token_type_embeddings.weight": (2, 768),
        "bert.embeddings.LayerNorm.weight": (768,),
        "bert.embeddings.LayerNorm.bias": (768,),
        "cls.predictions.transform.dense.weight": (768, 768),
        "cls.predictions.transform.dense.bias": (768,),
        "cls.predictions.transform.LayerNorm.weight": (768,),
        "cls.predictions.transform.LayerNorm.bias": (768,),
        "cls.predictions.decoder.weight": (4096, 768),
        "cls.predictions.decoder.bias": (4096,),
    }
    for layer in range(12):
        prefix = f"bert.encoder.layer.{layer}"
        shapes |= {
            f"{prefix}.attention.self.Wqkv.weight": (2304, 768),
            f"{prefix}.attention.self.Wqkv.bias": (2304,),
            f"{prefix}.attention.output.dense.weight": (768, 768),
            f"{prefix}.attention.output.dense.bias": (768,),
            f"{prefix}.attention.output.LayerNorm.weight": (768,),
            f"{prefix}.attention.output.LayerNorm.bias": (768,),
            f"{prefix}.mlp.gated_layers.weight": (6144, 768),
            f"{prefix}.mlp.wo.weight": (768, 3072),
            f"{prefix}.mlp.wo.bias": (768,),
            f"{prefix}.mlp.layernorm.weight": (768,),
            f"{prefix}.mlp.layernorm.bias": (768,),
        }
    return shapes


def blank(description: ModelDescription) -> dict[str, np.ndarray]:
    """Parameters that take no memory."""
    _, shapes = description.abstract()
    return {name: np.broadcast_to(np.float32(0), shape.shape) for name, shape in shapes.items()}


def test_the_masked_language_model_has_the_142_released_keys():
    state = to_released(blank(ModelDescription(Architecture())))
    assert len(state) == 142
    assert {key: array.shape for key, array in state.items()} == released_table()


def test_a_classifier_has_a_pooler_and_no_masked_language_model_head():
    state = to_released(blank(ModelDescription(Architecture(), ("a", "b", "c"))))
    extra = {
        "bert.pooler.dense.weight": (768, 768),
        "bert.pooler.dense.bias": (768,),
        "classifier.weight": (3, 768),
        "classifier.bias": (3,),
    }
    encoder = {key: shape for key, shape in released_table().items() if key.startswith("bert.")}
    assert {key: array.shape for key, array in state.items()} == encoder | extra


@pytest.fixture
def description() -> ModelDescription:
    return ModelDescription(
        Architecture(vocab_size=16, hidden_size=8, num_attention_heads=2, intermediate_size=12)
    )


@pytest.fixture
def parameters(description) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    _, shapes = description.abstract()
    return {name: rng.standard_normal(shape.shape).astype(np.float32) for name, shape in shapes.items()}


def test_there_and_back_changes_nothing(description, parameters):
    _, shapes = description.abstract()
    found, missing, unused = from_released(to_released(parameters), shapes, "file")
    assert (missing, unused) == ([], [])
    assert found.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(found[name], array)


def test_missing_and_foreign_keys_are_told_apart(description, parameters):
    _, shapes = description.abstract()
    state = to_released(parameters) | {"bert.position_embeddings.weight": np.zeros((2, 2), np.float32)}
    del state["bert.encoder.layer.3.mlp.wo.bias"]
    found, missing, unused = from_released(state, shapes, "file")
    assert missing == ["encoder.blocks.3.feed_forward.output.bias"]
    assert unused == ["bert.position_embeddings.weight"]
    assert found.keys() == parameters.keys() - set(missing)


def test_a_checkpoint_without_the_written_out_decoder_is_read(description, parameters):
    _, shapes = description.abstract()
    state = to_released(parameters)
    del state["cls.predictions.decoder.weight"]
    assert from_released(state, shapes, "file")[1:] == ([], [])


def test_an_untied_decoder_is_refused(description, parameters):
    _, shapes = description.abstract()
    state = to_released(parameters)
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    with pytest.raises(UserError, match=r"^file: cls\.predictions\.decoder\.weight differs"):
        from_released(state, shapes, "file")


def test_another_shape_is_refused_by_key(description, parameters):
    _, shapes = description.abstract()
    state = to_released(parameters)
    state["bert.encoder.layer.1.mlp.gated_layers.weight"] = np.zeros((12, 8), np.float32)
    with pytest.raises(
        UserError, match=r"^file: bert\.encoder\.layer\.1\.mlp\.gated_layers\.weight has shape \(12, 8\)"
    ):
        from_released(state, shapes, "file")


def test_the_released_configuration_is_the_default_architecture(shared):
    config = json.loads((shared / "golden" / "config.json").read_text())
    assert architecture_from_config(config, "config") == Architecture()


def test_a_written_configuration_says_what_the_released_one_says(shared):
    released = json.loads((shared / "golden" / "config.json").read_text())
    ours = config_from_architecture(Architecture(), None, "single_label_classification")
    told_apart = {"_name_or_path", "architectures", "auto_map", "transformers_version"}
    assert {key: ours.get(key) for key in released if key not in told_apart} == {
        key: value for key, value in released.items() if key not in told_apart
    }
    # With the repository named, the folder loads in PyTorch without a copy of its code.
    assert ours["auto_map"] == {
        key: f"zhihan1996/DNABERT-2-117M--{value}"
        for key, value in released["auto_map"].items()
        if key in ours["auto_map"]
    }


def test_class_names_survive_in_order():
    names = tuple(f"class {index}" for index in range(12))
    config = json.loads(
        json.dumps(
            config_from_architecture(Architecture(), names, "single_label_classification"), sort_keys=True
        )
    )
    assert class_names_from_config(config, "config") == names
    assert (
        class_names_from_config(
            config_from_architecture(Architecture(), None, "single_label_classification"), "config"
        )
        is None
    )


def released_config(**changes) -> dict:
    config = config_from_architecture(Architecture(), None, "single_label_classification") | changes
    return {key: value for key, value in config.items() if value != "left out"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_attention_heads": 7}, "does not divide"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"vocab_size": "left out"}, "gives no vocab_size"),
        ({"layer_norm_eps": None}, "gives no layer_norm_eps"),
        ({"vocab_size": "4096"}, "vocab_size is '4096'"),
        ({"hidden_size": 768.0}, "hidden_size is 768.0"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"hidden_size": 12 * 10**30}, "hidden_size is 12"),
        ({"layer_norm_eps": 10**400}, "layer_norm_eps is far too large"),
        ({"model_type": "esm"}, r"the type 'esm' \(as Nucleotide Transformer\), not a DNABERT-2"),
        ({"model_type": "gpt2", "vocab_size": None}, "the type 'gpt2', not a DNABERT-2 model"),
        ({"model_type": ["bert"]}, r"the type \['bert'\]"),
    ],
)
def test_other_configurations_are_refused(changes, complaint):
    with pytest.raises(UserError, match=f"^config.json: .*{complaint}"):
        architecture_from_config(released_config(**changes), "config.json")


@pytest.mark.parametrize("absent", ["alibi_starting_size", "model_type", "hidden_act", "auto_map"])
def test_what_changes_no_number_may_be_absent(absent):
    assert architecture_from_config(released_config(**{absent: "left out"}), "file") == Architecture()


def test_attention_dropout_is_told_of_and_taken_as_none():
    with pytest.warns(InputWarning, match=r"^file: attention_probs_dropout_prob is 0\.1, which counts in"):
        found = architecture_from_config(released_config(attention_probs_dropout_prob=0.1), "file")
    assert found == Architecture()


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("part", ["", "bert."])
def test_keys_of_a_wrapped_model_and_of_the_encoder_alone(parameters, prefix, part):
    state = to_released(parameters)
    saved = {f"{prefix}{key.removeprefix(part)}": array for key, array in state.items()}
    assert with_released_prefixes(saved).keys() == state.keys()


def test_a_prefix_is_added_only_where_none_is(parameters):
    state = to_released(parameters) | {"encoder.layer.0.extra": np.zeros(3)}
    assert with_released_prefixes(state).keys() == state.keys()


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("bert.encoder.layer.0.attention.self.query.weight", r"position embeddings .* \(as DNABERT-1\)"),
        ("bert.embeddings.position_embeddings.weight", r"position embeddings .* \(as DNABERT-1\)"),
        ("embeddings.position_embeddings.weight", r"position embeddings .* \(as DNABERT-1\)"),
        ("esm.encoder.layer.0.attention.self.query.weight", "Nucleotide Transformer"),
    ],
)
def test_well_known_other_models_are_refused_by_name(key, model):
    with pytest.raises(UserError, match=f"^file: holds an? .*{model}.*, not a DNABERT-2 model: it has {key}"):
        refuse_other_models(["cls.predictions.decoder.bias", key], "file")
    refuse_other_models(released_table(), "file")
    refuse_other_models(["bert.embeddings.position_ids"], "file")


def test_weights_that_are_no_fractions_are_refused(description, parameters):
    _, shapes = description.abstract()
    state = to_released(parameters)
    state["bert.embeddings.LayerNorm.bias"] = np.zeros(8, np.int64)
    with pytest.raises(UserError, match=r"bert\.embeddings\.LayerNorm\.bias has the type int64"):
        from_released(state, shapes, "file")


@pytest.mark.parametrize("labels", [{}, {"0": "a", "2": "b"}, ["a", "b"], {"1": "a"}])
def test_labels_without_a_full_set_of_numbers_are_refused(labels):
    config = released_config(architectures=["BertForSequenceClassification"], id2label=labels)
    with pytest.raises(UserError, match=r"^config.json: id2label"):
        class_names_from_config(config, "config.json")


def test_tasks_that_are_no_list_are_refused():
    with pytest.raises(UserError, match=r"^config.json: architectures is 'BertForMaskedLM'"):
        class_names_from_config(released_config(architectures="BertForMaskedLM"), "config.json")


def test_a_configuration_that_names_no_task_is_a_masked_language_model():
    assert class_names_from_config(released_config(architectures=None), "config.json") is None
