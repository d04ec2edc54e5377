"""Randomness that is looked up, not drawn: a hash of integers and a pseudo-random permutation.

Integers (seed, epoch, index …) in, integers out, whole arrays at a time; no state, so any position of any
epoch costs the same and needs no memory.
"""

import numpy as np
from numpy.typing import ArrayLike

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(*words: ArrayLike) -> np.ndarray:
    """A 64-bit hash of one or several integers (SplitMix64's finaliser, chained over the words).

    Args:
      *words: integers or integer arrays that broadcast together; negative ones count modulo 2^64.

    Returns:
      uint64 of the broadcast shape, uniform to the eye of any statistic that batches can show.
    """
    state = np.full(1, _GOLDEN)
    for word in words:
        state = _scramble(state ^ _scramble(_as_uint64(word) + _GOLDEN))
    return state.reshape(np.broadcast_shapes(*(np.shape(word) for word in words)))


def permute(index: ArrayLike, size: ArrayLike, key: ArrayLike) -> np.ndarray:
    """Where each `index` lands in the pseudo-random permutation of 0 … size-1 that `key` names.

    A Feistel network on a grid just larger than `size`, walked until the result is inside (which keeps it a
    bijection): Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.

    Args:
      index: integers in [0, size).
      size: the number of things permuted, at most 2^62; one integer, or one for each index.
      key: one integer, or one for each index: every key is another permutation.

    Returns:
      int64 of the broadcast shape of `index`, `size` and `key`.

    Examples:
      >>> permute([0, 1, 2, 3, 4, 5], 6, key=1).tolist()
      [4, 5, 0, 2, 1, 3]
    """
    shape = np.broadcast_shapes(np.shape(index), np.shape(size), np.shape(key))
    start, sizes, keys = (
        array.ravel()
        for array in np.broadcast_arrays(
            np.asarray(index, np.int64), np.asarray(size, np.int64), _as_uint64(key)
        )
    )
    if (sizes < 1).any() or (start < 0).any() or (start >= sizes).any():
        raise ValueError(f"indices must lie in [0, {size})")
    rows = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    sizes = sizes.astype(np.uint64)
    columns = (sizes + rows - np.uint64(1)) // rows
    value = start.astype(np.uint64)
    outside = np.arange(value.size)
    while outside.size:
        value[outside] = _feistel(value[outside], rows[outside], columns[outside], keys[outside])
        outside = outside[value[outside] >= sizes[outside]]
    return value.astype(np.int64).reshape(shape)


def _feistel(value: np.ndarray, rows: np.ndarray, columns: np.ndarray, keys: np.ndarray) -> np.ndarray:
    # Each round adds to one half a function of the other, modulo that half's size: invertible by subtraction.
    left, right = value // columns, value % columns
    for number in range(0, _ROUNDS, 2):
        left = (left + mix(keys, number, right) % rows) % rows
        right = (right + mix(keys, number + 1, left) % columns) % columns
    return left * columns + right


def _as_uint64(word: ArrayLike) -> np.ndarray:
    # At least one-dimensional: array arithmetic wraps silently, NumPy scalars would warn.
    if isinstance(word, int):
        return np.full(1, word % 2**64, np.uint64)
    return np.atleast_1d(np.asarray(word)).astype(np.uint64)


def _scramble(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
