"""Reads pytorch_model.bin without PyTorch and without running a pickle.

In: the zip archive that `torch.save` writes for a state dict. Out: its arrays, mapped from the file. The
pickle inside is read opcode by opcode by a machine that can build dicts, tuples, strings, numbers and
tensors, and refuses everything else by name; nothing is imported or called.
"""

import math
import mmap
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.mapped_file import map_file

# An array takes some 120 bytes of a state dict's pickle, and as many of the archive's directory. A byte of
# either can make a reader build some tens.
_LONGEST_PICKLE = 1 << 20
_LONGEST_DIRECTORY = 1 << 20
_LARGEST_RANK = 8

_STORAGES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
_REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
_ORDERED_DICT = "collections OrderedDict"
_GLOBALS = {*_STORAGES, _REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT}


class _Refused(Exception):
    """Why a pickle is not that of a state dict."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    numel: int


_MARK = object()


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict.

    Args:
      path: written by `torch.save(model.state_dict(), path)`, in the zip format of PyTorch 1.6 and later.

    Returns:
      Name → array, read-only views of the file that are read when they are used.

    Raises:
      UserError: the file is missing, damaged or truncated, or its pickle holds anything but a state dict.
    """
    mapped = map_file(path)
    try:
        members = _Members(mapped, _directory(path))
        found = _state_dict(members.pickle(), members)
    except _Refused as refusal:
        raise UserError(f"{path}: {refusal}") from refusal
    if sum(array.nbytes for array in found.values()) > 2 * len(mapped):
        # Tied arrays share a storage; more would let a small file stand for a model of any size.
        raise UserError(f"{path}: its arrays are far more than the file holds; it is no state dict")
    return found


def _directory(path: str | Path) -> list[zipfile.ZipInfo]:
    try:
        with _BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        struct.error,
    ) as error:
        raise _Refused(
            f"is not a file of PyTorch 1.6 or later, or is truncated ({error}); download it again"
        ) from error


class _BoundedFile(BufferedReader):
    """A file whose archive directory is bounded: it is read at once, and then takes many times its size."""

    def __init__(self, path: str | Path):
        super().__init__(FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _LONGEST_DIRECTORY + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, _LONGEST_DIRECTORY + 1))
        if len(data) > _LONGEST_DIRECTORY:
            raise _Refused("its archive has a directory far longer than a state dict's")
        return data


