"""Keeps what a long command holds in memory from growing: freed blocks go back to the system at once."""

import ctypes

# From malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_BLOCK = 1 << 17


def return_freed_memory() -> None:
    """Tells glibc's allocator to give blocks of 128 KiB and more back when they are freed.

    Left alone it keeps them, more the longer a process runs, and keeps an arena for each thread besides. A
    setting of the whole process, for commands; does nothing where the C library is another.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        for option, value in ((_MMAP_THRESHOLD, _BLOCK), (_TRIM_THRESHOLD, _BLOCK), (_ARENA_MAX, 1)):
            allocator.mallopt(option, value)
