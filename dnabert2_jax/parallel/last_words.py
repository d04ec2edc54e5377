"""A sentence for people where a runtime ends the process with abort(), which no exception handler sees.

JAX's does so when it cannot reach process 0, or when not all processes come together.
"""

import ctypes
import os
import signal
from collections.abc import Callable

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


class LastWords:
    """While this object lives, abort() in any thread writes a sentence to stderr and ends with status 1.

    Python's own signal handlers run in the main thread when it next comes to Python code, which is too late.
    One that C calls runs in the thread that aborts, before it is gone.

    Args:
      words: gives the sentence.
    """

    def __init__(self, words: Callable[[], str]):
        def speak(_: int) -> None:
            os.write(2, f"dnabert2: {words()}\n".encode())
            os._exit(1)

        # Kept here, as C holds no reference to it.
        self._handler = _HANDLER(speak)
        _set_abort_handler(self._handler)

    def withdraw(self) -> None:
        """Makes abort() what it was before."""
        _set_abort_handler(_HANDLER(signal.SIG_DFL))


def _set_abort_handler(handler: object) -> None:
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, _HANDLER), ctypes.c_void_p
    set_handler(signal.SIGABRT, handler)