class _Members:
    """What the archive holds, as parts of the mapped file. Nothing is unpacked."""

    def __init__(self, mapped: mmap.mmap, entries: list[zipfile.ZipInfo]):
        self._mapped = mapped
        self._entries = {entry.filename: entry for entry in entries}
        pickles = [name for name in self._entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(self._entries) != len(entries):
            raise _Refused("is a zip archive, but not one that torch.save writes")
        self._folder = pickles[0].removesuffix("data.pkl")

    def pickle(self) -> bytes:
        """The pickle that says which arrays there are."""
        if f"{self._folder}byteorder" in self._entries:
            begin, size = self._place("byteorder")
            if self._mapped[begin : begin + min(size, 9)] != b"little":
                raise _Refused("was written on a big-endian machine")
        begin, size = self._place("data.pkl")
        if size > _LONGEST_PICKLE:
            raise _Refused("its pickle is far longer than a state dict's")
        return self._mapped[begin : begin + size]

    def array(self, storage: _Storage, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
        """Some of a storage's numbers; offset and strides count numbers, and stay inside the storage."""
        begin, size = self._place(f"data/{storage.key}")
        width = storage.dtype.itemsize
        if size < storage.numel * width:
            raise _Refused(f"the storage {storage.key[:40]!r} is too short")
        steps = [stride * width for stride in strides]
        return np.ndarray(shape, storage.dtype, self._mapped, begin + offset * width, steps)

    def _place(self, name: str) -> tuple[int, int]:
        """First byte and size of a member."""
        entry = self._entries.get(self._folder + name)
        if entry is None:
            raise _Refused(f"refers to {name[:40]!r}, which it does not hold")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise _Refused(f"{name[:40]!r} is compressed or encrypted, which torch.save never does")
        # A member's bytes follow its local header, whose last two fields have lengths of their own.
        header = (
            self._mapped[entry.header_offset : entry.header_offset + 30] if entry.header_offset >= 0 else b""
        )
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise _Refused(f"{name[:40]!r} has no header where the archive says")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        begin = entry.header_offset + 30 + name_length + extra_length
        if begin + entry.file_size > len(self._mapped):
            raise _Refused(f"{name[:40]!r} reaches beyond the end of the file")
        return begin, entry.file_size


def _state_dict(pickled: bytes, members: _Members) -> dict[str, np.ndarray]:
    found = _run(pickled, members)
    if not isinstance(found, dict):
        raise _Refused("holds no dict of arrays")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise _Refused(f"holds {str(name)[:40]!r}, which is not an array; it is no state dict")
    return found


def _run(pickled: bytes, members: _Members) -> Any:
    """Runs the pickle machine on the opcodes that a state dict needs."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name == "STOP":
                return stack.pop()
            if name in ("PROTO", "FRAME"):
                continue
            if name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                stack.append(argument)
            elif name == "MARK":
                stack.append(_MARK)
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]  # pyright: ignore[reportArgumentType]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])  # pyright: ignore[reportArgumentType]
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == "TUPLE":
                stack.append(tuple(_to_mark(stack)))
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                _put(stack[-1], [key, value])
            elif name == "SETITEMS":
                items = _to_mark(stack)
                _put(stack[-1], items)
            elif name == "GLOBAL":
                stack.append(_global(str(argument)))
            elif name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise _Refused("its pickle is damaged (something is called by no name)")
                stack.append(_global(f"{module} {attribute}"))
            elif name == "BINPERSID":
                stack.append(_storage(stack.pop()))
            elif name == "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuild(function, arguments, members))
            elif name == "BUILD":
                # A state dict carries version numbers of its modules, which say nothing of the arrays.
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise _Refused("its pickle sets the state of something that is not a dict")
            else:
                raise _Refused(f"its pickle asks for {name}, which no state dict needs")
    except (IndexError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise _Refused(f"its pickle is damaged ({error})") from error
    raise _Refused("its pickle does not end")


_CONSTANTS = {
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
}
_LITERALS = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}


def _to_mark(stack: list[Any]) -> list[Any]:
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is _MARK:
            items = stack[place + 1 :]
            del stack[place:]
            return items
    raise _Refused("its pickle is damaged (no mark)")


def _put(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise _Refused("its pickle puts items into something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise _Refused("its pickle holds a dict whose keys are not names")
        if key in target:
            raise _Refused(f"its pickle names {key[:80]!r} twice")
        target[key] = value


def _global(name: str) -> _Global:
    if name not in _GLOBALS:
        raise _Refused(
            f"its pickle asks for {name.replace(' ', '.')[:80]!r}, which is not part of a state dict"
        )
    return _Global(name)


def _storage(persistent_id: Any) -> _Storage:
    kind, storage, key, _, numel = persistent_id
    if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
        raise _Refused("its pickle refers to something that is not a storage of numbers")
    if not isinstance(key, str) or not _is_count(numel):
        raise _Refused("its pickle names a storage wrongly")
    return _Storage(key, _STORAGES[storage.name], numel)


def _rebuild(function: Any, arguments: Any, members: _Members) -> Any:
    name = function.name if isinstance(function, _Global) else None
    if not isinstance(arguments, tuple):
        raise _Refused("its pickle is damaged (a call without arguments)")
    if name == _ORDERED_DICT and not arguments:
        return {}
    if name == _REBUILD_TENSOR and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        return _tensor(storage, offset, shape, strides, members)
    if name == _REBUILD_PARAMETER and isinstance(arguments[0], np.ndarray):
        return arguments[0]
    raise _Refused(f"its pickle calls {name or 'something'} in a way that no state dict does")


def _tensor(storage: _Storage, offset: Any, shape: Any, strides: Any, members: _Members) -> np.ndarray:
    sizes = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _LARGEST_RANK or not all(map(_is_count, sizes)):
        raise _Refused("its pickle gives an array an impossible shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.numel:
        raise _Refused("its pickle gives an array a shape beyond its storage")
    # Strides of 0 or overlapping ones would let a small file stand for arrays of any size.
    if math.prod(shape) > storage.numel:
        raise _Refused("its pickle gives an array more elements than its storage")
    return members.array(storage, offset, tuple(shape), tuple(strides))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48
