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


def permute(index: ArrayLike, size: int, key: ArrayLike) -> np.ndarray:
    """Where each `index` lands in the pseudo-random permutation of 0 … size-1 that `key` names.

    A Feistel network on a grid just larger than `size`, walked until the result is inside (which keeps it a
    bijection): Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.

    Args:
      index: integers in [0, size).
      size: the number of things permuted, at most 2^62.
      key: one integer, or one for each index: every key is another permutation.

    Returns:
      int64 of the broadcast shape of `index` and `key`.
    """
    shape = np.broadcast_shapes(np.shape(index), np.shape(key))
    start, keys = np.broadcast_arrays(np.asarray(index, np.int64), _as_uint64(key))
    if size < 1 or (start.size and (start.min() < 0 or start.max() >= size)):
        raise ValueError(f"indices must lie in [0, {size})")
    rows = int(np.ceil(np.sqrt(size)))
    columns = -(-size // rows)
    value, keys = start.astype(np.uint64).ravel(), keys.ravel()
    outside = np.arange(value.size)
    while outside.size:
        value[outside] = _feistel(value[outside], rows, columns, keys[outside])
        outside = outside[value[outside] >= size]
    return value.astype(np.int64).reshape(shape)


def _feistel(value: np.ndarray, rows: int, columns: int, keys: np.ndarray) -> np.ndarray:
    # Each round adds to one half a function of the other, modulo that half's size: invertible by subtraction.
    left, right = value // np.uint64(columns), value % np.uint64(columns)
    for number in range(0, _ROUNDS, 2):
        left = (left + mix(keys, number, right) % np.uint64(rows)) % np.uint64(rows)
        right = (right + mix(keys, number + 1, left) % np.uint64(columns)) % np.uint64(columns)
    return left * np.uint64(columns) + right


def _as_uint64(word: ArrayLike) -> np.ndarray:
    # At least one-dimensional: array arithmetic wraps silently, NumPy scalars would warn.
    if isinstance(word, int):
        return np.full(1, word % 2**64, np.uint64)
    return np.atleast_1d(np.asarray(word)).astype(np.uint64)


def _scramble(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
