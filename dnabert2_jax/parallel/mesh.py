"""The one mesh of devices and the few ways that batches lie on it: sizes of its axes in, a mesh out.

The batch is split over `data` and `fsdp`, the tokens of a row over `sequence`; parameters over `fsdp` and
`tensor` (see sharding.py).
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dnabert2_jax.errors import UserError

DATA = "data"
FSDP = "fsdp"
SEQUENCE = "sequence"
TENSOR = "tensor"
# From the least to the most that devices along an axis tell each other: the last are the closest neighbours.
AXES = (DATA, FSDP, SEQUENCE, TENSOR)


class MeshSizes(Protocol):
    """How many devices lie along each axis; `data` 0 takes all that the others leave."""

    @property
    def data(self) -> int: ...
    @property
    def fsdp(self) -> int: ...
    @property
    def tensor(self) -> int: ...
    @property
    def sequence(self) -> int: ...


def make_mesh(sizes: MeshSizes, devices: Sequence[Any] | None = None) -> Mesh:
    """Lays devices out along the axes `data`, `fsdp`, `sequence` and `tensor`, all of which the mesh has.

    TPUs are placed by their coordinates, so that neighbours along an axis are neighbours in the network;
    slices of TPUs, between which only data-parallel sums shall travel, lie along `data`.

    Args:
      sizes: of the axes, such as the settings' [mesh].
      devices: JAX's devices to use; None means all of all processes. They may be absent ones, to compile for.

    Raises:
      UserError: there are too few, they do not divide, or a process would have none.
    """
    devices = list(jax.devices() if devices is None else devices)
    inner = sizes.fsdp * sizes.sequence * sizes.tensor
    shape = (sizes.data or len(devices) // inner, sizes.fsdp, sizes.sequence, sizes.tensor)
    asked = " × ".join(f"{name} {size}" for name, size in zip(AXES[1:], shape[1:], strict=True))
    if sizes.data and prod(shape) > len(devices):
        what = f"mesh.data is {sizes.data}" + (f", times {asked}" if inner > 1 else "")
        raise UserError(f"{what}, but there are {len(devices)} devices here")
    if not sizes.data and (len(devices) < inner or len(devices) % inner):
        raise UserError(
            f"[mesh] {asked} takes a multiple of {inner} devices, but there are {len(devices)} here"
        )
    used = devices[: prod(shape)]
    idle = {device.process_index for device in devices} - {device.process_index for device in used}
    if idle:
        raise UserError(
            f"[mesh] uses {len(used)} of {len(devices)} devices, which leaves process "
            f"{', '.join(map(str, sorted(idle)))} without any; set mesh.data to 0, or start fewer processes"
        )
    grid = _laid_out(shape, used, whole=len(used) == len(devices))
    return Mesh(grid, AXES, axis_types=_automatic(len(AXES)))


def _laid_out(shape: tuple[int, ...], devices: list[Any], *, whole: bool) -> np.ndarray:
    # Coordinates of a part of a slice need not fill a box.
    if devices[0].platform != "tpu" or not whole:
        return np.array(devices).reshape(shape)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if shape[0] % slices:
        raise UserError(
            f"the devices are in {slices} slices, which split the batch, and mesh.data {shape[0]} does not "
            f"divide by {slices}"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (shape[0] // slices, *shape[1:]), (slices, 1, 1, 1), devices, allow_split_physical_axes=True
    )


def local_mesh() -> Mesh:
    """Lays the devices of this process, which need not be all, out along the `data` axis."""
    return Mesh(np.array(jax.local_devices()), (DATA,), axis_types=_automatic(1))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(_present(mesh, DATA, FSDP)))


def split_tokens(mesh: Mesh) -> NamedSharding:
    """Rows [B, S, ...] are split over `data` and `fsdp`, and the tokens of a row over `sequence`."""
    return NamedSharding(mesh, PartitionSpec(_present(mesh, DATA, FSDP), _present(mesh, SEQUENCE)))


def row_parts(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return prod(mesh.shape[axis] for axis in _present(mesh, DATA, FSDP))


def _present(mesh: Mesh, *axes: str) -> tuple[str, ...]:
    return tuple(axis for axis in axes if axis in mesh.shape)


def _automatic(axes: int) -> tuple[AxisType, ...]:
    return (AxisType.Auto,) * axes
