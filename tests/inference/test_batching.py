"""Rows in batches of few shapes: nothing lost, little padding, few compilations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.inference.batching import BatchPlanner, Row, bucket_length, fill, rows_at_once

DIVISIONS = st.sampled_from([2, 4, 8, 16])


@given(st.integers(2, 1_000_000), DIVISIONS)
def test_a_bucket_holds_the_row_and_wastes_little(tokens, divisions):
    length = bucket_length(tokens, divisions)
    assert length % 8 == 0
    assert tokens <= length
    assert length - tokens < max(15, length / divisions)
    assert bucket_length(length, divisions) == length


@given(st.integers(2, 100_000), DIVISIONS)
def test_coarse_buckets_are_among_the_fine_ones(tokens, divisions):
    coarse = bucket_length(tokens, divisions)
    assert bucket_length(coarse, 2 * divisions) == coarse


@given(
    st.lists(st.one_of(st.integers(2, 300), st.integers(2, 20_000)), max_size=200),
    st.integers(1, 70),
    st.integers(1, 8),
)
def test_every_row_is_in_one_batch_that_holds_it(lengths, batch_size, devices):
    lengths = np.array(lengths, int)
    seen, rows_of = [], {}
    for places, (rows, length) in BatchPlanner(batch_size, devices).plan(lengths):
        assert 1 <= len(places) <= rows
        assert rows % devices == 0
        assert rows // devices <= batch_size
        assert rows == devices or rows * length <= devices * batch_size * 128
        assert rows == devices or rows // devices * length**2 <= 1 << 24
        assert lengths[places].max() <= length
        assert rows_of.setdefault(length, rows) == rows  # one B, and so one compilation, for each S
        seen += places.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_padding_of_many_rows_is_below_a_twentieth():
    lengths = np.random.default_rng(0).integers(18, 260, 4096)
    shapes = [shape for _, shape in BatchPlanner(32).plan(lengths)]
    assert 1 - lengths.sum() / sum(rows * length for rows, length in shapes) < 0.05
    assert len(set(shapes)) <= 32


def test_blocks_share_what_was_compiled():
    rng = np.random.default_rng(0)
    planner = BatchPlanner(32)
    shapes = [{shape for _, shape in planner.plan(rng.integers(18, 260, 1024))} for _ in range(30)]
    assert len(set.union(*shapes)) <= 36
    assert len(shapes[0]) < len(shapes[-1])
    assert len(set.union(*shapes[20:]) - set.union(*shapes[:20])) <= 2


def test_few_rows_have_few_shapes():
    lengths = np.random.default_rng(0).integers(18, 260, 300)
    assert len({shape for _, shape in BatchPlanner(32).plan(lengths)}) <= 8


@pytest.mark.parametrize(
    ("length", "rows"), [(16, 32), (128, 32), (256, 16), (512, 8), (4096, 1), (100_000, 1)]
)
def test_long_rows_share_a_batch_with_fewer_others(length, rows):
    assert rows_at_once(length, 32) == rows


def test_rows_as_arrays():
    single = Row(np.array([9, 7, 8, 9], np.int32), None, 1, 3)
    pair = Row(np.array([1, 6, 2, 7, 2], np.int32), np.array([0, 0, 0, 1, 1], np.int32), 0, 5)
    inputs = fill([single, pair], (3, 8))
    np.testing.assert_array_equal(
        inputs.input_ids, [[1, 7, 8, 2, 3, 3, 3, 3], [1, 6, 2, 7, 2, 3, 3, 3], [3] * 8]
    )
    np.testing.assert_array_equal(inputs.attention_mask.sum(axis=1), [4, 5, 1])
    np.testing.assert_array_equal(inputs.token_type_ids, [[0] * 8, [0, 0, 0, 1, 1, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(inputs.owned, [[1, 3], [0, 5], [0, 1]])
    assert fill([single], (1, 8)).token_type_ids is None
