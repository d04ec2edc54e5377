"""What chips can do at most: the name of a device as JAX tells it in, the makers' figures out.

TPUs: "System architecture" and the pages of v5e, v5p, v6e and TPU7x in Google Cloud's TPU documentation.
GPUs: NVIDIA's data sheets of each card and the white papers of the GA102, AD102 and GB202 chips. Products are
dense, bfloat16 with float32 sums. Links are given there for both directions together; here is one direction.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One device as JAX counts them; a TPU7x chip is two of them, with half of its figures each.

    Attributes:
      name: how people call it.
      flops: peak FLOP/s of bfloat16 products summed in float32.
      memory: bytes of HBM or GDDR.
      bandwidth: bytes per second from and to that memory.
      link: bytes per second that it can send to its peers in a slice or a machine, while it receives as many.
      usable: share of the memory that a program may have by default: on GPUs what JAX reserves at start,
        on TPUs what the compiler leaves.
    """

    name: str
    flops: float
    memory: int
    bandwidth: float
    link: float
    usable: float


_GPU_SHARE, _TPU_SHARE = 0.75, 0.98
_GIB = 2**30


def _tpu(name: str, tflops: float, gibibytes: float, gb_per_s: float, link: float) -> Chip:
    return Chip(name, tflops * 1e12, int(gibibytes * _GIB), gb_per_s * 1e9, link * 1e9, _TPU_SHARE)


def _gpu(name: str, tflops: float, gigabytes: float, gb_per_s: float, link: float) -> Chip:
    return Chip(name, tflops * 1e12, int(gigabytes * 1e9), gb_per_s * 1e9, link * 1e9, _GPU_SHARE)


# What a device's kind begins with → the chip; of several that fit, the longest counts.
_CHIPS = {
    "TPU v5 lite": _tpu("TPU v5e", 197, 16, 819, 200),
    "TPU v5": _tpu("TPU v5p", 459, 95, 2765, 600),
    "TPU v6 lite": _tpu("TPU v6e", 918, 32, 1638, 400),
    "TPU7x": _tpu("TPU7x, one of two per chip", 2307 / 2, 192 / 2, 7380 / 2, 1200 / 2 / 2),
    # Without NVLink cards talk over PCI Express: 32 GB/s each way in generation 4, 64 in generation 5.
    "NVIDIA A100-SXM4-40GB": _gpu("A100 SXM 40 GB", 312, 42.9, 1555, 300),
    "NVIDIA A100-SXM4-80GB": _gpu("A100 SXM 80 GB", 312, 85.9, 2039, 300),
    "NVIDIA A100-PCIE-40GB": _gpu("A100 PCIe 40 GB", 312, 42.9, 1555, 32),
    "NVIDIA A100 80GB PCIe": _gpu("A100 PCIe 80 GB", 312, 85.9, 1935, 32),
    "NVIDIA H100 80GB HBM3": _gpu("H100 SXM", 989.4, 85.5, 3352, 450),
    "NVIDIA H100 PCIe": _gpu("H100 PCIe", 756, 85.5, 2039, 64),
    "NVIDIA H200": _gpu("H200 SXM", 989.4, 150.7, 4800, 450),
    "NVIDIA H200 NVL": _gpu("H200 NVL", 835.5, 150.7, 4800, 450),
    "NVIDIA L40S": _gpu("L40S", 362, 48.3, 864, 32),
    "NVIDIA GeForce RTX 3090": _gpu("RTX 3090", 71, 25.3, 936, 32),
    "NVIDIA GeForce RTX 4090": _gpu("RTX 4090", 165.2, 25.3, 1008, 32),
    "NVIDIA GeForce RTX 5090": _gpu("RTX 5090", 209.5, 33.7, 1792, 64),
    "NVIDIA RTX 6000 Ada Generation": _gpu("RTX 6000 Ada", 364.2, 50.9, 960, 32),
    "NVIDIA RTX PRO 6000": _gpu("RTX PRO 6000", 503.8, 102.2, 1792, 64),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip behind a device's kind, such as "TPU v5 lite" or "NVIDIA H200"; None where it is not listed.

    CPUs are not: what they can do depends on cores, clock and what else they are doing.
    """
    fitting = [kind for kind in _CHIPS if device_kind.startswith(kind)]
    return _CHIPS[max(fitting, key=len)] if fitting else None
