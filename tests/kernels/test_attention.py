"""The op around its bodies: defaults, parts of a row, weights, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_checks import make_case, reference

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import alibi_attention, alibi_attention_qkv, alibi_attention_weights


def arrays_of(length: int, heads: int) -> list[jax.Array]:
    case = make_case(length, heads, 32, "float32")
    return [jnp.asarray(array, jnp.float32) for array in (case.q, case.k, case.v, case.dout)]


def test_the_default_agrees_with_the_definition():
    case = make_case(100, 4, 32, "float32")
    q, k, v = (jnp.asarray(array, jnp.float32) for array in case[:3])
    attended = alibi_attention(q, k, v, jnp.asarray(case.slopes), segment_ids=jnp.asarray(case.q_segments))
    np.testing.assert_allclose(attended, reference(case)[0].out, atol=2e-5)


def test_no_segments_means_one_segment_without_padding():
    q, k, v, _ = arrays_of(17, 4)
    slopes = jnp.asarray(alibi_slopes(4))
    np.testing.assert_array_equal(
        alibi_attention(q, k, v, slopes),
        alibi_attention(q, k, v, slopes, segment_ids=jnp.ones((2, 17), jnp.int32)),
    )


@pytest.mark.parametrize("body", ["xla", "blockwise"])
def test_parts_of_the_keys_add_up_to_the_whole_by_their_log_sum_exp(body):
    """As in ring attention: two devices hold a half of the keys each."""
    q, k, v, dout = arrays_of(60, 4)
    slopes = jnp.asarray(alibi_slopes(4))
    segments = jnp.asarray(np.repeat([[1, 2, 0], [1, 1, 2]], 20, axis=1), jnp.int32)

    def whole(q, k, v):
        return (alibi_attention(q, k, v, slopes, segment_ids=segments, implementation=body) * dout).sum()

    def in_parts(q, k, v):
        parts = [
            alibi_attention(
                q, k[:, part], v[:, part], slopes, segment_ids=segments, k_segment_ids=segments[:, part],
                k_offset=part.start, implementation=body, return_lse=True,
            )
            for part in (slice(0, 25), slice(25, 60))
        ]  # fmt: skip
        lse = jnp.stack([lse for _, lse in parts])
        total = jax.nn.logsumexp(lse, axis=0)
        shares = jnp.exp(lse - jnp.where(jnp.isneginf(total), 0, total))
        shares = jnp.swapaxes(shares, 2, 3)[..., None]
        return (sum(share * out for share, (out, _) in zip(shares, parts, strict=True)) * dout).sum()

    value, gradients = jax.value_and_grad(whole, argnums=(0, 1, 2))(q, k, v)
    np.testing.assert_allclose(in_parts(q, k, v), value, rtol=1e-5)
    seen = segments != 0
    for ours, theirs in zip(jax.grad(in_parts, argnums=(0, 1, 2))(q, k, v), gradients, strict=True):
        np.testing.assert_allclose(ours[seen], theirs[seen], atol=1e-4)


def test_the_packed_projection_splits_as_three_heads_width():
    q, k, v, _ = arrays_of(11, 3)
    qkv = jnp.stack([q, k, v], axis=2).reshape(2, 11, 3 * 3 * 32)
    segments = jnp.asarray(np.repeat([[1, 2], [1, 0]], [6, 5], axis=1), jnp.int32)
    slopes = jnp.asarray(alibi_slopes(3))
    np.testing.assert_array_equal(
        alibi_attention_qkv(qkv, slopes, segment_ids=segments),
        alibi_attention(q, k, v, slopes, segment_ids=segments).reshape(2, 11, 96),
    )


def test_the_weights_are_those_that_sum_the_values():
    q, k, v, _ = arrays_of(30, 3)
    qkv = jnp.stack([q, k, v], axis=2).reshape(2, 30, 3 * 3 * 32)
    segments = jnp.asarray(np.repeat([[1, 2, 0], [1, 1, 2]], 10, axis=1), jnp.int32)
    slopes = jnp.asarray(alibi_slopes(3))
    weights = alibi_attention_weights(qkv, slopes, segment_ids=segments)
    attended = alibi_attention_qkv(qkv, slopes, segment_ids=segments)
    np.testing.assert_allclose(
        jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(2, 30, 96), attended, atol=2e-6
    )
    np.testing.assert_allclose(weights.sum(axis=3), (segments != 0)[:, None, :].repeat(3, 1), atol=1e-6)


def test_float64_takes_its_bias_from_float32():
    """The released model's bias is a float32 number, whatever the rest is computed in."""
    with jax.enable_x64(True):
        zeros = jnp.zeros((1, 200, 12, 32), jnp.float64)
        slopes = alibi_slopes(12)
        _, lse = alibi_attention(zeros, zeros, zeros, jnp.asarray(slopes, jnp.float64), return_lse=True)
    bias = slopes[:, None] * np.arange(200, dtype=np.float32)
    np.testing.assert_allclose(lse[0, :, 0], np.log(np.exp(-bias.astype(np.float64)).sum(1)), rtol=1e-14)


def test_segments_must_fit():
    q, k, v, _ = arrays_of(20, 2)
    with pytest.raises(ValueError, match=r"segments of shapes \(2, 20\) and \(2, 20\)"):
        alibi_attention(q, k[:, :9], v[:, :9], jnp.ones(2), segment_ids=jnp.ones((2, 20), jnp.int32))


def test_an_unknown_implementation_is_refused_by_name():
    q = jnp.zeros((1, 2, 1, 32))
    with pytest.raises(NotImplementedError, match="'cuda'"):
        alibi_attention(q, q, q, jnp.ones(1), implementation="cuda")
