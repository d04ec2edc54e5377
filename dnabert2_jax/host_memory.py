"""How the C library hands out memory, which on CPUs decides how fast XLA's programs run.

XLA's CPU programs ask for gigabytes of working memory at every call and give them back. By default glibc
takes each such piece from the system and returns it at once, so that at every call the system clears all of
it page by page.
"""

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Has this process keep what is freed for what is asked for next.

    A training step on CPUs is faster so (`benchmarks/freed_memory.py`). The price is that the process keeps
    its peak of memory until it ends. To be called before there are other threads, and so before JAX's first
    computation: a thread stays with the arena that it has.

    Returns:
      Whether it is so; not where the C library is another one than glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # One arena for all threads, as the others take large pieces from the system whatever else is set; no
    # piece from the system by itself; and nothing returned to it.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
