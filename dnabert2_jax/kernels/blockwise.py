"""The blockwise body of the attention op: XLA in blocks that stay in cache, memory linear in the length.

A loop over tiles of queries, in it one over the keys that these need. On CPUs it is faster than the dense
body; elsewhere it is for scores that do not fit.
"""

from math import ceil
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from dnabert2_jax.kernels.bodies import Request
from dnabert2_jax.kernels.skipping import key_ranges, lse_from_neighbours
from dnabert2_jax.kernels.xla import row_sums

NAME = "blockwise"

# Tiles are as large as the caches of several cores together, and not of one: XLA shares each operation out
# over the cores, and neither loops nor small operations, so that in tiles of 256 KiB a second core was of no
# use. Up to _WHOLE keys are one block, and a row's queries one tile; short rows are taken several at a time,
# up to _SCORES scores (16 MiB in float32). More keys are visited by _QUERIES queries at a time in blocks of
# _KEYS, from any multiple of _STEP on.
_WHOLE, _SCORES = 2048, 1 << 22
_QUERIES, _KEYS, _STEP = 1024, 512, 128


def check(request: Request) -> None:
    """Takes everything."""


def forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip, interpret):
    """As `bodies.Body.forward`."""
    del interpret
    tiling = _make_tiling(q.shape, k.shape[1])
    wide = jnp.promote_types(q.dtype, jnp.float32)
    inputs = q, k, slopes, q_segments, k_segments, q_offset, k_offset
    lower_bound = lse_from_neighbours(*inputs) if skip and tiling.divides_keys else None
    first, steps = tiling.visits(inputs, lower_bound)
    score = tiling.scorer(slopes, q_offset, k_offset)
    key_rows = tiling.key_rows(k), tiling.key_rows(v), tiling.key_ids(k_segments)

    def one_tile(arguments):
        tile, tile_first, tile_steps, q_tile, q_ids = arguments

        def add_keys(start, state):
            top, total, out = state
            k_block, v_block, k_ids = tiling.key_block(key_rows, tile, start)
            scores = score(tile, start, q_tile, q_ids, k_block, k_ids)
            new_top = jnp.maximum(top, scores.max(axis=2))
            # Where nothing is seen so far the top is -inf, and weights are exp(-inf - 0) = 0.
            finite_top = jnp.where(jnp.isneginf(new_top), 0, new_top)
            weights = jnp.exp(scores - finite_top[:, :, None])
            shrink = jnp.exp(top - finite_top)
            more = _product(weights.astype(v.dtype), v_block, 1, wide)
            return new_top, total * shrink + weights.sum(axis=2), out * shrink[:, :, None] + more

        shape = q_tile.shape[:2]
        state = jnp.full(shape, -jnp.inf, wide), jnp.zeros(shape, wide), jnp.zeros(q_tile.shape, wide)
        top, total, out = tiling.over_keys(tile_first, tile_steps, add_keys, state)
        out = jnp.where((total == 0)[:, :, None], 0, out / total[:, :, None])
        return out.astype(v.dtype), top + jnp.log(total)

    tiles = tiling.numbers(), first, steps, tiling.query_tiles(q), tiling.query_ids(q_segments)
    out, lse = lax.map(one_tile, tiles)
    return tiling.tokens_of(out, q.shape[1]), tiling.rows_of(lse)


