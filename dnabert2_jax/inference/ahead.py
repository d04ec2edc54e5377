"""Work done ahead: an iterator goes in, the same items come out, made meanwhile in another thread."""

from collections.abc import Generator, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any

# How often the thread looks whether it is still wanted, and how long one is waited for that cannot look, as
# where it reads from a pipe that gives nothing.
_POLL_SECONDS = 0.1
_FAREWELL_SECONDS = 2.0


class _End:
    """What follows the last item: the error that ended them, or None."""

    def __init__(self, error: BaseException | None):
        self.error = error


def ahead[T](items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Draws from an iterator in a thread of its own.

    Args:
      items: is used, and closed where it is a generator, in that thread alone.
      depth: how many items are kept ready.

    Yields:
      The items in order. Where this generator is closed before its end, the thread ends too.

    Raises:
      BaseException: what `items` raises, at its place in the order.
    """
    ready: Queue[Any] = Queue(depth)
    unwanted = Event()

    def hand_over(entry: object) -> bool:
        while not unwanted.is_set():
            try:
                ready.put(entry, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        error = None
        try:
            for item in items:
                if not hand_over(item):
                    break
        except BaseException as raised:
            error = raised
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        hand_over(_End(error))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while not isinstance(entry := ready.get(), _End):
            yield entry
        if entry.error is not None:
            raise entry.error
    finally:
        unwanted.set()
        thread.join(_FAREWELL_SECONDS)
