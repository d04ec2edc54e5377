"""Ctrl-C and SIGTERM as a flag that a loop looks at between steps, so that it can save before it leaves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether someone has asked the process to stop."""

    requested: bool = False


@contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Turns the first SIGINT or SIGTERM into `requested`; a second one acts at once."""
    interruption = Interruption()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(*_) -> None:
        interruption.requested = True
        restore()

    for number in previous:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()
