"""Requests to stop: the first is a flag, the second acts at once, and nothing is left changed."""

import os
import signal

import pytest

from dnabert2_jax.training.interruption import catch_interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_is_a_flag(number):
    before = signal.getsignal(number)
    with catch_interruption() as stop:
        assert not stop.due(1)
        os.kill(os.getpid(), number)
        assert stop.due(2)
        assert signal.getsignal(number) == before, "a second one acts as if it were the first"
    assert signal.getsignal(number) == before


def test_ctrl_c_twice():
    with catch_interruption() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.due(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
