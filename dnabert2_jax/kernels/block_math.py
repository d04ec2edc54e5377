"""The arithmetic of one block of scores, on values: what the Pallas TPU bodies have in common.

Blocks lie with keys down and queries across, [keys, queries]. Maxima and sums over keys then add registers
instead of lanes, and what belongs to a query, its maximum, its sum and its log-sum-exp, is one row.
"""

from collections import deque
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

# Below any score and still finite, so that a query that sees no key does not subtract infinities.
MASKED = -2.0e38
LANES = 128


def product(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """Contracts an axis of each of two matrices, summed in float32.

    The matrix unit multiplies bfloat16; float32 takes the several passes that keep all its bits.
    """
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return jax.lax.dot_general(
        a, b, (((a_axis,), (b_axis,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def raw_scores(k: jax.Array, q: jax.Array) -> jax.Array:
    """[keys, queries] scaled, without the bias."""
    return product(k, q, 1, 1) * q.shape[1] ** -0.5


def visible(q_segments: jax.Array, k_segments: jax.Array) -> jax.Array:
    """Which query sees which key, bool [keys, queries], of rows of segments [1, queries] and [1, keys]."""
    queries, keys = q_segments.shape[1], k_segments.shape[1]
    down = jnp.transpose(jnp.broadcast_to(k_segments, (queries, keys)))
    return (down == q_segments) & (q_segments != 0)


def lane_sums(a: jax.Array, b: jax.Array, width: int) -> list[jax.Array]:
    """Rows of a·b, float32 [1, n] for each of the heads whose vectors lie side by side in [n, 128]."""
    products = jnp.transpose(a.astype(jnp.float32) * b.astype(jnp.float32))
    starts = range(0, LANES, width)
    return [jnp.sum(products[start : start + width], axis=0, keepdims=True) for start in starts]


def position_differences(shape: tuple[int, ...]) -> jax.Array:
    """Query less key, each counted from the block's first, float32 [keys, queries]."""
    keys, queries = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    return (queries - keys).astype(jnp.float32)


def lane_groups(heads: int, width: int) -> list[range]:
    """Heads that share a register's 128 lanes, in order."""
    size = max(1, LANES // width)
    return [range(first, min(first + size, heads)) for first in range(0, heads, size)]


def staggered[Task, Middle](
    tasks: Iterable[Task],
    first: Callable[[Task], Middle],
    second: Callable[[Task, Middle], None],
    ahead: int,
) -> None:
    """Writes out `second(task, first(task))` for each task, with `first` up to `ahead` tasks before `second`.

    The compiler moves instructions over short distances only: a task's exponentials fill the matrix unit's
    waiting times if another's products are written beside them.
    """
    waiting: deque[tuple[Task, Middle]] = deque()
    for task in tasks:
        waiting.append((task, first(task)))
        if len(waiting) == ahead:
            second(*waiting.popleft())
    while waiting:
        second(*waiting.popleft())
