"""Our reader and writer of safetensors against the library's, and the files that are refused."""

import io
import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save, save_file

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.safetensors_file import read_safetensors, write_safetensors

FLOAT = np.dtype(np.float32)


def written(arrays, dtype=FLOAT, **metadata) -> bytes:
    file = io.BytesIO()
    write_safetensors(file, arrays, dtype, metadata)
    return file.getvalue()


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"b.weight": (3, 4), "a": (5,), "ü": (2, 3, 4), "scalar": (), "one": (1, 1)}
    return {name: np.asarray(rng.standard_normal(shape), np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8]
)
def test_what_is_written_is_what_the_library_writes(dtype):
    arrays = {name: array.astype(dtype) for name, array in some_arrays().items()}
    assert written(arrays, np.dtype(dtype), format="pt") == save(arrays, {"format": "pt"})


def test_transposed_and_narrower_arrays_are_written_as_they_look():
    arrays = some_arrays()
    turned = {name: array.T.astype(np.float16) for name, array in arrays.items()}
    straight = {name: array.astype(np.float32, order="C") for name, array in turned.items()}
    assert written(turned, format="pt") == save(straight, {"format": "pt"})


@pytest.mark.parametrize(
    "dtype",
    [
        np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint64, np.int32, np.uint32,
        np.int16, np.uint16, np.int8, np.uint8, np.bool_,
    ],
)  # fmt: skip
def test_what_the_library_writes_is_read(tmp_path, dtype):
    arrays = {name: np.asarray(3 * array).astype(dtype) for name, array in some_arrays().items()}
    save_file(arrays, tmp_path / "a.safetensors")
    found = read_safetensors(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def file_of(header: dict | str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    if isinstance(header, dict):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape=(2,), offsets=(0, 8), dtype: object = "F32", **more) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


EIGHT = bytes(8)
NESTED = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
ONE = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"abc", "cut short"),
        (file_of({"a": entry()}, EIGHT)[:30], "cut short"),
        (file_of({"a": entry()}, EIGHT[:5]), "cut short"),
        (file_of({"a": entry()}, EIGHT, length=2 << 30), "header of 2147483648 bytes"),
        (file_of({"a": entry()}, EIGHT, length=2**64 - 1), "header of 18446744073709551615 bytes"),
        (file_of({"a": entry()}, EIGHT, length=0), "not a JSON object"),
        (file_of({"a": entry()}, EIGHT, length=20), "not JSON"),
        (file_of("[1, 2]"), "not a JSON object"),
        (file_of(" {}"), "not a JSON object"),
        (file_of(b"{\xff}"), "not JSON"),
        (file_of('{"\\ud800":1}'), "not JSON"),
        (file_of(NESTED), "not JSON"),
        (file_of("{" + ONE + "," + ONE + "}", EIGHT), "names 'a' twice"),
        (file_of('{"a":{"dtype":"F32",' + ONE[5:] + "}", EIGHT), "names 'dtype' twice"),
        (file_of('{"__metadata__":{"x":"1","x":"2"}}'), "names 'x' twice"),
        (file_of({"__metadata__": {"x": 1}}), "metadata are not texts"),
        (file_of({"__metadata__": None}), "metadata are not texts"),
        (file_of({"a": entry(), "b": entry()}, EIGHT), "overlaps"),
        (file_of({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "overlaps"),
        (file_of({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "leaves a gap"),
        (file_of({"a": entry(offsets=(8, 16))}, bytes(16)), "leaves a gap"),
        (file_of({"a": entry()}, bytes(9)), "1 bytes belong to no array"),
        (file_of({}, bytes(9)), "9 bytes belong to no array"),
        (file_of({"a": entry(offsets=(-8, 0))}, EIGHT), "impossible offsets"),
        (file_of({"a": entry(offsets=(8, 0))}, EIGHT), "another size"),
        (file_of({"a": entry(offsets=(2**63, 2**63 + 8))}, EIGHT), "impossible offsets"),
        (file_of({"a": entry(offsets=(0, 8, 8))}, EIGHT), "impossible offsets"),
        (file_of({"a": entry(offsets=(0.0, 8.0))}, EIGHT), "impossible offsets"),
        (file_of({"a": entry(offsets=(False, 8))}, EIGHT), "impossible offsets"),
        (file_of({"a": entry(shape=(3,))}, EIGHT), "another size"),
        (file_of({"a": entry(shape=(-2,))}, EIGHT), "impossible shape"),
        (file_of({"a": entry(shape=(-1, -2))}, EIGHT), "impossible shape"),
        (file_of({"a": entry(shape=(2**40, 2**40))}, EIGHT), "another size"),
        (file_of({"a": entry(shape=(0,), offsets=(0, 0))}), "impossible shape"),
        (file_of({"a": entry(shape=(1,) * 9, offsets=(0, 4))}, bytes(4)), "impossible shape"),
        (file_of({"a": entry(shape="2")}, EIGHT), "impossible shape"),
        (file_of({"a": entry(dtype="F128")}, EIGHT), "type 'F128'"),
        (file_of({"a": entry(dtype=["F32"])}, EIGHT), "type"),
        (file_of({"a": entry(more=1)}, EIGHT), "not described"),
        (file_of({"a": {"dtype": "F32"}}, EIGHT), "not described"),
        (file_of({"a": 7}), "not described"),
        (b"PK\x03\x04" + bytes(100), "claims a header"),
        (b"<!DOCTYPE html><html>not found</html>", "claims a header"),
        (b"version https://git-lfs.github.com/spec/v1\n", "claims a header"),
    ],
)
def test_what_is_no_sound_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.safetensors: .*{reason}") as raised:
        read_safetensors(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_every_truncation_is_refused(tmp_path):
    whole = save(some_arrays())
    for length in range(len(whole)):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors"):
            read_safetensors(tmp_path / "cut.safetensors")


NUMBERS = st.sampled_from([-1, 0, 1, 2, 4, 8, 12, 2**31, 2**63, 2**64, 1.0, True, None])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "BOOL", "F64", "F31", 1]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2),
    }
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "", "__metadata__"]),
    ENTRIES | st.just(entry()) | st.just(entry(offsets=(8, 16))) | st.just({"x": "y"}),
)


@given(header=HEADERS, size=st.sampled_from([0, 1, 4, 8, 12, 16]), spaces=st.integers(0, 8))
def test_what_is_read_the_library_reads_too(header, size, spaces, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "made_up.safetensors"
    path.write_bytes(file_of(json.dumps(header) + " " * spaces, bytes(range(size))))
    try:
        found = read_safetensors(path)
    except UserError:
        return
    check_against_library(found, path.read_bytes())


def check_against_library(found: dict[str, np.ndarray], content: bytes) -> None:
    expected = load(content)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
