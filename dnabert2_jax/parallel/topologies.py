"""Devices to compile for where there are none: the name of a topology in, such devices out.

TPUs need libtpu, GPUs JAX's CUDA plugin (`cuda_targets.py`), neither a chip. What compiles this way fits the
chip's memories; nothing is said about the numbers that it would compute.
"""

import os
import re
from typing import Any

from jax.experimental import topologies

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.cuda_targets import CUDA_TARGETS, cuda_devices

_TPUS = ("v5e", "v5p", "v6e", "tpu7x")


def absent_devices(topology: str) -> list[Any]:
    """The devices of a slice of TPUs or of a machine with GPUs that need not exist, for `make_mesh`.

    Args:
      topology: TPUs by generation and extent in chips, such as "v5p:4x4x4"; GPUs by card and number, such as
        "h100:8".

    Raises:
      UserError: there is no such topology, or what compiles for it is not installed.
    """
    kind, _, extent = topology.partition(":")
    if kind in CUDA_TARGETS and re.fullmatch(r"[1-9]\d{0,2}", extent):
        return cuda_devices(kind, int(extent))
    if kind in _TPUS and re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", extent):
        return tpu_devices(topology)
    raise UserError(
        f"{topology!r} is no topology; name TPUs ({', '.join(_TPUS)}) by their extent, such as v5p:4x4x4, "
        f"or GPUs ({', '.join(CUDA_TARGETS)}) by their number, such as h100:8"
    )


def tpu_devices(topology: str) -> list[Any]:
    """Absent TPUs, for `make_mesh`.

    Shardings over their mesh say where to compile for, and `use_abstract_mesh(mesh.abstract_mesh)` of
    `jax.sharding` lets code that asks for the device, such as the choice of a kernel, see these.

    Args:
      topology: generation and extent in chips, such as "v5e:2x2", "v5p:2x2x1", "v6e:2x4" or "tpu7x:2x2x1".

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
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except RuntimeError as problem:
        raise UserError(
            f"cannot compile for the TPUs {topology!r} (libtpu comes with pip install 'jax[tpu]'): {problem}"
        ) from problem
