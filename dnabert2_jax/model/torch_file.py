"""Reads pytorch_model.bin without PyTorch and without running a pickle.

In: the zip archive that `torch.save` writes for a state dict. Out: its arrays, mapped from the file. The
pickle inside is read opcode by opcode by a machine that can build dicts, tuples, strings, numbers and
tensors, and refuses everything else by name; nothing is imported or called.
"""

import mmap
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dnabert2_jax.errors import UserError

# A state dict's pickle takes some hundred bytes for each array.
_LONGEST_PICKLE = 1 << 24
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
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise _Refused("is a zip archive, but not one that torch.save writes")
            folder = pickles[0].removesuffix("data.pkl")
            if entries[pickles[0]].file_size > _LONGEST_PICKLE:
                raise _Refused("its pickle is far longer than a state dict's")
            order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
            if order != b"little":
                raise _Refused("was written on a big-endian machine")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            storages = _Storages(mapped, entries, f"{folder}data/")
            return _state_dict(archive.read(pickles[0]), storages)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise UserError(
            f"{path}: is not a file of PyTorch 1.6 or later, or is truncated ({error}); download it again"
        ) from error
    except _Refused as refusal:
        raise UserError(f"{path}: {refusal}") from refusal


class _Storages:
    """The arrays of bytes in the archive, as views of the mapped file."""

    def __init__(self, mapped: mmap.mmap, entries: dict[str, zipfile.ZipInfo], prefix: str):
        self._mapped, self._entries, self._prefix = mapped, entries, prefix

    def view(self, storage: _Storage) -> np.ndarray:
        """The storage's numbers, [numel]."""
        entry = self._entries.get(self._prefix + storage.key)
        size = storage.numel * storage.dtype.itemsize
        if entry is None:
            raise _Refused(f"refers to the storage {storage.key[:40]!r}, which it does not hold")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < size:
            raise _Refused(f"the storage {storage.key[:40]!r} is compressed or too short")
        # A member's bytes follow its local header, whose last two fields have lengths of their own.
        header = self._mapped[entry.header_offset : entry.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise _Refused(f"the storage {storage.key[:40]!r} has no header where the archive says")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        start = entry.header_offset + 30 + name_length + extra_length
        if start + size > len(self._mapped):
            raise _Refused(f"the storage {storage.key[:40]!r} reaches beyond the end of the file")
        return np.frombuffer(self._mapped, storage.dtype, storage.numel, start)


def _state_dict(pickled: bytes, storages: _Storages) -> dict[str, np.ndarray]:
    found = _run(pickled, storages)
    if not isinstance(found, dict):
        raise _Refused("holds no dict of arrays")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise _Refused(f"holds {str(name)[:40]!r}, which is not an array; it is no state dict")
    return found


def _run(pickled: bytes, storages: _Storages) -> Any:
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
                stack.append(_global(f"{module} {attribute}"))
            elif name == "BINPERSID":
                stack.append(_storage(stack.pop()))
            elif name == "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuild(function, arguments, storages))
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
        target[key] = value


def _global(name: str) -> _Global:
    if name not in _GLOBALS:
        raise _Refused(
            f"its pickle asks for {name.replace(' ', '.')[:80]}, which is not part of a state dict"
        )
    return _Global(name)


def _storage(persistent_id: Any) -> _Storage:
    kind, storage, key, _, numel = persistent_id
    if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
        raise _Refused("its pickle refers to something that is not a storage of numbers")
    if not isinstance(key, str) or not _is_count(numel):
        raise _Refused("its pickle names a storage wrongly")
    return _Storage(key, _STORAGES[storage.name], numel)


def _rebuild(function: Any, arguments: Any, storages: _Storages) -> Any:
    name = function.name if isinstance(function, _Global) else None
    if name == _ORDERED_DICT and arguments == ():
        return {}
    if name == _REBUILD_TENSOR and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        return _tensor(storage, offset, shape, strides, storages)
    if name == _REBUILD_PARAMETER and isinstance(arguments[0], np.ndarray):
        return arguments[0]
    raise _Refused(f"its pickle calls {name or 'something'} in a way that no state dict does")


def _tensor(storage: _Storage, offset: Any, shape: Any, strides: Any, storages: _Storages) -> np.ndarray:
    sizes = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _LARGEST_RANK or not all(map(_is_count, sizes)):
        raise _Refused("its pickle gives an array an impossible shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.numel:
        raise _Refused("its pickle gives an array a shape beyond its storage")
    # Strides of 0 or overlapping ones would let a small file stand for arrays of any size.
    if int(np.prod(shape, dtype=object)) > storage.numel:
        raise _Refused("its pickle gives an array more elements than its storage")
    numbers = storages.view(storage)
    width = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [stride * width for stride in strides], writeable=False
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48
