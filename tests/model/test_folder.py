"""A model written and read back, and the folders that are no model."""

import json
import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, read_description, read_parameters, write_model
from dnabert2_jax.model.parameters import split
from dnabert2_jax.model.released import config_from_architecture, to_released
from dnabert2_jax.model.weight_files import read_weights

ARCHITECTURE = Architecture(
    vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
)


@pytest.mark.parametrize("class_names", [None, ("no", "yes")])
def test_round_trip(tmp_path, class_names):
    description = ModelDescription(ARCHITECTURE, class_names)
    _, parameters = split(description.build(nnx.Rngs(1)))
    write_model(tmp_path, description, parameters)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}
    assert read_description(tmp_path) == description
    found, missing = read_parameters(tmp_path, description)
    assert missing == []
    assert found.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_file_says_that_it_holds_pytorch_arrays_in_float32(tmp_path):
    description = ModelDescription(ARCHITECTURE)
    _, parameters = split(description.build(nnx.Rngs(1)))
    half = {name: array.astype(jnp.bfloat16) for name, array in parameters.items()}
    write_model(tmp_path, description, half)
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    assert {array.dtype for array in read_weights(tmp_path).values()} == {np.dtype(np.float32)}


def test_writing_twice_gives_the_same_bytes(tmp_path):
    description = ModelDescription(ARCHITECTURE)
    _, parameters = split(description.build(nnx.Rngs(1)))
    for folder in ("first", "second"):
        write_model(tmp_path / folder, description, dict(reversed(parameters.items())))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "holds no config.json"),
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[1, 2]", "is not a JSON object"),
        (b"{}", "gives no vocab_size"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"vocab_size": 16, "vocab_size": 64}', "names 'vocab_size' twice"),
    ],
)
def test_a_folder_without_a_usable_configuration(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=complaint) as raised:
        read_description(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


VALUES = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2,
        2**70,
        10**400,
        0.5,
        math.nan,
        math.inf,
        "",
        "gelu",
        [],
        ["BertForSequenceClassification"],
    ]
) | st.dictionaries(st.sampled_from(["0", "1", "x"]), st.sampled_from(["a", 1, None]))


CONFIGURATION = config_from_architecture(ARCHITECTURE, ("no", "yes"), "single_label_classification")


@given(changes=st.dictionaries(st.sampled_from(sorted(CONFIGURATION)), VALUES, max_size=4))
@pytest.mark.filterwarnings("ignore::dnabert2_jax.errors.InputWarning")
def test_any_configuration_is_read_or_refused(tmp_path_factory, changes):
    folder = tmp_path_factory.getbasetemp()
    (folder / "config.json").write_text(json.dumps(CONFIGURATION | changes))
    try:
        read_description(folder)
    except UserError as error:
        assert str(folder) in str(error)  # noqa: PT017 (either outcome is right)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such model folder"):
        read_description(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither model\.safetensors nor"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "damage", ["empty", "cut short", "cut in the header", "no safetensors", "length beyond the file"]
)
def test_damaged_weights(tmp_path, damage):
    description = ModelDescription(ARCHITECTURE)
    _, parameters = split(description.build(nnx.Rngs(1)))
    write_model(tmp_path, description, parameters)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut short": whole[: len(whole) // 2],
            "cut in the header": whole[:20],
            "no safetensors": b"PK\x03\x04" + bytes(100),
            "length beyond the file": (2**62).to_bytes(8, "little") + whole[8:],
        }[damage]
    )
    with pytest.raises(UserError, match=r"model\.safetensors: is (empty|not a readable safetensors file)"):
        read_weights(tmp_path)


def test_weights_in_half_precision_are_read(tmp_path):
    array = np.linspace(-2, 2, 12).reshape(3, 4)
    for name in ("bfloat16", "float16", "float64"):
        save_file({"a": np.asarray(jnp.asarray(array), jnp.dtype(name))}, tmp_path / "model.safetensors")
        read = read_weights(tmp_path)["a"]
        assert read.dtype == jnp.dtype(name)
        np.testing.assert_allclose(read.astype(np.float64), array, atol=2**-8)


def test_config_json_is_plain_json(tmp_path):
    description = ModelDescription(ARCHITECTURE, ("no", "yes"))
    _, parameters = split(description.build(nnx.Rngs(1)))
    write_model(tmp_path, description, parameters)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert config["hidden_size"] == 8


@pytest.fixture
def parameters():
    return split(ModelDescription(ARCHITECTURE).build(nnx.Rngs(1)))[1]


