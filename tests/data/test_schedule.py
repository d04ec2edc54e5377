import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.data.schedule import CYCLE, Schedule, whole_shares

shares = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20).map(np.array)


@given(shares, st.integers(100, 10**6))
def test_whole_shares_add_up_and_are_close(shares, total):
    places = whole_shares(shares, total)
    assert places.sum() == total
    assert places.min() >= 1
    exact = total * shares / shares.sum()
    off = np.abs(places - exact)
    assert np.sort(off)[:-1].max(initial=0) <= 1 + 1e-6
    assert off.max() <= shares.size


def test_a_share_of_nothing_gets_nothing():
    assert whole_shares(np.array([0.0, 3.0, 0.0, 1.0]), 8).tolist() == [0, 6, 0, 2]


@settings(max_examples=10, deadline=None)
@given(shares, st.integers(0, 2**32))
def test_a_groups_draws_are_numbered_without_a_gap(shares, seed):
    group, number = Schedule(shares, seed).look_up(np.arange(CYCLE + 1000))
    for kind in range(shares.size):
        np.testing.assert_array_equal(number[group == kind], np.arange(np.count_nonzero(group == kind)))


def test_shares_hold_after_any_number_of_draws():
    shares = np.array([0.6, 0.25, 0.1, 0.04, 0.0099, 0.0001])
    schedule = Schedule(shares, 7)
    group, _ = schedule.look_up(np.arange(2 * CYCLE))
    counts = np.cumsum(group[:, None] == np.arange(6), axis=0)
    expected = np.arange(1, 2 * CYCLE + 1)[:, None] * shares
    assert np.abs(counts - expected).max() < 4


def test_draws_are_looked_up_anywhere():
    schedule, again = Schedule(np.array([3.0, 1.0, 2.0]), 1), Schedule(np.array([3.0, 1.0, 2.0]), 1)
    draws = np.array([5 * CYCLE + 17, 3, 10**15])
    for one, other in zip(schedule.look_up(draws), again.look_up(draws), strict=True):
        np.testing.assert_array_equal(one, other)
    alone = [int(schedule.look_up(np.array([draw]))[1][0]) for draw in draws]
    assert alone == schedule.look_up(draws)[1].tolist()


def test_the_order_is_not_a_pattern_and_depends_on_the_seed():
    first, second = (Schedule(np.array([1.0, 1.0]), seed).look_up(np.arange(4000))[0] for seed in (0, 1))
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.05)
    assert 0.2 < np.mean(first[1:] == first[:-1]) < 0.5
