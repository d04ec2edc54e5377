"""Where the engine's batches lie: host arrays come in, arrays whose rows are split over devices go out."""

from functools import cached_property

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dnabert2_jax.inference.batching import Inputs
from dnabert2_jax.parallel.mesh import TENSOR, local_mesh, replicated


class RowSharding:
    """Splits rows over devices.

    Args:
      mesh: of parameters that are placed already; rows are split over all its axes but `tensor`. None for
        all devices of this process.
    """

    def __init__(self, mesh: Mesh | None):
        self._mesh = mesh or local_mesh()
        # The devices of `tensor` share the work on one row.
        self._axes = tuple(axis for axis in self._mesh.axis_names if axis != TENSOR)

    @property
    def num_devices(self) -> int:
        """In how many parts rows are split; the rows of a batch divide by it."""
        return int(np.prod([self._mesh.shape[axis] for axis in self._axes]))

    @cached_property
    def replicated(self) -> NamedSharding:
        """Where parameters lie that every device holds whole."""
        return replicated(self._mesh)

    @cached_property
    def _rows(self) -> NamedSharding:
        # As of the parameters: computations are spread by the compiler.
        automatic = self._mesh.update(axis_types=(AxisType.Auto,) * len(self._mesh.axis_names))
        return NamedSharding(automatic, PartitionSpec(self._axes))

    def put(self, inputs: Inputs) -> Inputs:
        """The arrays of a batch, each on the devices."""
        if self._mesh.size == 1:
            return inputs
        return jax.device_put(inputs, self._rows)
