"""The slopes of ALiBi, against the released model's and the closed form."""

import numpy as np
import pytest

from dnabert2_jax.kernels.alibi import alibi_slopes


def test_twelve_heads_have_the_slopes_of_the_released_model():
    exponents = [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]
    np.testing.assert_array_equal(alibi_slopes(12), np.array([2.0**-x for x in exponents], np.float32))


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 64])
def test_a_power_of_two_gives_a_geometric_series_down_to_one_256th(heads):
    slopes = alibi_slopes(heads)
    start = 2.0 ** -(2.0 ** -(np.log2(heads) - 3))
    np.testing.assert_allclose(slopes, start ** np.arange(1, heads + 1), rtol=1e-7)
    assert slopes[-1] == 2.0**-8


@pytest.mark.parametrize("heads", [3, 5, 6, 10, 12, 20, 33])
def test_other_numbers_add_every_second_slope_of_the_next_power(heads):
    lower = 1 << (heads.bit_length() - 1)
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    assert slopes.dtype == np.float32
    np.testing.assert_array_equal(slopes[:lower], alibi_slopes(lower))
    np.testing.assert_array_equal(slopes[lower:], alibi_slopes(2 * lower)[::2][: heads - lower])
