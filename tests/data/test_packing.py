"""Sequences in rows: each in one place, rows about full, row lengths that cost least."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.data.packing import NOBODY, choose_row_lengths, deal, fill_rows, row_length

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 8))
def test_each_sequence_is_dealt_out_once(lengths, per_row):
    lengths = np.array(lengths)
    rows = -(-len(lengths) // per_row)
    dealt = deal(lengths, rows, per_row)
    assert dealt.shape == (rows, per_row)
    assert sorted(dealt[dealt != NOBODY]) == list(range(len(lengths)))
    if per_row == 1:
        assert dealt[:, 0].tolist() == list(range(len(lengths)))


def test_rows_are_dealt_about_equal_totals():
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(48, 76, 32)
        totals = lengths[deal(lengths, 4, 8)].sum(axis=1)
        assert np.ptp(totals) <= 4


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 3))
def test_row_lengths_are_the_cheapest_of_all_choices(needed, most):
    chosen = choose_row_lengths(needed, most)
    values = sorted({row_length(tokens) for tokens in needed})
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) <= most
    assert chosen[-1] == values[-1]

    def cost(lengths):
        return sum(min(length for length in lengths if length >= tokens) for tokens in needed)

    every = (
        (*others, values[-1])
        for count in range(min(most, len(values)))
        for others in combinations(values[:-1], count)
    )
    assert cost(chosen) == min(map(cost, every))


@given(LENGTHS, st.integers(60, 200))
def test_rows_hold_each_sequence_once_and_no_more_than_fits(lengths, capacity):
    lengths = np.array(lengths)
    rows = fill_rows(lengths, capacity)
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert all(0 < lengths[row].sum() <= capacity for row in rows)
    # No two rows could have been one: at least half of all rows are more than half full.
    assert sum(lengths[row].sum() <= capacity // 2 for row in rows) <= 1


@pytest.mark.parametrize(("shortest", "longest"), [(10, 25), (45, 80), (20, 260)])
def test_rows_of_512_are_more_than_98_percent_full(shortest, longest):
    lengths = np.random.default_rng(1).integers(shortest, longest, 50_000)
    rows = fill_rows(lengths, 512)
    assert lengths.sum() / (512 * len(rows)) > 0.98
