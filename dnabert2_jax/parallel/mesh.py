"""The mesh of devices and the few ways that arrays lie on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dnabert2_jax.errors import UserError

# Names of the axes: `data` splits the batch, `fsdp` and `tensor` the parameters (see sharding.py).
DATA = "data"
FSDP = "fsdp"
TENSOR = "tensor"


def make_mesh(data: int = 0) -> Mesh:
    """Lays the devices out along the `data` axis, which splits the batch.

    Args:
      data: how many devices; 0 takes all there are.

    Raises:
      UserError: there are fewer.
    """
    devices = jax.devices()
    if data > len(devices):
        raise UserError(f"mesh.data is {data}, but there are {len(devices)} devices here")
    used = np.array(devices[: data or len(devices)])
    return Mesh(used, (DATA,), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """Lays the devices of this process, which need not be all, out along the `data` axis."""
    return Mesh(np.array(jax.local_devices()), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over the data axis."""
    return NamedSharding(mesh, PartitionSpec(DATA))
