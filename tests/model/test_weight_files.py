"""Which files a folder's weights are read from, and folders with several of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_pickles import write_torch_file

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.weight_files import find_weights, read_json_object, read_weights

STATE = {f"layer.{index}": np.full((2, 3), index, np.float32) for index in range(5)}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PLACES = {key: FIRST if key < "layer.3" else SECOND for key in STATE}


def write_shards(folder: Path, places=PLACES, save=save_file, name="model.safetensors") -> Path:
    """The shards of PLACES, and an index that says `places`."""
    for shard in sorted(set(PLACES.values())):
        content = {key: STATE[key] for key, place in PLACES.items() if place == shard}
        if save is save_file:
            save_file(content, folder / shard)
        else:
            save(folder / shard.replace("model", "pytorch_model").replace("safetensors", "bin"), content)
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 120}, "weight_map": places}))
    return index


def check(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == STATE.keys()
    for key, array in STATE.items():
        np.testing.assert_array_equal(found[key], array)


def test_shards_make_one_model(tmp_path):
    write_shards(tmp_path)
    check(read_weights(tmp_path))


def test_shards_of_pickles_too(tmp_path):
    places = {
        key: place.replace("model", "pytorch_model").replace("safetensors", "bin")
        for key, place in PLACES.items()
    }
    write_shards(tmp_path, places, write_torch_file, "pytorch_model.bin")
    check(read_weights(tmp_path))


def test_one_safe_file_goes_before_all_others(tmp_path):
    names = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]
    for name in reversed(names):
        (tmp_path / name).write_bytes(b"x")
        assert find_weights(tmp_path).name == name


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({**PLACES, "layer.9": FIRST}, f"{FIRST} does not hold 'layer.9', which it places there"),
        ({key: place for key, place in PLACES.items() if key != "layer.4"}, f"{SECOND} holds 'layer.4'"),
        ({**PLACES, "layer.4": FIRST}, f"{FIRST} does not hold 'layer.4'"),
        ({**PLACES, "layer.9": "model-00003.safetensors"}, "no such file"),
        ({**PLACES, "layer.9": "../model.safetensors"}, "not a file beside it"),
        ({**PLACES, "layer.9": "/etc/passwd"}, "not a file beside it"),
        ({**PLACES, "layer.9": ".."}, "not a file beside it"),
        ({**PLACES, "layer.9": ""}, "not a file beside it"),
        ({**PLACES, "layer.9": "a\\b"}, "not a file beside it"),
        ({**PLACES, "layer.9": "a\0b"}, "not a file beside it"),
        ({**PLACES, "layer.9": None}, "not a file beside it"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_files(tmp_path, places, reason):
    write_shards(tmp_path, places)
    with pytest.raises(UserError, match=reason):
        read_weights(tmp_path)


def test_a_key_in_two_shards_is_refused(tmp_path):
    write_shards(tmp_path)
    save_file({key: STATE[key] for key in ("layer.0", "layer.3", "layer.4")}, tmp_path / SECOND)
    with pytest.raises(UserError, match=rf"{SECOND} holds 'layer\.0', which it does not place there"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a":1,"a":2}', "names 'a' twice"),
        (b"[" * 1_000_000, "is not JSON"),
        (b'{"a":' + b"9" * 5_000 + b"}", "is not JSON"),
        (b"{" + b" " * (1 << 22) + b"}", "longer than"),
    ],
    ids=["empty", "list", "twice", "deep", "long number", "long"],
)
def test_json_that_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: .*{reason}"):
        read_json_object(tmp_path / "a.json")


def test_keys_that_a_terminal_would_obey_are_refused(tmp_path):
    save_file({"a\x1b[2Jb": STATE["layer.0"]}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"called 'a\\x1b\[2Jb'"):
        read_weights(tmp_path)
