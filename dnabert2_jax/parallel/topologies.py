"""TPUs to compile for where there are none: the name of a topology in, a mesh of such devices out.

It needs libtpu, and no TPU. What compiles this way fits the chip's memories; nothing is said about the
numbers that it would compute. GPUs are in `cuda_targets.py`.
"""

import os

import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.mesh import DATA


def tpu_mesh(topology: str) -> Mesh:
    """A mesh of absent TPUs along the `data` axis.

    Shardings over it say where to compile for, and `jax.sharding.use_abstract_mesh(mesh.abstract_mesh)` lets
    code that asks for the device, such as the choice of a kernel, see these.

    Args:
      topology: generation and extent, such as "v5e:2x2", "v5p:2x2x1" or "v6e:2x4".

    Raises:
      UserError: there is no such topology, or no libtpu.
    """
    # Without these libtpu asks the machine's metadata server which TPU it is on.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    # Its lock is for processes that share chips.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except RuntimeError as problem:
        raise UserError(
            f"cannot compile for the TPUs {topology!r} (libtpu comes with pip install 'jax[tpu]'): {problem}"
        ) from problem
    return Mesh(np.array(devices), (DATA,), axis_types=(AxisType.Auto,))