def backward(
    q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, out, lse, dout, dlse, *, skip, interpret
):
    """As `bodies.Body.backward`."""
    del interpret
    tiling = _make_tiling(q.shape, k.shape[1])
    wide = lse.dtype
    inputs = q, k, slopes, q_segments, k_segments, q_offset, k_offset
    first, steps = tiling.visits(inputs, lse if skip and tiling.divides_keys else None)
    score = tiling.scorer(slopes, q_offset, k_offset)
    key_rows = tiling.key_rows(k), tiling.key_rows(v), tiling.key_ids(k_segments)
    sums = row_sums(out, dout, dlse)
    scale = q.shape[3] ** -0.5

    def one_tile(gradients, arguments):
        tile, tile_first, tile_steps, q_tile, q_ids, dout_tile, lse_tile, sums_tile = arguments

        def add_keys(start, state):
            dk, dv, dq = state
            k_block, v_block, k_ids = tiling.key_block(key_rows, tile, start)
            # Keys before queries: all products but the last then read both operands in the order they lie in.
            scores = score(tile, start, k_block, k_ids, q_tile, q_ids, transposed=True)
            # No weight is above 1. Scores of 1e8 are rounded to eights, and not as in the forward pass.
            weights = jnp.exp(jnp.minimum(scores - lse_tile[:, None, :], 0))
            dweights = _product(v_block, dout_tile, 2, wide)
            dscores = (weights * (dweights - sums_tile[:, None, :]) * scale).astype(q.dtype)
            dv = tiling.add_to_keys(dv, tile, start, _product(weights.astype(v.dtype), dout_tile, 1, wide))
            dk = tiling.add_to_keys(dk, tile, start, _product(dscores, q_tile, 1, wide))
            return dk, dv, dq + _product(jnp.swapaxes(k_block, 1, 2), dscores, 1, wide)

        dq = jnp.zeros((q_tile.shape[0], q_tile.shape[2], q_tile.shape[1]), wide)
        dk, dv, dq = tiling.over_keys(tile_first, tile_steps, add_keys, (*gradients, dq))
        return (dk, dv), jnp.swapaxes(dq, 1, 2).astype(q.dtype)

    # Rows that see nothing have weights exp(-inf - 0) = 0.
    finite_lse = jnp.where(jnp.isneginf(lse), 0, lse)
    tiles = (
        tiling.numbers(), first, steps, tiling.query_tiles(q), tiling.query_ids(q_segments),
        tiling.query_tiles(dout), tiling.split_queries(finite_lse), tiling.split_queries(sums),
    )  # fmt: skip
    gradients = jnp.zeros(key_rows[0].shape, wide), jnp.zeros(key_rows[1].shape, wide)
    (dk, dv), dq = lax.scan(one_tile, gradients, tiles)
    return (
        tiling.tokens_of(dq, q.shape[1]),
        tiling.tokens_of(dk, k.shape[1]).astype(k.dtype),
        tiling.tokens_of(dv, k.shape[1]).astype(v.dtype),
    )


def _product(left, right, contracted: int, wide):
    """Matrix products [G, m, c] by [G, c, n] (contracted = 1) or [G, n, c] (2)."""
    dimensions = (((2,), (contracted,)), ((0,), (0,)))
    return lax.dot_general(left, right, dimensions, preferred_element_type=wide)


