"""pytorch_model.bin is read without PyTorch, and nothing but a state dict is taken from a pickle."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from torch_pickles import ARRAY, number, state_dict, tensor, text, write

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.torch_file import read_torch_file


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


NUMPY_RECONSTRUCT, NUMPY_ARGUMENTS, _ = np.zeros(2).__reduce__()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch ran",), "posix.system"),
        (eval, ("open('ran', 'w')",), "eval"),
        (exec, ("open('ran', 'w')",), "exec"),
        (getattr, ("a", "upper"), "getattr"),
        (print, ("x",), "print"),
        (NUMPY_RECONSTRUCT, NUMPY_ARGUMENTS, "_reconstruct"),
        (zipfile.ZipFile, ("ran", "w"), "zipfile"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["value", "key of a dict", "inside a tuple"])
def test_a_pickle_that_calls_something_is_refused_by_name(
    tmp_path, monkeypatch, function, arguments, name, protocol, place
):
    monkeypatch.chdir(tmp_path)
    malice = Malice(function, *arguments)
    content = {
        "value": {"weight": malice},
        "key of a dict": {"weight": {malice: 1}},
        "inside a tuple": {"weight": (1, (2, malice))},
    }[place]
    path = write(tmp_path / "model.bin", pickle.dumps(content, protocol))
    # Protocol 0 is refused for its first opcode, which torch.save never writes.
    with pytest.raises(UserError, match=name if protocol else "which no state dict needs|asks for"):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def test_names_inside_a_name_are_refused(tmp_path):
    for module, attribute in [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage.__reduce__"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils _rebuild_tensor_v2", ""),
        ("torch.serialization", "load"),
    ]:
        pickled = b"\x80\x04" + text(module) + text(attribute) + b"\x93."
        with pytest.raises(UserError, match="not part of a state dict"):
            read_torch_file(write(tmp_path / "model.bin", pickled))


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
        (b"\x80\x02}(" + (text("weight") + tensor()) * 2 + b"u.", "names 'weight' twice"),
        (b"\x80\x02}" * (1 << 19) + b".", "longer than a state dict's"),
        (b"\x80\x02ccollections\nOrderedDict\n}R.", "without arguments"),
        (b"\x80\x04" + text("torch") + b")" + b"\x85" * 100_000 + b"\x93.", "called by no name"),
        (b"\x80\x02}(" + text("a") + b"}r\x00\x00\x00\x00h\x00u.", "not a dict"),
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
    (tmp_path / "old.bin").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "page.bin").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    (tmp_path / "pointer.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    write(tmp_path / "packed.bin", state_dict(weight=tensor()), compression=zipfile.ZIP_DEFLATED)
    for name in ("cut", "legacy", "old", "empty", "page", "pointer", "packed", "absent"):
        with pytest.raises(UserError, match=rf"{name}\.bin") as raised:
            read_torch_file(tmp_path / f"{name}.bin")
        assert "\n" not in str(raised.value)


def test_tied_arrays_share_a_storage_and_a_model_does_not(tmp_path):
    data = np.arange(10_000, dtype=np.float32)
    alias = tensor((100, 100), (100, 1), numel=10_000)
    tied = write(tmp_path / "tied.bin", state_dict(word=alias, decoder=alias), data.tobytes())
    np.testing.assert_array_equal(read_torch_file(tied)["decoder"].reshape(-1), data)
    with pytest.raises(UserError, match="far more than the file holds"):
        read_torch_file(write(tmp_path / "bomb.bin", state_dict(a=alias, b=alias, c=alias), data.tobytes()))


def test_every_truncation_is_refused(tmp_path):
    whole = write(tmp_path / "model.bin", state_dict(weight=tensor())).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.bin").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.bin"):
            read_torch_file(tmp_path / "cut.bin")


@pytest.mark.parametrize("member", ["data.pkl", "byteorder", "data/0"])
def test_a_packed_member_is_refused_before_it_is_unpacked(tmp_path, member):
    contents = {
        "data.pkl": state_dict(weight=tensor()),
        "byteorder": b"little",
        "data/0": ARRAY.tobytes(),
    }
    contents[member] += bytes(50_000_000)  # packs to a thousandth
    with zipfile.ZipFile(tmp_path / "bomb.bin", "w") as archive:
        for name, content in contents.items():
            kind = zipfile.ZIP_DEFLATED if name == member else zipfile.ZIP_STORED
            archive.writestr(f"model/{name}", content, kind)
    with pytest.raises(UserError, match="compressed"):
        read_torch_file(tmp_path / "bomb.bin")


def test_archives_that_torch_never_writes(tmp_path):
    def refused(members: dict[str, bytes], reason: str) -> None:
        with zipfile.ZipFile(tmp_path / "model.bin", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        with pytest.raises(UserError, match=reason):
            read_torch_file(tmp_path / "model.bin")

    pickled = state_dict(weight=tensor())
    refused({}, "not one that torch.save writes")
    refused({"a/data.pkl": pickled, "b/data.pkl": pickled}, "not one that torch.save writes")
    refused({"a/data.pkl": pickled, "b/data/0": ARRAY.tobytes()}, "'data/0', which it does not hold")
    refused({"a/data.pkl": pickled, "a/byteorder": b"big"}, "big-endian")
    refused({f"a/data/{index}": b"" for index in range(20_000)}, "directory far longer")
    outside = state_dict(weight=tensor(key="../../secret"))
    (tmp_path / "secret").write_bytes(ARRAY.tobytes())
    refused({"a/data.pkl": outside, "a/data/0": ARRAY.tobytes()}, "which it does not hold")
    refused({"a/data.pkl": outside, "a/data/../../secret": b""}, "too short")


def test_a_member_whose_header_lies_elsewhere(tmp_path):
    whole = bytearray(write(tmp_path / "model.bin", state_dict(weight=tensor())).read_bytes())
    entry = whole.rindex(b"PK\x01\x02")  # of the storage
    for offset in (1, len(whole) - 40, 0xFFFFFFF0):
        struct.pack_into("<I", whole, entry + 42, offset)
        (tmp_path / "moved.bin").write_bytes(whole)
        with pytest.raises(UserError, match=r"moved\.bin"):
            read_torch_file(tmp_path / "moved.bin")


def test_half_precision_and_parameters_are_read(tmp_path):
    values = ARRAY.astype(np.float16)
    found = read_torch_file(
        write(tmp_path / "half.bin", state_dict(weight=tensor(storage="HalfStorage")), values.tobytes())
    )
    np.testing.assert_array_equal(found["weight"], values)
    wrapped = b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88ccollections\nOrderedDict\n)RtR"
    found = read_torch_file(write(tmp_path / "parameter.bin", state_dict(weight=wrapped)))
    np.testing.assert_array_equal(found["weight"], ARRAY)


def test_nothing_can_be_written_through_what_is_read(tmp_path):
    found = read_torch_file(write(tmp_path / "model.bin", state_dict(weight=tensor())))
    with pytest.raises(ValueError, match="read-only"):
        found["weight"][0, 0] = 1
