"""Watches the other processes of a job: heartbeats in, one sentence about who is gone out.

JAX's runtime lets a process wait for minutes for one that is dead, and then ends it with a stack trace. Here
each process writes a heartbeat into the runtime's key-value store and reads those of the others, in a thread,
and ends itself, whatever it waits for, when one of them stops.
"""

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import jax
from jax._src import distributed

from dnabert2_jax.parallel.last_words import LastWords

_BEATS, _HOSTS, _LEFT = "dnabert2/beat/", "dnabert2/host/", "dnabert2/left/"
# What _LEFT says of a process that has an error and does not know whose fault it is, besides a status.
_SUSPECTS = "suspects"

# In seconds.
_INTERVAL = 1.0  # between heartbeats
_SUSPICIOUS = 5.0  # without one until a process is gone, where there is other evidence
_GRACE = 4.0  # from the news that a process has left until the others end too
_FAREWELL = 10.0  # for which process 0, through which they hear of it, waits for that


class Peers(threading.Thread):
    """Ends this process, with status 1 and a message, when another one of the job has stopped.

    Args:
      timeout: seconds without a heartbeat until a process counts as gone; where something else has gone
        wrong, a few are enough.
    """

    def __init__(self, timeout: float):
        super().__init__(name="peers", daemon=True)
        self._me, self._count = jax.process_index(), jax.process_count()
        self._timeout = timeout
        self._hosts = {self._me: socket.gethostname()}
        _tell(_HOSTS, self._me, self._hosts[self._me])
        self._words = LastWords(self._ended_by_the_runtime)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Beats, and looks at the others' beats, for as long as the process lives."""
        beat, trouble = 0, 0
        heard: dict[int, str] = {}
        # Looks in a row at which a process had no new heartbeat. Time would not do: where a machine sleeps or
        # is overloaded, it passes for all of them.
        missed = dict.fromkeys(range(self._count), 0)
        while not self._stopping.wait(_INTERVAL):
            beat += 1
            try:
                _tell(_BEATS, self._me, str(beat))
                beats, left = _told(_BEATS), _told(_LEFT)
                if len(self._hosts) < self._count:
                    self._hosts |= _told(_HOSTS)
            except jax.errors.JaxRuntimeError:
                # The store is with process 0; the runtime ends us where that is gone for good.
                continue
            if left.get(self._me, _SUSPECTS) != _SUSPECTS:
                return
            for index in missed:
                missed[index] = missed[index] + 1 if beats.get(index) == heard.get(index) else 0
            heard = beats
            trouble += bool(left)
            patience = min(_SUSPICIOUS, self._timeout) if trouble else self._timeout
            silent = {index for index, looks in missed.items() if looks * _INTERVAL > patience}
            gone = {index for index, what in left.items() if what != _SUSPECTS}
            if dead := silent - gone:
                self._end(f"{self._names(sorted(dead))}: gone, without a word for {patience:g} s", dead)
            if gone and trouble * _INTERVAL > _GRACE:
                self._end(f"{self._names(sorted(gone))}: has stopped, and its own lines say why", gone)

    def stop(self) -> None:
        """Ends the watch before the interpreter goes, which no thread in the runtime's code would survive."""
        self._stopping.set()
        self.join()
        self._words.withdraw()

    def _end(self, reason: str, gone: set[int]) -> NoReturn:
        os.write(2, f"dnabert2: {reason}; {self._names([self._me])} stops too\n".encode())
        _leave(1, gone)

    def _ended_by_the_runtime(self) -> str:
        if not self._me:
            return f"{self._names([0])}: ended by JAX's runtime, for the reason above"
        return f"{self._names([0])}: gone, or out of reach; {self._names([self._me])} stops too"

    def _names(self, indices: Sequence[int]) -> str:
        hosts = (
            f"process {index} of {self._count} on {self._hosts.get(index, 'an unknown host')}"
            for index in indices
        )
        return ", ".join(hosts)


def suspect_peers() -> None:
    """Tells the others that something is wrong, and returns if all of them are alive.

    Where one is gone, and an error here probably due to that, the watch ends this process meanwhile.
    """
    if _store() is None:
        return
    me = jax.process_index()
    with suppress(jax.errors.JaxRuntimeError):
        if me in _told(_LEFT):
            return
        before = _told(_BEATS)
        _tell(_LEFT, me, _SUSPECTS)
        while any(_told(_BEATS).get(index) == before.get(index) for index in range(jax.process_count())):
            time.sleep(_INTERVAL)


def leave_peers(status: int) -> None:
    """Ends this process, if it has peers, with an exit status and without waiting for them as JAX would.

    Those that go on are told, so that they end too.
    """
    if _store() is not None and jax.process_count() > 1:
        _leave(status, set())


def _leave(status: int, gone: set[int]) -> NoReturn:
    me, deadline = jax.process_index(), time.monotonic() + _FAREWELL
    with suppress(jax.errors.JaxRuntimeError):
        _tell(_LEFT, me, str(status))
        # The store ends with process 0, and with it whoever has not left.
        waits_for = set(range(jax.process_count())) - gone if me == 0 else {me}
        while waits_for - _told(_LEFT).keys() and time.monotonic() < deadline:
            time.sleep(_INTERVAL / 4)
    time.sleep(0 if me else _INTERVAL / 2)
    os._exit(status)


def _tell(where: str, index: int, what: str) -> None:
    """Raises jax.errors.JaxRuntimeError where process 0, which has the store, is gone; so does `_told`."""
    _store().key_value_set(f"{where}{index}", what, allow_overwrite=True)


def _told(where: str) -> dict[int, str]:
    entries = _store().key_value_dir_get(where)
    return {int(name.rpartition("/")[2]): what for name, what in entries}


def _store() -> Any:
    return distributed.global_state.client
