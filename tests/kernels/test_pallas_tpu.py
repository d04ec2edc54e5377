"""The Pallas TPU bodies of `alibi_attention`, emulated on this machine: a few checks, all when asked."""

import jax.numpy as jnp
import numpy as np
import pytest
from attention_checks import AttentionChecks, make_case, reference

from dnabert2_jax.kernels.attention import alibi_attention
from dnabert2_jax.kernels.bodies import Request, load


class ShortRows(AttentionChecks):
    body = "pallas_tpu_short"
    interpret = True
    longest = 129


class LongRows(AttentionChecks):
    body = "pallas_tpu_long"
    interpret = True


@pytest.mark.slow
class TestShortRows(ShortRows):
    """Every check, on rows that the body takes."""

    def test_one_distant_giant_key(self, dtype):  # noqa: ARG002
        pytest.skip("its rows are longer than this body's, which has no blocks to leave out")

    def test_gradients_that_come_from_distant_rows_only(self, dtype):  # noqa: ARG002
        pytest.skip("its rows are longer than this body's, which has no blocks to leave out")

    def test_not_a_number_stays_visible(self, dtype):
        not_a_number_stays_in_its_segment_and_head(self, dtype)


@pytest.mark.slow
class TestLongRows(LongRows):
    """Every check."""


@pytest.mark.parametrize("rows", [ShortRows(), LongRows()], ids=["short", "long"])
@pytest.mark.parametrize(
    ("length", "heads", "width", "layout", "dtype"),
    [
        (129, 3, 64, "packed and padded", "bfloat16"),
        (40, 2, 128, "nothing but padding", "float32"),
        (1, 1, 32, "whole", "float32"),
    ],
)
def test_in_brief(rows, length, heads, width, layout, dtype):
    rows.compare(make_case(length, heads, width, dtype, layout=layout), dtype)


@pytest.mark.parametrize("rows", [ShortRows(), LongRows()], ids=["short", "long"])
def test_scores_of_a_hundred_million(rows):
    rows.test_scores_of_a_hundred_million(130, "float32")


@pytest.mark.parametrize("rows", [ShortRows(), LongRows()], ids=["short", "long"])
def test_queries_and_keys_of_other_places(rows):
    rows.test_queries_and_keys_of_other_places(40, 130, 100, 90, "float32")


def test_packed_projection_of_short_rows():
    ShortRows().test_packed_projection("bfloat16")


def not_a_number_stays_in_its_segment_and_head(rows: AttentionChecks, dtype: str) -> None:
    case = make_case(100, 2, 64, dtype, layout="packed")
    case.k[0, 0, 0, 0] = np.nan
    ours = rows.compute(case, dtype)
    seen = case.q_segments[0] == case.k_segments[0, 0]
    assert np.isnan(ours.out[0, seen, 0]).all()
    assert np.isfinite(ours.out[0, ~seen]).all()
    assert np.isfinite(ours.out[:, :, 1]).all()


def test_not_a_number_stays_in_its_segment_and_head():
    not_a_number_stays_in_its_segment_and_head(ShortRows(), "float32")


def test_several_blocks_of_long_rows():
    # 1,200 keys are three blocks of 512, or several of less; heads reach differently far.
    LongRows().compare(make_case(1200, 2, 64, "float32", layout="packed", batch=1, scale=1.0), "float32")


def test_far_blocks_of_long_rows_are_left_out():
    # What is visited shows: nothing times not-a-number is not a number.
    case = make_case(1536, 2, 64, "float32", layout="whole", batch=1, scale=0.3)
    q, k, v = (jnp.asarray(array, jnp.float32) for array in (case.q, case.k, case.v))
    slopes = jnp.asarray([0.5, 2.0**-20], jnp.float32)
    poisoned = v.at[:, 1024:].set(np.nan)

    def attend(skip):
        return np.asarray(
            alibi_attention(
                q, k, poisoned, slopes, implementation="pallas_tpu_long", skip=skip, interpret=True
            )
        )

    skipping, visiting = attend(True), attend(False)
    assert np.isnan(visiting).all()
    assert np.isnan(skipping[:, :, 1]).all()
    expected, sizes = reference(case._replace(slopes=np.asarray(slopes)))
    near = np.abs(skipping[:, :512, 0] - expected.out[:, :512, 0]).max()
    assert near <= 2.0**-24 * np.abs(case.v).max() + 8 * 2.0**-24 * (1 + sizes.lse.max()) * sizes.out.max()


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("pallas_tpu_short", {"dtype": "float64"}, "float64"),
        ("pallas_tpu_short", {"q_length": 257}, "257"),
        ("pallas_tpu_short", {"head_width": 48}, "48"),
        ("pallas_tpu_short", {"heads": 64, "head_width": 128, "dtype": "float32"}, "64 heads"),
        ("pallas_tpu_long", {"dtype": "float16"}, "float16"),
        ("pallas_tpu_long", {"k_length": 20000}, "20000"),
        ("pallas_tpu_long", {"head_width": 16}, "16"),
    ],
)
def test_what_is_not_taken_is_refused_with_its_reason(name, change, reason):
    request = Request("tpu", "TPU v5e", "bfloat16", 8, 128, 128, 12, 64)
    load(name).check(request)
    with pytest.raises(NotImplementedError, match=reason):
        load(name).check(Request(**{**request.__dict__, **change}))
