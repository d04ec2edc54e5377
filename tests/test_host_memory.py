"""Freed memory is kept: asked of the system's own count of page faults."""

import platform
from types import SimpleNamespace

import pytest

from dnabert2_jax import host_memory

_FAULTS = """
import ctypes
import resource
import sys
import threading
from dnabert2_jax.host_memory import keep_freed_memory

assert keep_freed_memory(sys.argv[1]) == (sys.argv[1] == "always")

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]

def fill():
    # 64 MiB, which a thread's own arena could not hold.
    address = library.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(address, 1, 2**26)
    library.free(address)

def in_a_thread():
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()

fill(), in_a_thread()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill(), in_a_thread()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.multiprocess
def test_memory_that_was_freed_is_used_again(start_python):
    cleared = {}
    for what in ("never", "always"):
        output, errors = start_python(_FAULTS, what, JAX_PLATFORMS="cpu").communicate(timeout=120)
        cleared[what] = int(output or pytest.fail(errors))
    # Twice 64 MiB, or hardly anything.
    assert cleared["never"] >= 2**27
    assert cleared["always"] < 2**22


@pytest.mark.parametrize(("available", "kept"), [(8e9, False), (64e9, True)])
def test_scarce_memory_is_returned(monkeypatch, available, kept):
    calls = []
    library = SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *call: calls.append(call) or 1)
    monkeypatch.setattr(host_memory.sys, "platform", "linux")
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(host_memory, "available_memory", lambda: available)
    assert host_memory.keep_freed_memory() == kept
    assert bool(calls) == kept
