"""Which blocks of scores a body may leave out: queries, keys and segments in, ranges of blocks out.

ALiBi subtracts slope·distance from each score, so that far blocks weigh nothing, in steep heads almost all of
them. Blocks of other segments, and of padding, have weights of exactly 0.

**The bound.** Let s_ij be the score of query i and key j, L_i the log-sum-exp of row i,
P_ij = exp(s_ij − L_i), S the larger number of queries and keys, ε the constant of `EPSILON`, and r_i ≤ L_i
any lower bound. By Cauchy-Schwarz all scores of a block of queries I and a block of keys J, at least d apart,
satisfy

    s_ij − L_i  ≤  max_I ‖q‖ · max_J ‖k‖ / √D  −  slope·d  −  min_I r          =: U(I, J).

A block is left out where U < ln(ε / 2S), whatever the input is. Hence P_ij < ε/2S in what is left out, and
what is left out of a row weighs μ_i = Σ P_ij ≤ ε/2 together; so do the at most S entries of a column.

- Forward. The rest is divided by 1 − μ_i: out' = Σ_kept P v / (1 − μ), which makes
  |out' − out| ≤ 2μ·max|v| ≤ ε·max|v|, and |L' − L| = −ln(1 − μ) ≤ ε.
- Backward, from the L that the forward pass returned: |ΔdV| ≤ Σ_i P_ij |dO_i| ≤ ε/2 · max|dO|. With
  dS = P ∘ (dO·v − dO·out + dL) and G = 2·max‖dO‖·max‖v‖ + max|dL|, each entry left out is at most ε/2S · G,
  so |ΔdQ| ≤ ε/2 · G·max|k|/√D and |ΔdK| ≤ ε/2 · G·max|q|/√D.

These are errors of the sum: against the largest |v|, not against the element itself. A result that consists
of what is left out, such as the gradient of a key that only distant queries feel, may become 0 where it was
1e-9 of the others.

ε is the unit roundoff u, the error of rounding each weight once, in float32 and float64. In bfloat16 and
float16 the scores are those of float32 while weights are rounded with u = 2^-8 and 2^-11: u/16 and u/8 add
little.

The bound holds for the numbers that a body computes too: the norms are enlarged by more than their own
rounding and that of a product over D, and U by the rounding of its three terms. NaN and infinity make U NaN
or infinite, and nothing is left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-12, "float16": 2.0**-14}


def key_ranges(
    q: jax.Array,
    k: jax.Array,
    slopes: jax.Array,
    q_segments: jax.Array,
    k_segments: jax.Array,
    q_offset: int | jax.Array,
    k_offset: int | jax.Array,
    lse: jax.Array | None,
    *,
    q_block: int,
    k_block: int,
) -> tuple[jax.Array, jax.Array]:
    """For each block of queries the range of blocks of keys that it needs.

    Args:
      q: [B, Sq, H, D].
      k: [B, Sk, H, D].
      slopes: [H], positive.
      q_segments, k_segments: int32 [B, Sq] and [B, Sk]; 0 is padding. Any order of ids is taken care of;
        whole blocks of other segments are recognised where ids ascend.
      q_offset, k_offset: positions of the first query and key.
      lse: [B, H, Sq], the log-sum-exp or a lower bound of it (`lse_from_neighbours`); None leaves out
        blocks of other segments only.
      q_block, k_block: sizes of the blocks; the last of each may be shorter.

    Returns:
      first, end: int32 [B, H, ceil(Sq / q_block)]; the blocks from `first` to before `end`, which are equal
      where nothing is needed.
    """
    live = live_blocks(
        q, k, slopes, q_segments, k_segments, q_offset, k_offset, lse, q_block=q_block, k_block=k_block
    )
    return _ranges(live)


def query_ranges(
    q: jax.Array,
    k: jax.Array,
    slopes: jax.Array,
    q_segments: jax.Array,
    k_segments: jax.Array,
    q_offset: int | jax.Array,
    k_offset: int | jax.Array,
    lse: jax.Array | None,
    *,
    q_block: int,
    k_block: int,
) -> tuple[jax.Array, jax.Array]:
    """For each block of keys the range of blocks of queries that need it; arguments as in `key_ranges`.

    Returns:
      first, end: int32 [B, H, ceil(Sk / k_block)].
    """
    live = live_blocks(
        q, k, slopes, q_segments, k_segments, q_offset, k_offset, lse, q_block=q_block, k_block=k_block
    )
    return _ranges(jnp.swapaxes(live, 2, 3))


def live_blocks(
    q, k, slopes, q_segments, k_segments, q_offset, k_offset, lse, *, q_block: int, k_block: int
) -> jax.Array:
    """Bool [B, H, query blocks, key blocks]: what may not be left out. Arguments as in `key_ranges`."""
    keys = describe_keys(k, k_segments, k_block=k_block)
    return live_blocks_of(
        q,
        keys,
        slopes,
        q_segments,
        q_offset,
        k_offset,
        lse,
        k_length=k.shape[1],
        q_block=q_block,
        k_block=k_block,
    )


class KeyBlocks(NamedTuple):
    """All that the bound asks of blocks of keys; what several devices know of theirs can be put together.

    Attributes:
      low, high: int32 [B, key blocks], the lowest and highest segment, padding aside.
      norm: [B, H, key blocks], an upper bound of the keys' norms.
    """

    low: jax.Array
    high: jax.Array
    norm: jax.Array


def describe_keys(k, k_segments, *, k_block: int) -> KeyBlocks:
    """Describes blocks of keys [B, Sk, H, D] with segments [B, Sk]."""
    wide = jnp.promote_types(k.dtype, jnp.float32)
    return KeyBlocks(*_extremes_of_ids(k_segments, k_block), _block_norms(k, k_block, wide))


def live_blocks_of(
    q,
    keys: KeyBlocks,
    slopes,
    q_segments,
    q_offset,
    k_offset,
    lse,
    *,
    k_length: int,
    q_block: int,
    k_block: int,
) -> jax.Array:
    """As `live_blocks`, for `k_length` keys of which only the description is here."""
    q_low, q_high = _extremes_of_ids(q_segments, q_block)
    # Intervals that do not meet have no id in common; the reverse does not hold, and need not.
    live = (q_low[:, :, None] <= keys.high[:, None, :]) & (keys.low[:, None, :] <= q_high[:, :, None])
    live = jnp.broadcast_to(live[:, None], (q.shape[0], q.shape[2], *live.shape[1:]))
    if lse is None:
        return live
    wide = lse.dtype
    q_norm = _block_norms(q, q_block, wide)
    # Rows of padding need nothing.
    needed = jnp.where((q_segments != 0)[:, None, :], lse, jnp.inf)
    lowest = _blocked(needed, q_block, 2, jnp.inf).min(axis=3)
    largest_score = q_norm[:, :, :, None] * keys.norm[:, :, None, :] * q.shape[3] ** -0.5
    distance = _block_distances(q.shape[1], k_length, q_offset, k_offset, q_block, k_block)
    bias = slopes.astype(wide)[:, None, None] * distance.astype(wide)
    lowest = lowest[:, :, :, None]
    rounding = 4 * jnp.finfo(wide).eps * (largest_score + bias + jnp.abs(lowest))
    upper = largest_score - bias - lowest + jnp.where(jnp.isposinf(lowest), 0, rounding)
    dead = upper < np.log(EPSILON[q.dtype.name] / (2 * max(q.shape[1], k_length)))
    return live & ~dead


def lse_from_neighbours(
    q, k, slopes, q_segments, k_segments, q_offset, k_offset, *, window: int = 64
) -> jax.Array:
    """A lower bound of each row's log-sum-exp: that of a few keys near the query, in at least float32.

    It costs B·H·Sq·window scores, and is close in steep heads, whose weight is near.

    Args:
      q, k, slopes, q_segments, k_segments, q_offset, k_offset: as in `key_ranges`.
      window: how many keys each query is compared with: those around its block of as many queries.

    Returns:
      [B, H, Sq], -inf where none of these keys is in the query's segment.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    length, k_length = q.shape[1], k.shape[1]
    window = min(window, k_length)
    starts = jnp.arange(0, length, window)
    # Distinct keys, whichever they are, give a lower bound.
    near = jnp.clip(starts + q_offset - k_offset, 0, k_length - window)[:, None] + jnp.arange(window)
    near_k, near_segments = k[:, near], k_segments[:, near]
    tiles, tile_segments = _blocked(q, window, 1, 0), _blocked(q_segments, window, 1, 0)
    scores = jnp.einsum("bnqhd,bnkhd->bhnqk", tiles, near_k, preferred_element_type=wide)
    positions = _blocked(jnp.arange(length), window, 0, 0) + q_offset
    distance = jnp.abs(positions[:, :, None] - (near + k_offset)[:, None, :]).astype(wide)
    scores = scores * q.shape[3] ** -0.5 - slopes.astype(wide)[:, None, None, None] * distance
    sees = (tile_segments[:, :, :, None] == near_segments[:, :, None, :]) & (tile_segments != 0)[..., None]
    lse = jax.nn.logsumexp(jnp.where(sees[:, None], scores, -jnp.inf), axis=-1)
    return lse.reshape(*lse.shape[:2], -1)[:, :, :length]


