"""Damaged weight files: whatever happened to the bytes, they are read or refused, at once and in little room.

What is taken for a safetensors file is one to the library too, with the same numbers.
"""

import multiprocessing
import random
import re
import resource
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from torch_pickles import write_torch_file

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.safetensors_file import read_safetensors
from dnabert2_jax.model.torch_file import read_torch_file

# A file takes about a millisecond. The machine may be busy, and is never so for this long.
_SECONDS_PER_FILE = 5.0
# The files have about 3,000 bytes: what is left is the interpreter's own coming and going.
_MEMORY_GROWTH = 32e6
_NUMBERS = [0, 1, 7, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def test_thousands_of_damaged_files(tmp_path):
    refused = read_damaged_files(tmp_path, 1000, seed=0)[0]
    assert 1000 < refused < 2000


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        refused, growth = pool.apply(read_damaged_files, (tmp_path, 50_000, 1))
    assert 50_000 < refused < 100_000
    assert growth < _MEMORY_GROWTH


def read_damaged_files(folder: Path, count: int, seed: int) -> tuple[int, float]:
    """Reads so many files of each format; gives how many were refused, and the bytes that memory grew by."""
    warnings.simplefilter("ignore")  # of pickletools, about escapes in texts
    rng = random.Random(seed)
    state = {f"layer.{index}.weight": np.full((3, 1 + index), index, np.float32) for index in range(8)}
    whole = write_torch_file(folder / "whole.bin", state).read_bytes()
    safe = save(state, {"format": "pt"})
    for _ in range(200):  # so that what is allocated once has been
        attempt(folder, whole, safe, rng)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = sum(attempt(folder, whole, safe, rng) for _ in range(count))
    return refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def attempt(folder: Path, whole: bytes, safe: bytes, rng: random.Random) -> int:
    """One damaged file of each format; how many were refused."""
    refused = 0
    for name, content, read in (("a.bin", whole, read_torch_file), ("a.safetensors", safe, read_safetensors)):
        path = folder / name
        path.write_bytes(damaged(content, rng))
        start = time.perf_counter()
        try:
            found = read(path)
        except UserError:
            refused += 1
        else:
            assert sum(array.nbytes for array in found.values()) <= 2 * path.stat().st_size
            numbers = {key: array.tobytes() for key, array in found.items()}
            if read is read_safetensors:
                expected = load(path.read_bytes())
                assert numbers == {key: array.tobytes() for key, array in expected.items()}
        assert time.perf_counter() - start < _SECONDS_PER_FILE
    return refused


def damaged(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 5))):
        content = rng.choice(_DAMAGES)(content, rng) or b"\0"
    return content


def flip_bytes(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def flip_a_bit(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def remove(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 40) :]


def repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 80)]
    place = rng.choice((start, rng.randrange(len(content))))
    return content[:place] + piece + content[place:]


def overwrite(content: bytes, rng: random.Random) -> bytes:
    """Lays one part over another, such as one opcode's argument over another's."""
    source, target, size = rng.randrange(len(content)), rng.randrange(len(content)), rng.randint(1, 24)
    piece = content[source : source + size]
    return content[:target] + piece + content[target + len(piece) :]


def telling_number(content: bytes, rng: random.Random) -> bytes:
    """Puts a number of note somewhere, as bytes or as digits in the place of others."""
    value = rng.choice(_NUMBERS)
    digits = list(re.finditer(rb"\d+", content))
    if digits and rng.random() < 0.5:
        place = rng.choice(digits)
        sign = rng.choice((b"", b"", b"-"))
        return content[: place.start()] + sign + str(value).encode() + content[place.end() :]
    packed = struct.pack("<Q", value)[: rng.choice((2, 4, 8))]
    start = rng.choice((0, rng.randrange(len(content))))
    return content[:start] + packed + content[start + len(packed) :]


def swap_texts(content: bytes, rng: random.Random) -> bytes:
    """Puts one word of the file in the place of another, such as a type, a key or an opcode's name."""
    words = list(re.finditer(rb"[A-Za-z_.]{2,}", content))
    if not words:
        return content
    source, target = rng.choice(words), rng.choice(words)
    return content[: target.start()] + source[0] + content[target.end() :]


_DAMAGES = (flip_bytes, flip_a_bit, cut, remove, repeat, overwrite, telling_number, swap_texts)
