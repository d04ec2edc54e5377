"""`alibi_attention` against a float64 NumPy reference, with gradients by the chain rule written out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import alibi_attention, alibi_attention_qkv


class Reference(NamedTuple):
    """The result and the gradients of `(result * cotangent).sum()`, float64 [B, S, H, D] each."""

    attended: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray


def reference(q, k, v, slopes, segments, cotangent, q_offset=0, k_offset=0) -> Reference:
    """Loops over rows, heads and queries; a query sees the keys of its segment only, padding sees nothing."""
    q, k, v, cotangent = (np.asarray(array, np.float64) for array in (q, k, v, cotangent))
    batch, length, heads, width = q.shape
    out, dq, dk, dv = (np.zeros_like(q) for _ in range(4))
    for b in range(batch):
        for h in range(heads):
            for i in range(length):
                keys = np.flatnonzero(segments[b] == segments[b, i])
                if segments[b, i] == 0:
                    continue
                distance = np.abs(i + q_offset - keys - k_offset).astype(np.float32)
                # The bias is a float32 product by definition: the released model's is.
                bias = (np.float32(slopes[h]) * distance).astype(np.float64)
                scores = k[b, keys, h] @ q[b, i, h] / np.sqrt(width) - bias
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                out[b, i, h] = weights @ v[b, keys, h]
                dweights = v[b, keys, h] @ cotangent[b, i, h]
                dscores = weights * (dweights - weights @ dweights) / np.sqrt(width)
                dv[b, keys, h] += np.outer(weights, cotangent[b, i, h])
                dk[b, keys, h] += np.outer(dscores, q[b, i, h])
                dq[b, i, h] = dscores @ k[b, keys, h]
    return Reference(out, dq, dk, dv)


def arrays_of(length: int, heads: int, width: int, *, batch: int = 2) -> list[np.ndarray]:
    """q, k, v and a cotangent; scores spread over several units, so that softmax is not flat."""
    rng = np.random.default_rng((length, heads, width))
    return [scale * rng.standard_normal((batch, length, heads, width)) for scale in (1.5, 1.5, 1, 1)]


def layout(name: str, length: int, batch: int = 2) -> np.ndarray:
    """Segments of each token; the rows of a batch differ."""
    positions = np.arange(length)
    rows = {
        "whole": [np.ones(length), np.ones(length)],
        "padded": [positions < max(1, length - 3), positions < max(1, length // 3)],
        "packed": [1 + positions * 3 // length, np.where(positions < length // 2, 2, 1)],
        "packed and padded": [(1 + positions * 4 // length) % 4, np.where(positions < length // 4, 1, 0)],
        "nothing but padding": [np.zeros(length), np.ones(length)],
    }
    return np.stack(rows[name][:batch]).astype(np.int32)


LAYOUTS = ["whole", "padded", "packed", "packed and padded", "nothing but padding"]


def check(arrays, slopes, segments, dtype, tolerance, **offsets) -> None:
    q, k, v, cotangent = arrays
    expected = reference(q, k, v, slopes, segments, cotangent, **offsets)
    with jax.enable_x64(dtype == np.float64):
        given = [jnp.asarray(array, dtype) for array in arrays]

        def loss(q, k, v):
            attended = alibi_attention(
                q, k, v, jnp.asarray(slopes), segment_ids=jnp.asarray(segments), **offsets
            )
            return (attended * given[3]).sum(), attended

        gradients, attended = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*given[:3])
    for ours, theirs in zip((attended, *gradients), expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, rtol=0, atol=tolerance)
    assert (np.asarray(attended)[segments == 0] == 0).all()


# Float64: sums of up to 129 terms of size 1. Float32: the same, eps 6e-8 for 1e-16, and scores of up to
# about 30 whose error of 30 eps is the relative error of a weight.
@pytest.mark.parametrize(("heads", "width"), [(1, 64), (10, 32), (12, 32), (12, 64)])
@pytest.mark.parametrize("length", [1, 7, 64, 129])
def test_every_shape(length, heads, width):
    arrays = arrays_of(length, heads, width)
    segments = layout("packed and padded" if length > 1 else "whole", length)
    check(arrays, alibi_slopes(heads), segments, np.float64, 1e-12)
    check(arrays, alibi_slopes(heads), segments, np.float32, 2e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_segments(name):
    arrays = arrays_of(33, 3, 32)
    check(arrays, alibi_slopes(3), layout(name, 33), np.float64, 1e-12)
    check(arrays, alibi_slopes(3), layout(name, 33), np.float32, 2e-5)


@pytest.mark.parametrize("offsets", [{"q_offset": 5}, {"k_offset": 40}, {"q_offset": 100, "k_offset": 90}])
def test_offsets_move_positions(offsets):
    check(arrays_of(20, 4, 32), alibi_slopes(4), layout("whole", 20), np.float64, 1e-12, **offsets)


def test_an_offset_may_be_traced():
    q, k, v, _ = (jnp.asarray(array, jnp.float32) for array in arrays_of(6, 2, 32))
    slopes = jnp.asarray(alibi_slopes(2))
    attend = jax.jit(lambda offset: alibi_attention(q, k, v, slopes, q_offset=offset))
    np.testing.assert_allclose(attend(9), alibi_attention(q, k, v, slopes, q_offset=9), atol=1e-6)


def test_no_segments_means_one_segment_without_padding():
    q, k, v, _ = (jnp.asarray(array, jnp.float32) for array in arrays_of(17, 4, 32))
    slopes = jnp.asarray(alibi_slopes(4))
    np.testing.assert_array_equal(
        alibi_attention(q, k, v, slopes),
        alibi_attention(q, k, v, slopes, segment_ids=jnp.ones((2, 17), jnp.int32)),
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_of_padding_give_zeros_and_finite_gradients(dtype):
    arrays = [jnp.asarray(array, dtype) for array in arrays_of(9, 2, 32)]

    def loss(q, k, v):
        attended = alibi_attention(
            q, k, v, jnp.asarray(alibi_slopes(2)), segment_ids=jnp.zeros((2, 9), jnp.int32)
        )
        return (attended.astype(jnp.float32) ** 2).sum(), attended

    gradients, attended = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays[:3])
    for array in (attended, *gradients):
        assert (np.asarray(array, np.float32) == 0).all()


def test_large_scores_do_not_overflow():
    q, k, v, _ = (jnp.asarray(array, jnp.float32) for array in arrays_of(8, 2, 32))
    attended = alibi_attention(1e4 * q, 1e4 * k, v, jnp.asarray(alibi_slopes(2)))
    assert np.isfinite(attended).all()
    assert np.abs(attended).max() <= np.abs(v).max()


def test_bfloat16_keeps_scores_and_softmax_in_float32():
    # bfloat16 inputs are taken as exact, so that only the weights (8 bits) and the result are rounded.
    arrays = [np.asarray(jnp.asarray(array, jnp.bfloat16), np.float64) for array in arrays_of(64, 4, 64)]
    segments = layout("padded", 64)
    q, k, v, cotangent = arrays
    expected = reference(q, k, v, alibi_slopes(4), segments, cotangent).attended
    q, k, v = (jnp.asarray(array, jnp.bfloat16) for array in arrays[:3])
    attended = alibi_attention(q, k, v, jnp.asarray(alibi_slopes(4)), segment_ids=jnp.asarray(segments))
    assert attended.dtype == jnp.bfloat16
    # A weighted mean of v: each of its terms and the mean are off by at most 2^-9 of the largest |v|.
    assert np.abs(np.asarray(attended, np.float64) - expected).max() < 2 * 2.0**-9 * np.abs(arrays[2]).max()


def test_packed_projection_splits_as_three_heads_width():
    q, k, v, _ = (jnp.asarray(array, jnp.float32) for array in arrays_of(11, 3, 32))
    qkv = jnp.stack([q, k, v], axis=2).reshape(2, 11, 3 * 3 * 32)
    segments = jnp.asarray(layout("packed", 11))
    slopes = jnp.asarray(alibi_slopes(3))
    np.testing.assert_array_equal(
        alibi_attention_qkv(qkv, slopes, segment_ids=segments),
        alibi_attention(q, k, v, slopes, segment_ids=segments).reshape(2, 11, 96),
    )


def test_an_unknown_implementation_is_refused_by_name():
    q = jnp.zeros((1, 2, 1, 32))
    with pytest.raises(NotImplementedError, match="'cuda'"):
        alibi_attention(q, q, q, jnp.ones(1), implementation="cuda")
