"""pytorch_model.bin is read without PyTorch, and nothing but a state dict is taken from a pickle."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.torch_file import read_torch_file

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape=(2, 3), strides=(3, 1), *, offset=0, numel=6, key="0", storage="FloatStorage") -> bytes:
    """The opcodes that torch.save writes for an array."""
    persistent_id = (
        text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(numel)
    )
    arguments = b"(" + persistent_id + b"tQ" + number(offset) + numbers(shape) + numbers(strides)
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + hooks + b"tR"


def state_dict(**values: bytes) -> bytes:
    items = b"".join(text(name) + value for name, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def write(path: Path, pickled: bytes, data: bytes = ARRAY.tobytes(), compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/byteorder", "little")
        archive.writestr("model/data/0", data)
    return path


def test_arrays_are_read_whole_transposed_and_in_part(tmp_path):
    pickled = state_dict(
        whole=tensor(), turned=tensor((3, 2), (1, 3)), row=tensor((3,), (1,), offset=3), scalar=tensor((), ())
    )
    found = read_torch_file(write(tmp_path / "model.bin", pickled))
    np.testing.assert_array_equal(found["whole"], ARRAY)
    np.testing.assert_array_equal(found["turned"], ARRAY.T)
    np.testing.assert_array_equal(found["row"], ARRAY[1])
    assert found["scalar"] == 0


def test_the_released_layout_gives_the_released_numbers(shared):
    folder = shared / "golden" / "hf_tiny_mlm"
    expected = np.load(folder / "expected.npz")
    model = from_pretrained(folder)
    ids, mask = (expected[name].astype(np.int32) for name in ("input_ids", "attention_mask"))
    np.testing.assert_allclose(model.hidden_states(ids, mask), expected["last_hidden_state"], atol=2e-5)
    real = mask.astype(bool)
    logits = np.asarray(model.mlm_logits(ids, mask))
    np.testing.assert_allclose(logits[real], expected["mlm_logits"][real], atol=1e-4)


class Malice:
    """An object whose pickle runs a command."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(os.system, ("touch ran",)), (eval, ("open('ran', 'w')",)), (getattr, ("a", "upper")), (print, ("x",))],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_something_is_refused_by_name(
    tmp_path, monkeypatch, function, arguments, protocol
):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps({"weight": Malice(function, *arguments)}, protocol)
    with pytest.raises(UserError, match=function.__name__):
        read_torch_file(write(tmp_path / "model.bin", pickled))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (state_dict(weight=tensor(numel=7)), "too short"),
        (state_dict(weight=tensor((2, 4))), "beyond its storage"),
        (state_dict(weight=tensor((2, 3), (3, -1))), "impossible shape"),
        (state_dict(weight=tensor((1 << 20, 1 << 20), (0, 0))), "more elements"),
        (state_dict(weight=tensor(offset=4)), "beyond its storage"),
        (state_dict(weight=tensor(key="1")), "does not hold"),
        (state_dict(weight=tensor(storage="UntypedStorage")), "UntypedStorage"),
        (state_dict(weight=text("word")), "not an array"),
        (state_dict(weight=tensor())[:-1], "damaged"),
        (b"\x80\x02" + number(3) + b".", "no dict"),
        (b"\x80\x02cposix\nsystem\n.", "posix.system"),
        (b"\x80\x02" + b"(" * 10 + b"u.", "damaged|not a dict"),
    ],
)
def test_what_is_not_a_sound_state_dict_is_refused(tmp_path, pickled, reason):
    with pytest.raises(UserError, match=reason):
        read_torch_file(write(tmp_path / "model.bin", pickled))


def test_other_files_are_refused(tmp_path):
    path = write(tmp_path / "model.bin", state_dict(weight=tensor()))
    whole = path.read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "legacy.bin").write_bytes(pickle.dumps({"weight": 1}))
    (tmp_path / "empty.bin").write_bytes(b"")
    write(tmp_path / "packed.bin", state_dict(weight=tensor()), compression=zipfile.ZIP_DEFLATED)
    for name in ("cut.bin", "legacy.bin", "empty.bin", "packed.bin", "absent.bin"):
        with pytest.raises(UserError, match=name):
            read_torch_file(tmp_path / name)


def test_mutated_files_are_read_or_refused(tmp_path):
    whole = write(tmp_path / "model.bin", state_dict(a=tensor(), b=tensor((3, 2), (1, 3)))).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "mutant.bin"
    for _ in range(2000):
        mutant = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        path.write_bytes(mutant[: rng.randint(1, len(mutant))] if rng.random() < 0.2 else mutant)
        try:
            found = read_torch_file(path)
        except UserError:
            continue
        assert sum(array.nbytes for array in found.values()) <= 2 * len(whole)
