"""A model written and read back, and the folders that are no model."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, read_description, read_weights, write_model
from dnabert2_jax.model.parameters import split
from dnabert2_jax.model.released import from_released

ARCHITECTURE = Architecture(
    vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
)


@pytest.mark.parametrize("class_names", [None, ("no", "yes")])
def test_round_trip(tmp_path, class_names):
    description = ModelDescription(ARCHITECTURE, class_names)
    _, parameters = split(description.build(nnx.Rngs(1)))
    write_model(tmp_path, description, parameters)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert read_description(tmp_path) == description
    _, shapes = description.abstract()
    found, missing, unused = from_released(read_weights(tmp_path), shapes, "file")
    assert (missing, unused) == ([], [])
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
        (b"{}", "vocab_size is None"),
    ],
)
def test_a_folder_without_a_usable_configuration(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=complaint) as raised:
        read_description(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


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
    with pytest.raises(UserError, match=r"model\.safetensors: is not a readable safetensors file"):
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
