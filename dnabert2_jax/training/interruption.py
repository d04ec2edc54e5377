"""Requests to stop as a flag that a loop looks at between steps, so that it can save before it leaves.

Ctrl-C sends SIGINT; schedulers send SIGTERM before they take a machine away, and Slurm what
`--signal=USR1@120` names, so many seconds before the time is up.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Whether someone has asked this process, or another one of the job, to stop."""

    requested: bool = False

    def due(self, step: int) -> bool:
        """Whether to stop after `step`. All processes ask after every step, and stop after the same one."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.requested


@contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Turns the first SIGINT, SIGTERM or SIGUSR1 into `requested`; a second one acts at once.

    With several processes SIGTERM is left to JAX's runtime, whose handler has them agree on a step.
    """
    interruption = Interruption()
    several = jax.process_count() > 1
    caught = [number for number in _SIGNALS if not (several and number == signal.SIGTERM)]
    previous = {number: signal.getsignal(number) for number in caught}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(*_) -> None:
        interruption.requested = True
        restore()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    for number in previous:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()
