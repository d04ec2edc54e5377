"""The dense body of the attention op: XLA, all scores at once, on every platform and in every type.

It takes B·H·Sq·Sk numbers of memory, and is the one whose memory does not depend on the data.
"""

import jax
import jax.numpy as jnp

from dnabert2_jax.kernels.bodies import Request

NAME = "xla"


def check(request: Request) -> None:
    """Takes everything."""


def forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip, interpret):
    """As `bodies.Body.forward`; nothing is skipped."""
    del skip, interpret
    scores = biased_scores(q, k, slopes, q_segments, k_segments, q_offset, k_offset)
    top = jnp.max(scores, axis=-1, keepdims=True)
    # A query that sees nothing has no finite score: 0 in place of -inf keeps its weights at exp(-inf) = 0.
    top = jax.lax.stop_gradient(jnp.where(jnp.isneginf(top), 0, top))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1)
    lse = top[..., 0] + jnp.log(total)
    scale = jnp.where(total == 0, 0, 1 / total)
    # Divided by the sum afterwards, which is a pass over [B, S, H, D] and not over all weights.
    out = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v, preferred_element_type=lse.dtype)
    out = (out * jnp.swapaxes(scale, 1, 2)[..., None]).astype(v.dtype)
    return out, lse


def backward(
    q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, out, lse, dout, dlse, *, skip, interpret
):
    """As `bodies.Body.backward`; nothing is skipped."""
    del skip, interpret
    scores = biased_scores(q, k, slopes, q_segments, k_segments, q_offset, k_offset)
    # No weight is above 1. Scores of 1e8 are rounded to eights, and perhaps not as in the forward pass.
    weights = jnp.exp(jnp.minimum(scores - jnp.where(jnp.isneginf(lse), 0, lse)[..., None], 0))
    dv = jnp.einsum("bhqk,bqhd->bkhd", weights.astype(v.dtype), dout)
    dweights = jnp.einsum("bqhd,bkhd->bhqk", dout, v, preferred_element_type=lse.dtype)
    dscores = weights * (dweights - row_sums(out, dout, dlse)[..., None]) * q.shape[-1] ** -0.5
    dscores = dscores.astype(q.dtype)
    dq = jnp.einsum("bhqk,bkhd->bqhd", dscores, k)
    dk = jnp.einsum("bhqk,bqhd->bkhd", dscores, q)
    return dq, dk, dv


def row_sums(out: jax.Array, dout: jax.Array, dlse: jax.Array | None) -> jax.Array:
    """rowsum(dout ∘ out) − dlse, [B, H, Sq]: what softmax's derivative takes from every dP of a row."""
    wide = jnp.promote_types(out.dtype, jnp.float32)
    sums = jnp.einsum("bqhd,bqhd->bhq", out.astype(wide), dout.astype(wide))
    return sums if dlse is None else sums - dlse


def biased_scores(q, k, slopes, q_segments, k_segments, q_offset, k_offset) -> jax.Array:
    """[B, H, Sq, Sk] in at least float32, −inf where a query does not see a key."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
    query_positions = jnp.arange(q.shape[1]) + q_offset
    key_positions = jnp.arange(k.shape[1]) + k_offset
    distance = jnp.abs(query_positions[:, None] - key_positions[None, :]).astype(jnp.float32)
    # The bias is a float32 number whatever the scores are: the released model's is, also in float64.
    scores = scores - (slopes[:, None, None] * distance).astype(wide)
    sees = (q_segments[:, :, None] == k_segments[:, None, :]) & (q_segments != 0)[:, :, None]
    return jnp.where(sees[:, None], scores, -jnp.inf)
