"""The Triton body passes the checks of all bodies: emulated on CPU, and as it is on a GPU."""

import numpy as np
import pytest
from attention_checks import AttentionChecks, make_case, reference

from dnabert2_jax.kernels.bodies import Request
from dnabert2_jax.kernels.pallas_triton import check


class Checks(AttentionChecks):
    """The backward pass takes its weights from scores and a log-sum-exp that were rounded apart.

    A weight is then off by a few units of roundoff times the score, relative to itself, as the class allows
    for all but scores of 1e8, where no digit is left: the result is right there, and gradients stay bounded.
    """

    body = "pallas_triton"
    __test__ = False

    @pytest.mark.parametrize("size", [64, 200])
    def test_scores_of_a_hundred_million(self, size, dtype):
        case = make_case(size, 3, 64, dtype, scale=1e4)
        expected, sizes = reference(case)
        ours = self.compute(case, dtype)
        error = np.abs(ours.out - expected.out).max(axis=(1, 2, 3))
        assert (error <= (2.0**-7 if dtype == "bfloat16" else 2.0**-20) * sizes.out).all()
        # No weight is above 1, whatever rounding did to it.
        assert (np.abs(ours.dv) <= np.abs(case.dout).sum(axis=1, keepdims=True) * 1.01).all()
        assert np.isfinite([np.abs(gradient).max() for gradient in (ours.dq, ours.dk)]).all()

    @pytest.mark.parametrize("size", [64, 200])
    def test_scores_of_ten_thousand(self, size, dtype):
        self.compare(make_case(size, 3, 64, dtype, scale=1e2), dtype)


@pytest.mark.slow
class TestEmulated(Checks):
    interpret = True
    __test__ = True


@pytest.mark.gpu
class TestOnTheCard(Checks):
    __test__ = True


class TestQuickly:
    """One case for each kernel; the emulator takes seconds to compile each."""

    checks = TestEmulated()

    def test_a_row_in_one_backward_kernel(self):
        self.checks.compare(make_case(100, 3, 64, "bfloat16"), "bfloat16")

    def test_a_long_row_in_two_backward_kernels_with_blocks_off_the_diagonal(self):
        self.checks.compare(make_case(200, 2, 32, "float32"), "float32")


@pytest.mark.parametrize(
    ("dtype", "width"), [("float64", 64), ("float16", 64), ("bfloat16", 16), ("float32", 96)]
)
def test_refuses_what_it_has_no_tiles_for(dtype, width):
    request = Request("gpu", "NVIDIA H200", dtype, 1, 128, 128, 12, width)
    with pytest.raises(NotImplementedError, match=f"not {dtype} with {width}"):
        check(request)