def _ranges(live):
    count = live.shape[3]
    first = jnp.argmax(live, axis=3)
    end = count - jnp.argmax(live[..., ::-1], axis=3)
    anything = live.any(axis=3)
    return jnp.where(anything, first, 0).astype(jnp.int32), jnp.where(anything, end, 0).astype(jnp.int32)


def _blocked(array, block, axis, filling):
    """Splits an axis in (blocks, block), the last one filled up."""
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, -array.shape[axis] % block)
    array = jnp.pad(array, padding, constant_values=filling)
    return array.reshape(*array.shape[:axis], -1, block, *array.shape[axis + 1 :])


def _extremes_of_ids(segments, block):
    """The lowest and highest id of each block [B, blocks], padding aside; crossed where all is padding."""
    limits = jnp.iinfo(segments.dtype)
    blocks = _blocked(segments, block, 1, 0)
    low = jnp.where(blocks == 0, limits.max, blocks).min(axis=2)
    high = jnp.where(blocks == 0, limits.min, blocks).max(axis=2)
    return low, high


def _block_norms(array, block, wide):
    """An upper bound of the norms of each block's vectors, as rounding may make them, [B, H, blocks]."""
    width = array.shape[3]
    norms = jnp.sqrt(jnp.square(array.astype(wide)).sum(axis=3))
    largest = _blocked(norms, block, 1, 0).max(axis=2)
    # A product over D numbers is off by (D + 1)·u at most, relative to the norms; squares below the smallest
    # number are lost altogether.
    finfo = jnp.finfo(wide)
    largest = largest * (1 + (width + 8) * finfo.eps) + width * finfo.tiny**0.5
    return jnp.swapaxes(largest, 1, 2)


def _block_distances(q_length, k_length, q_offset, k_offset, q_block, k_block):
    """The smallest distance between a query and a key of two blocks, int32 [query blocks, key blocks]."""
    q_first = jnp.arange(0, q_length, q_block, dtype=jnp.int32) + q_offset
    k_first = jnp.arange(0, k_length, k_block, dtype=jnp.int32) + k_offset
    q_last, k_last = q_first + q_block - 1, k_first + k_block - 1
    apart = jnp.maximum(k_first[None, :] - q_last[:, None], q_first[:, None] - k_last[None, :])
    return jnp.maximum(apart, 0)
