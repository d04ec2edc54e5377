"""Arrays over several processes: each reads its own rows of a batch; what is split comes together again."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def local_rows(sharding: NamedSharding, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of a global array that the devices of this process hold, in order: int64.

    Args:
      sharding: of the array.
      shape: of the whole array; its first axis counts the rows.
    """
    every = np.arange(shape[0])
    parts = [every[index[0]] for index in sharding.addressable_devices_indices_map(shape).values() if index]
    return np.unique(np.concatenate(parts))


def global_batch(
    batch: Mapping[str, np.ndarray], rows: np.ndarray, sharding: NamedSharding, batch_size: int
) -> dict[str, jax.Array]:
    """The arrays [batch_size, ...] of which each process has some rows.

    Args:
      batch: name → this process's rows [R, ...].
      rows: their numbers in the whole batch [R], ascending, as of `local_rows`.
      sharding: of each array.
      batch_size: rows of the whole.
    """

    def assemble(local: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None, "JAX asks for the parts of this process's devices only"
            start, stop, _ = index[0].indices(batch_size)
            first = int(np.searchsorted(rows, start))
            return local[(slice(first, first + stop - start), *index[1:])]

        return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)

    return {name: assemble(local) for name, local in batch.items()}


def whole_arrays(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Each array whole on one device of this process, one after the other; all processes take part."""

    def whole(array: jax.Array) -> jax.Array:
        sharding = array.sharding
        if isinstance(sharding, NamedSharding) and not array.is_fully_replicated:
            array = jax.device_put(array, NamedSharding(sharding.mesh, PartitionSpec()))
        return array.addressable_data(0)

    return {name: whole(array) for name, array in arrays.items()}
