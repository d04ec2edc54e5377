"""What a measurement was made on: names of libraries come in, their versions and the processor go out."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe_machine(*libraries: str) -> dict[str, str | int]:
    """Processor, cores, and versions of Python, this package and the libraries."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: version(name) for name in ("dnabert2_jax", *libraries)},
    }
