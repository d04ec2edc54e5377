"""NVIDIA GPUs to compile for where there is none: the name of a card in, such devices out.

It needs JAX's CUDA plugin, and neither a GPU nor a driver where JAX_PLATFORMS is cpu. What compiles this way
fits the card's registers and shared memory; nothing is said about the numbers it would compute.
"""

from dataclasses import dataclass
from typing import Any

from jax.experimental import topologies

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.chips import chip_of


@dataclass(frozen=True)
class CudaTarget:
    """A card by what the compiler asks of it, besides its memory, which is in `chips.py`.

    Attributes:
      name: as the driver tells it.
      capability: major and minor number.
      cores: streaming multiprocessors.
      lanes, threads: float32 units of each, and threads that each holds.
      shared_memory: bytes that a block may have, and that a multiprocessor has.
      cache: bytes.
      gigahertz: boost clock.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    threads: int
    shared_memory: tuple[int, int]
    cache: int
    gigahertz: float


# At least one card for each architecture, from NVIDIA's data sheets.
CUDA_TARGETS = {
    "a100": CudaTarget(
        name="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        cores=108,
        lanes=64,
        threads=2048,
        shared_memory=(166_912, 167_936),
        cache=40 << 20,
        gigahertz=1.41,
    ),
    "rtx4090": CudaTarget(
        name="NVIDIA GeForce RTX 4090",
        capability=(8, 9),
        cores=128,
        lanes=128,
        threads=1536,
        shared_memory=(101_376, 102_400),
        cache=72 << 20,
        gigahertz=2.52,
    ),
    "h100": CudaTarget(
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        cores=132,
        lanes=128,
        threads=2048,
        shared_memory=(232_448, 233_472),
        cache=50 << 20,
        gigahertz=1.98,
    ),
    "h200": CudaTarget(
        name="NVIDIA H200",
        capability=(9, 0),
        cores=132,
        lanes=128,
        threads=2048,
        shared_memory=(232_448, 233_472),
        cache=50 << 20,
        gigahertz=1.98,
    ),
    "rtxpro6000": CudaTarget(
        name="NVIDIA RTX PRO 6000",
        capability=(12, 0),
        cores=188,
        lanes=128,
        threads=1536,
        shared_memory=(101_376, 102_400),
        cache=128 << 20,
        gigahertz=2.6,
    ),
}


def cuda_devices(card: str, devices: int = 1) -> list[Any]:
    """Absent GPUs of one machine, for `make_mesh`.

    Shardings over their mesh say where to compile for, and `use_abstract_mesh(mesh.abstract_mesh)` of
    `jax.sharding` lets code that asks for the device, such as the choice of a kernel, see these.

    Args:
      card: a key of `CUDA_TARGETS`.
      devices: how many.

    Raises:
      UserError: there is no such target, or no CUDA plugin.
    """
    if card not in CUDA_TARGETS:
        raise UserError(f"no GPU to compile for is called {card!r}; there are {', '.join(CUDA_TARGETS)}")
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            target_config=_target_config(CUDA_TARGETS[card]),
            topology=f"1x1x{devices}",
        )
    except NotImplementedError as problem:
        raise UserError(
            f"compiling for {card} needs JAX's CUDA plugin (pip install jax-cuda13-plugin), "
            "and JAX_PLATFORMS=cpu where there is no driver"
        ) from problem
    return list(topology.devices)


def _target_config(target: CudaTarget) -> str:
    """XLA's description of a GPU, in the text form of protocol buffers."""
    major, minor = target.capability
    block, multiprocessor = target.shared_memory
    chip = chip_of(target.name)
    assert chip is not None
    return f"""
        platform_name: "CUDA"
        device_description_str: "{target.name}"
        dnn_version_info {{ major: 9 minor: 10 }}
        runtime_version {{ major: 13 minor: 0 patch: 0 }}
        gpu_device_info {{
          cuda_compute_capability {{ major: {major} minor: {minor} }}
          core_count: {target.cores}
          fpus_per_core: {target.lanes}
          threads_per_block_limit: 1024
          threads_per_warp: 32
          threads_per_core_limit: {target.threads}
          registers_per_core_limit: 65536
          registers_per_block_limit: 65536
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: {block}
          shared_memory_per_core: {multiprocessor}
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
          memory_bandwidth: {int(chip.bandwidth)}
          device_memory_size: {chip.memory}
          l2_cache_size: {target.cache}
          clock_rate_ghz: {target.gigahertz}
        }}
    """
