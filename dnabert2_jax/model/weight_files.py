"""The weights of a model folder, in whichever files they lie: a folder in, arrays by stored key out."""

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.safetensors_file import read_safetensors
from dnabert2_jax.model.strict_json import JsonError, parse_object
from dnabert2_jax.model.torch_file import read_torch_file

WEIGHTS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"

# An index takes 100 bytes for each array, config.json some thousand in all.
_LONGEST_JSON = 1 << 22

type Reader = Callable[[str | Path], dict[str, np.ndarray]]

_READERS: dict[str, Reader] = {WEIGHTS_FILE: read_safetensors, TORCH_FILE: read_torch_file}


def find_weights(folder: str | Path) -> Path:
    """The file that a folder's weights are read from: safetensors before pickles, one file before several.

    Raises:
      UserError: there is none.
    """
    for name in _READERS:
        for path in (Path(folder) / name, Path(folder) / f"{name}{INDEX_SUFFIX}"):
            if path.is_file():
                return path
    raise UserError(f"{folder}: holds neither {WEIGHTS_FILE} nor {TORCH_FILE}")


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Reads every array of the file that `find_weights` names, and of those that an index names.

    Returns:
      Stored key → array, read-only views of the files that are read when they are used.

    Raises:
      UserError: there are no weights, they are damaged, or an index and its files disagree.
    """
    path = find_weights(folder)
    if path.name in _READERS:
        found = _READERS[path.name](path)
    else:
        found = _read_shards(path, _READERS[path.name.removesuffix(INDEX_SUFFIX)])
    for key in found:
        # Keys are shown to people, whose terminal obeys some characters.
        if not key.isprintable():
            raise UserError(f"{path}: holds an array called {key[:80]!r}, which no model has")
    return found


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a model folder.

    Raises:
      UserError: the file cannot be read, is far too long, or does not hold exactly one sound object.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST_JSON + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST_JSON:
        raise UserError(f"{path}: is longer than {_LONGEST_JSON} bytes, which no such file is")
    try:
        return parse_object(data)
    except JsonError as error:
        raise UserError(f"{path}: {error}") from error


def _read_shards(index: Path, read: Reader) -> dict[str, np.ndarray]:
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: has no weight_map from keys to files")
    keys_of: dict[str, set[str]] = {}
    for key, name in places.items():
        if not _is_plain_name(name):
            raise UserError(f"{index}: {key[:80]!r} lies in {str(name)[:80]!r}, not a file beside it")
        keys_of.setdefault(name, set()).add(key)
    found: dict[str, np.ndarray] = {}
    for name, keys in sorted(keys_of.items()):
        shard = read(index.parent / name)
        if shard.keys() != keys:
            key = min(shard.keys() ^ keys)
            fault = (
                f"{name} holds {key[:80]!r}, which it does not place there"
                if key in shard
                else f"{name} does not hold {key[:80]!r}, which it places there"
            )
            raise UserError(f"{index}: {fault}; they do not belong together")
        found |= shard
    return found


def _is_plain_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and "\0" not in name
        and "\\" not in name
        and PurePath(name).name == name
    )
