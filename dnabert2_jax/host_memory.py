"""How the C library hands out memory, which on CPUs decides how fast XLA's programs run.

XLA's CPU programs ask for gigabytes of working memory at every call and give them back. By default glibc
takes each such piece from the system and returns it at once, so that at every call the system clears all of
it page by page.
"""

import ctypes
import sys
from pathlib import Path
from typing import Literal

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8

# A step of the 117M model on 32×128 tokens has taken up to 15.4 GB so, and 8.8 without.
_PLENTY = 16e9


def keep_freed_memory(when: Literal["auto", "always", "never"] = "auto") -> bool:
    """Has this process keep what is freed for what is asked for next.

    Training and embedding on CPUs are faster so, but working memory can be there twice, and the process keeps
    its peak until it ends (`benchmarks/freed_memory.py`). To be called before there are other threads, and so
    before JAX's first computation: a thread stays with the arena that it has.

    Args:
      when: "auto" means where 16 GB of memory are available.

    Returns:
      Whether it is so; never where the C library is another one than glibc.
    """
    if when == "never" or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or (when == "auto" and available_memory() < _PLENTY):
        return False
    # One arena for all threads, as the others take large pieces from the system whatever else is set; no
    # piece from the system by itself; and nothing returned to it.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all(library.mallopt(name, value) == 1 for name, value in settings)


def available_memory() -> float:
    """Bytes that Linux could give this process, or its container has in all; 0 where nothing is known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0.0
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return available
    return min(available, float(limit)) if limit.isdecimal() else available
