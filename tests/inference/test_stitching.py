"""Windows over long records: each token belongs to one, with context, and the results fit together."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.windows import check_window, cut_windows, stitch_windows


@st.composite
def cuts(draw):
    window = draw(st.integers(3, 60))
    return draw(st.integers(2, 500)), window, draw(st.integers(0, window - 3))


@given(cuts())
def test_each_token_is_owned_once_in_order(cut):
    tokens, size, overlap = cut
    windows = cut_windows(tokens, size, overlap)
    owned = [place + window.first for window in windows for place in range(window.start, window.stop)]
    assert owned == list(range(tokens))
    assert all(window.length == min(size, tokens) for window in windows)
    assert (len(windows) == 1) == (tokens <= size)


@given(cuts())
def test_owned_tokens_have_half_of_the_overlap_around_them(cut):
    tokens, size, overlap = cut
    windows = cut_windows(tokens, size, overlap)
    for window, following in pairwise(windows):
        assert window.first + size - 2 - following.first >= overlap
        assert size - 1 - window.stop >= overlap // 2
        assert following.start - 1 >= overlap // 2


@given(cuts())
def test_no_window_could_be_spared(cut):
    tokens, size, overlap = cut
    count = len(cut_windows(tokens, size, overlap))
    if count > 1:
        assert (size - 2) + (count - 2) * (size - 2 - overlap) < tokens - 2


def test_stitching():
    windows = cut_windows(11, 7, 2)  # nine tokens between [CLS] and [SEP], in windows of five
    assert [window.first for window in windows] == [0, 2, 4]
    vectors = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    parts = [vectors[window.first : window.first + 7] for window in windows]
    np.testing.assert_array_equal(stitch_windows(windows, parts, "tokens"), vectors[1:-1])
    owned = [part[window.start : window.stop] for window, part in zip(windows, parts, strict=True)]
    means = [part.mean(axis=0) for part in owned]
    np.testing.assert_allclose(stitch_windows(windows, means, "mean"), vectors.mean(axis=0), atol=1e-6)
    largest = [part.max(axis=0) for part in owned]
    np.testing.assert_array_equal(stitch_windows(windows, largest, "max"), vectors.max(axis=0))


def test_one_window_changes_nothing():
    (window,) = cut_windows(11, None, 256)
    value = np.array([0.1, 0.2], np.float32)
    assert stitch_windows([window], [value], "mean") is value


@pytest.mark.parametrize(
    ("window", "overlap", "complaint"),
    [(2, 0, "window is 2"), (100, 98, "is 98; it must be 0 to 97"), (None, -1, "0 or more")],
)
def test_windows_that_make_no_sense(window, overlap, complaint):
    with pytest.raises(UserError, match=complaint):
        check_window(window, overlap)
    check_window(None, 0)
    check_window(3, 0)
