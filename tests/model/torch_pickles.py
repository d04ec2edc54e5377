"""Writes what torch.save writes, opcode by opcode, so that tests can also write what it never would."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape=(2, 3), strides=(3, 1), *, offset=0, numel=6, key="0", storage="FloatStorage") -> bytes:
    """The opcodes of an array."""
    persistent_id = (
        text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(numel)
    )
    arguments = b"(" + persistent_id + b"tQ" + number(offset) + numbers(shape) + numbers(strides)
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + hooks + b"tR"


def state_dict(values: Mapping[str, bytes] | None = None, /, **named: bytes) -> bytes:
    items = b"".join(text(name) + value for name, value in {**(values or {}), **named}.items())
    return b"\x80\x02}(" + items + b"u."


def write(path: Path, pickled: bytes, data: bytes = ARRAY.tobytes(), compression=zipfile.ZIP_STORED) -> Path:
    """A file with one storage, called 0."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/byteorder", "little")
        archive.writestr("model/data/0", data)
    return path


def write_torch_file(path: Path, state: Mapping[str, np.ndarray]) -> Path:
    """The file of a state dict of float32 arrays."""
    items = {}
    with zipfile.ZipFile(path, "w") as archive:
        for index, (name, array) in enumerate(state.items()):
            strides = [stride // 4 for stride in np.empty(array.shape, np.float32).strides]
            items[name] = tensor(array.shape, strides, numel=array.size, key=str(index))
            archive.writestr(f"model/data/{index}", array.astype(np.float32).tobytes())
        archive.writestr("model/data.pkl", state_dict(items))
        archive.writestr("model/byteorder", "little")
    return path