def saved(folder, state, class_names=None) -> ModelDescription:
    """A folder with these released arrays, and the description that its weights are read for."""
    save_file(
        {key: np.ascontiguousarray(array) for key, array in state.items()}, folder / "model.safetensors"
    )
    return ModelDescription(ARCHITECTURE, class_names)


def test_what_we_write_and_what_was_released_give_no_notice(tmp_path, shared):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for class_names in (None, ("no", "yes")):
            description = ModelDescription(ARCHITECTURE, class_names)
            write_model(tmp_path, description, split(description.build(nnx.Rngs(1)))[1])
            read_parameters(tmp_path, read_description(tmp_path))
        for name in ("hf_tiny_mlm", "hf_tiny_cls"):
            folder = shared / "golden" / name
            read_parameters(folder, read_description(folder))


def test_a_classifier_from_a_masked_language_model_gets_a_head(tmp_path, parameters):
    description = saved(tmp_path, to_released(parameters), ("no", "yes"))
    with pytest.warns(InputWarning) as notices:
        found, missing = read_parameters(tmp_path, description)
    file, decoder = f"{tmp_path}/model.safetensors", "cls.predictions.decoder"
    assert [str(notice.message) for notice in notices] == [
        f"{file}: the weights lack the pooler and the classifier, which start at random: "
        "train before using them",
        f"{file}: not used: {decoder}.bias, {decoder}.weight, cls.predictions.transform.LayerNorm.bias "
        "and 3 more",
    ]
    heads = ["classifier.bias", "classifier.kernel", "pooler.dense.bias", "pooler.dense.kernel"]
    assert sorted(missing) == heads
    assert all(name.startswith("encoder.") for name in found)


def test_an_encoder_that_was_saved_alone(tmp_path, parameters):
    state = to_released(parameters)
    alone = {key.removeprefix("bert."): array for key, array in state.items() if key.startswith("bert.")}
    alone["pooler.dense.bias"] = np.zeros(8, np.float32)
    description = saved(tmp_path, alone)
    with pytest.warns(InputWarning) as notices:
        found, missing = read_parameters(tmp_path, description)
    messages = [str(notice.message) for notice in notices]
    assert messages[0].endswith(
        "lack the masked-language-model head, which starts at random: train before using it"
    )
    assert messages[1].endswith("not used: bert.pooler.dense.bias")
    assert {name.split(".")[0] for name in missing} == {"head"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, parameters[name])


@pytest.mark.parametrize(
    "key",
    [
        "bert.encoder.layer.0.mlp.wo.bias",
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias",
    ],
)
def test_weights_that_lost_an_array(tmp_path, parameters, key):
    state = to_released(parameters)
    del state[key]
    with pytest.raises(UserError, match=f"the weights lack {key}; download them again"):
        read_parameters(tmp_path, saved(tmp_path, state))


@pytest.mark.parametrize(
    "key",
    ["bert.encoder.layer.0.extra", "lm_head.weight", "bert.encoder.layer.x", "bert.embeddings.positions"],
)
def test_an_array_that_dnabert_2_does_not_have(tmp_path, parameters, key):
    state = to_released(parameters) | {key: np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=f"the weights hold {key}, which DNABERT-2 does not have"):
        read_parameters(tmp_path, saved(tmp_path, state))


def test_what_older_code_wrote_besides_is_told_of(tmp_path, parameters):
    extra = {
        "bert.embeddings.position_ids": np.arange(8)[None],
        "cls.seq_relationship.bias": np.zeros(2, np.float32),
    }
    description = saved(tmp_path, to_released(parameters) | extra)
    with pytest.warns(
        InputWarning, match="not used: bert.embeddings.position_ids, cls.seq_relationship.bias$"
    ):
        _, missing = read_parameters(tmp_path, description)
    assert missing == []


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_weights_with_other_layers_than_the_configuration(tmp_path, parameters, layers):
    saved(tmp_path, to_released(parameters))
    described = ModelDescription(
        Architecture(
            vocab_size=16,
            hidden_size=8,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=12,
        )
    )
    with pytest.raises(UserError, match=rf"the weights have 2 layers and config\.json describes {layers} "):
        read_parameters(tmp_path, described)


def test_weights_of_nothing_like_it(tmp_path):
    state = {f"h.{index}.attn.weight": np.zeros(3, np.float32) for index in range(5)}
    with pytest.raises(UserError, match=r"holds nothing of a DNABERT-2 model; it has h\.0.*and 2 more"):
        read_parameters(tmp_path, saved(tmp_path, state))
