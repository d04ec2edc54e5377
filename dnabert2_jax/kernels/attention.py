"""Bidirectional attention with the ALiBi bias, for padded and packed rows: one op, computed by XLA.

In: queries, keys and values, one slope per head, and the segment that each token belongs to.
Out: the attended values, zero at padding.
"""

import jax
import jax.numpy as jnp

# Far below any score and still finite: a row without any key to attend must not produce NaN.
_MASKED = -1e30


def alibi_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    q_offset: int | jax.Array = 0,
    k_offset: int | jax.Array = 0,
    implementation: str | None = None,
) -> jax.Array:
    """Computes `softmax(q k^T / sqrt(D) - slope * |i - j|) v` for each head.

    Args:
      q, k, v: [B, S, H, D], of one floating type. Scores and softmax are computed in at least float32.
      slopes: [H], the positive ALiBi slopes.
      segment_ids: int32 [B, S]; a token attends to the tokens of its own segment. Segment 0 is padding:
        it is attended by nobody and its result is 0. None means one segment without padding.
      q_offset, k_offset: position of the first query and the first key, for a sequence whose parts lie
        on several devices.
      implementation: "xla", or None for the best that this machine has.

    Returns:
      [B, S, H, D] in the type of v.

    Raises:
      NotImplementedError: no implementation of that name.
    """
    if implementation not in (None, "xla"):
        raise NotImplementedError(f"no attention implementation is called {implementation!r}; there is 'xla'")
    return _xla(q, k, v, slopes, segment_ids, q_offset, k_offset)


def alibi_attention_qkv(
    qkv: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """As `alibi_attention`, on the packed projection of a whole row.

    Args:
      qkv: [B, S, 3·H·D]; the last axis splits as (3, H, D).
      slopes: [H].
      segment_ids: int32 [B, S] or None.
      implementation: as in `alibi_attention`.

    Returns:
      [B, S, H·D].
    """
    q, k, v = _unpack(qkv, slopes.shape[0])
    attended = alibi_attention(q, k, v, slopes, segment_ids=segment_ids, implementation=implementation)
    return attended.reshape(*qkv.shape[:2], qkv.shape[2] // 3)


def alibi_attention_weights(
    qkv: jax.Array, slopes: jax.Array, *, segment_ids: jax.Array | None = None
) -> jax.Array:
    """The weights with which `alibi_attention_qkv` sums the values, for those who want to look at them.

    Args:
      qkv, slopes, segment_ids: as in `alibi_attention_qkv`.

    Returns:
      [B, H, S, S] in at least float32, query before key; a row adds up to 1, and is 0 where the query is
      padding. It takes B·H·S² numbers, which the fused bodies exist to avoid.
    """
    q, k, _ = _unpack(qkv, slopes.shape[0])
    weights = _weights(q, k, slopes, segment_ids, 0, 0)
    return weights if segment_ids is None else jnp.where((segment_ids != 0)[:, None, :, None], weights, 0)


def _unpack(qkv: jax.Array, num_heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    batch, length, width = qkv.shape
    parts = qkv.reshape(batch, length, 3, num_heads, width // (3 * num_heads))
    return parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]


def _xla(q, k, v, slopes, segment_ids, q_offset, k_offset):
    weights = _weights(q, k, slopes, segment_ids, q_offset, k_offset).astype(v.dtype)
    attended = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    if segment_ids is not None:
        attended = jnp.where((segment_ids != 0)[:, :, None, None], attended, 0)
    return attended


def _weights(q, k, slopes, segment_ids, q_offset, k_offset):
    accumulator = jnp.promote_types(q.dtype, jnp.float32)
    scale = q.shape[-1] ** -0.5
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=accumulator) * scale
    query_positions = jnp.arange(q.shape[1]) + q_offset
    key_positions = jnp.arange(k.shape[1]) + k_offset
    distance = jnp.abs(query_positions[:, None] - key_positions[None, :]).astype(jnp.float32)
    # The bias is a float32 number whatever the scores are: the released model's is, also in float64.
    scores = scores - (slopes.astype(jnp.float32)[:, None, None] * distance).astype(accumulator)
    if segment_ids is not None:
        attends = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        scores = jnp.where(attends, scores, _MASKED)
    return jax.nn.softmax(scores, axis=-1)
