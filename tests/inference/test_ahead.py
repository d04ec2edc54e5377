"""Items made in another thread: in order, bounded, with their errors, and an end to it."""

import threading
import time

import pytest

from dnabert2_jax.inference.ahead import ahead


def test_items_come_in_order_from_another_thread():
    def items():
        for number in range(100):
            yield number, threading.get_ident()

    found = list(ahead(items(), 3))
    assert [number for number, _ in found] == list(range(100))
    assert {thread for _, thread in found} - {threading.get_ident()}


@pytest.mark.parametrize("error", [ValueError("inside"), KeyboardInterrupt("inside")])
def test_an_error_comes_at_its_place(error):
    def items():
        yield 1
        raise error

    stream = ahead(items(), 3)
    assert next(stream) == 1
    with pytest.raises(type(error), match="inside"):
        next(stream)


def test_it_is_a_few_items_ahead_and_stops_with_its_user():
    made, closed = [], threading.Event()

    def items():
        try:
            for number in range(10**9):
                made.append(number)
                yield number
        finally:
            closed.set()

    before = threading.active_count()
    stream = ahead(items(), 3)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 6
    stream.close()
    assert closed.wait(2)
    assert threading.active_count() == before
