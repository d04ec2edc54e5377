"""Files as mapped memory: a path in, read-only arrays out that are read when they are used.

They are copied out array by array, and what was read is given back to the operating system, so that loading
a large file never holds it twice.
"""

import math
import mmap
from pathlib import Path

import numpy as np
from numpy.lib.array_utils import byte_bounds

from dnabert2_jax.errors import UserError

# JAX takes arrays on a CPU as they are where their memory begins at a multiple of this, and else copies them.
_ALIGNMENT = 64
# A transposed array is copied by strips of so many of its rows in the file, which a processor's cache holds.
_STRIP = 256


def map_file(path: str | Path) -> mmap.mmap:
    """Maps a file for reading; the mapping lives as long as an array over it.

    Raises:
      UserError: there is no such file, it cannot be read, or it is empty.
    """
    try:
        with open(path, "rb") as file:
            # A size of 0 would ask for the whole file, and an empty one cannot be mapped.
            size = file.seek(0, 2)
            if size == 0:
                raise UserError(f"{path}: is empty; download it again")
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def release_pages(array: np.ndarray) -> None:
    """Gives the memory under a view of a mapped file back; the view stays valid and is read anew when used.

    An array that owns its numbers is left as it is.
    """
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return
    low, high = byte_bounds(array)
    start = np.frombuffer(owner, np.uint8).ctypes.data
    first = (low - start) // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, first, high - start - first)


def copy_out(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy of a view in row-major order, in the given type, that shares no memory with the file."""
    size = math.prod(array.shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    copy = memory[begin : begin + size].view(dtype).reshape(array.shape)
    if array.ndim != 2 or array.flags.c_contiguous:
        copy[...] = array
        return copy
    for first in range(0, array.shape[1], _STRIP):
        copy[:, first : first + _STRIP] = array[:, first : first + _STRIP]
    return copy