class _Tiling(NamedTuple):
    """How B·H rows of queries and keys are cut up.

    A tile is a group of whole rows, or a part of one row; `group` is 1 where `q_tiles` is not.
    """

    batch: int
    heads: int
    q_length: int
    group: int
    q_block: int
    q_tiles: int
    k_block: int
    k_length: int
    divides_keys: bool

    @property
    def tiles(self) -> int:
        return self.batch * self.heads // self.group * self.q_tiles

    def numbers(self):
        return jnp.arange(self.tiles, dtype=jnp.int32)

    def split_queries(self, rows):
        """[B, H, Sq, ...] to [tiles, G, q_block, ...]."""
        padding = [(0, 0)] * rows.ndim
        padding[2] = (0, self.q_tiles * self.q_block - self.q_length)
        return jnp.pad(rows, padding).reshape(self.tiles, self.group, self.q_block, *rows.shape[3:])

    def query_tiles(self, tokens):
        return self.split_queries(jnp.swapaxes(tokens, 1, 2))

    def query_ids(self, segments):
        return self.split_queries(self._for_each_head(segments))

    def key_rows(self, tokens):
        """[B, Sk, H, D] to [groups, G, keys, D]; what is added belongs to no segment."""
        return self._pad_keys(jnp.swapaxes(tokens, 1, 2))

    def key_ids(self, segments):
        return self._pad_keys(self._for_each_head(segments))

    def _pad_keys(self, rows):
        padding = [(0, 0)] * rows.ndim
        # A block may begin at the last step.
        whole = ceil(self.k_length / _STEP) * _STEP + self.k_block - _STEP
        padding[2] = (0, whole - self.k_length if self.divides_keys else 0)
        rows = jnp.pad(rows, padding)
        return rows.reshape(-1, self.group, *rows.shape[2:])

    def _for_each_head(self, segments):
        return jnp.broadcast_to(segments[:, None], (self.batch, self.heads, segments.shape[1]))

    def key_block(self, key_rows, tile, start):
        sizes = (1, self.group, self.k_block)
        place = self._place(tile, start)
        return [
            lax.dynamic_slice(rows, place[: rows.ndim], (*sizes, *rows.shape[3:]))[0] for rows in key_rows
        ]

    def add_to_keys(self, gradient, tile, start, block):
        place = self._place(tile, start)
        before = lax.dynamic_slice(gradient, place, (1, *block.shape))
        return lax.dynamic_update_slice(gradient, before + block[None], place)

    def _place(self, tile, start):
        """Indices in [groups, G, keys, D]."""
        zero = jnp.int32(0)
        return tile // self.q_tiles, zero, jnp.asarray(start, jnp.int32), zero

    def over_keys(self, first, steps, add_keys, state):
        if not self.divides_keys:
            return add_keys(0, state)
        return lax.fori_loop(0, steps, lambda i, s: add_keys(first + i * self.k_block, s), state)

    def visits(self, inputs, lse):
        """Of each tile the first key, and how many blocks of keys are visited from there, int32 [tiles]."""
        if not self.divides_keys:
            return jnp.zeros(self.tiles, jnp.int32), jnp.ones(self.tiles, jnp.int32)
        first, end = key_ranges(*inputs, lse=lse, q_block=self.q_block, k_block=_STEP)
        blocks = -(-(end - first) * _STEP // self.k_block)
        return (first * _STEP).reshape(self.tiles), blocks.reshape(self.tiles)

    def scorer(self, slopes, q_offset, k_offset):
        """score(tile, start, left, left_ids, right, right_ids) -> [G, left, right], −inf where unseen."""
        slopes = jnp.tile(slopes, self.batch).reshape(-1, self.group)

        def score(tile, start, left, left_ids, right, right_ids, *, transposed=False):
            wide = jnp.promote_types(left.dtype, jnp.float32)
            scores = _product(left, right, 2, wide) * left.shape[2] ** -0.5
            # The first query's distance from the first key.
            apart = tile % self.q_tiles * self.q_block + q_offset - start - k_offset
            apart = -apart if transposed else apart
            distance = jnp.abs(
                jnp.arange(left.shape[1])[:, None] + apart - jnp.arange(right.shape[1])
            ).astype(jnp.float32)
            bias = slopes[tile // self.q_tiles][:, None, None] * distance
            sees = (left_ids[:, :, None] == right_ids[:, None, :]) & (left_ids != 0)[:, :, None]
            return jnp.where(sees, scores - bias.astype(wide), -jnp.inf)

        return score

    def tokens_of(self, tiles, length):
        """Tiles of queries, or rows of keys, back to [B, S, H, D]."""
        rows = tiles.reshape(self.batch, self.heads, -1, tiles.shape[-1])[:, :, :length]
        return jnp.swapaxes(rows, 1, 2)

    def rows_of(self, tiles):
        """[tiles, G, q_block] back to [B, H, Sq]."""
        return tiles.reshape(self.batch, self.heads, -1)[:, :, : self.q_length]


def _make_tiling(q_shape, k_length) -> _Tiling:
    batch, q_length, heads, _ = q_shape
    divides_keys = k_length > _WHOLE
    k_block = _KEYS if divides_keys else k_length
    q_tiles = ceil(q_length / _QUERIES) if max(q_length, k_length) > _WHOLE else 1
    q_block = ceil(q_length / q_tiles)
    group = 1
    if q_tiles == 1 and not divides_keys:
        rows = batch * heads
        wanted = max(1, _SCORES // (q_block * k_block))
        group = max(divisor for divisor in range(1, rows + 1) if rows % divisor == 0 and divisor <= wanted)
    return _Tiling(batch, heads, q_length, group, q_block, q_tiles, k_block, k_length, divides_keys)
