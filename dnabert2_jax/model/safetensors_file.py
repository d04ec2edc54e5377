"""The safetensors format, strictly: a file in, its arrays mapped from it out, and the other way round.

The format is eight bytes of the header's length, a JSON header with each array's type, shape and place, and
the arrays one after another. Reading maps the file; writing holds one array at a time.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.mapped_file import copy_out, map_file
from dnabert2_jax.model.strict_json import JsonError, parse_object

# The format allows 100 MB. A header takes 150 bytes for each array, and parsed some twenty times its length.
_LONGEST_HEADER = 1 << 22
_LARGEST_RANK = 8
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}

_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class _Refused(Exception):
    """Why a file is not taken for a safetensors file."""


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads every array.

    Returns:
      Name → array, read-only views of the file that are read when they are used.

    Raises:
      UserError: the file is missing or truncated, or its header does not describe it byte for byte.
    """
    mapped = map_file(path)
    try:
        data, header = _header(mapped)
        return {
            name: np.ndarray(shape, dtype, buffer=mapped, offset=data + begin)
            for name, dtype, shape, begin in _arrays(header, len(mapped) - data)
        }
    except (_Refused, JsonError) as refusal:
        raise UserError(
            f"{path}: is not a readable safetensors file: {refusal}; download it again"
        ) from refusal


def _header(mapped) -> tuple[int, dict[str, Any]]:
    """Where the arrays begin, and what the header says."""
    if len(mapped) < 8:
        raise _Refused("it is cut short")
    (length,) = struct.unpack("<Q", mapped[:8])
    if length > _LONGEST_HEADER:
        raise _Refused(f"it claims a header of {length} bytes")
    if 8 + length > len(mapped):
        raise _Refused("it is cut short")
    header = mapped[8 : 8 + length]
    if not header.startswith(b"{"):
        raise _Refused("its header is not a JSON object")
    try:
        return 8 + length, parse_object(header)
    except JsonError as error:
        raise _Refused(f"its header {error}") from error


def _arrays(header: dict[str, Any], size: int) -> Iterator[tuple[str, np.dtype, tuple[int, ...], int]]:
    """Name, type, shape and first byte of each array; together they are all `size` bytes, each once."""
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Refused("its metadata are not texts")
    entries = [(*_entry(name, entry), name) for name, entry in header.items()]
    position = 0
    for begin, end, dtype, shape, name in sorted(entries, key=lambda entry: entry[0]):
        if begin != position:
            raise _Refused(f"{name[:80]!r} overlaps another array or leaves a gap")
        if end > size:
            raise _Refused(f"it is cut short: {name[:80]!r} reaches beyond its end")
        position = end
        yield name, dtype, shape, begin
    if position != size:
        raise _Refused(f"{size - position} bytes belong to no array")


def _entry(name: str, entry: Any) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise _Refused(f"{name[:80]!r} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise _Refused(f"{name[:80]!r} has the type {str(kind)[:20]!r}, which no model here is stored in")
    if not _are_counts(shape) or len(shape) > _LARGEST_RANK or 0 in shape:
        raise _Refused(f"{name[:80]!r} has an impossible shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _Refused(f"{name[:80]!r} has impossible offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * _TYPES[kind].itemsize:
        raise _Refused(f"{name[:80]!r} has another size than its shape tells")
    return begin, end, _TYPES[kind], tuple(shape)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def write_safetensors(
    file: IO[bytes], arrays: Mapping[str, Any], dtype: np.dtype, metadata: Mapping[str, str]
) -> None:
    """Writes arrays, holding one at a time: the bytes are those that the library writes.

    Args:
      file: open for writing.
      arrays: name → array with a shape, of NumPy or JAX, in any order of its axes in memory.
      dtype: what each is stored in.
      metadata: texts for the header, such as `format`.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    position = 0
    for name in sorted(arrays):
        shape = arrays[name].shape
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in sorted(arrays):
        file.write(copy_out(np.asarray(arrays[name]), dtype).reshape(-1).view(np.uint8).data)
