"""The attention op on NVIDIA GPUs: a thin flash kernel in Pallas Triton, for as long as JAX carries Triton.

In: queries, keys and values, apart or as the packed projection. Out: the attended values and the log-sum-exp,
or the gradients. Nothing of size S² is written to memory, and the packed projection is neither split nor
transposed. Rows of up to 128 tokens have one backward kernel, longer ones two.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from dnabert2_jax.kernels import skipping
from dnabert2_jax.kernels.bodies import Request
from dnabert2_jax.kernels.triton_kernels import (
    APART,
    LOG2E,
    PACKED,
    Tiles,
    forward_kernel,
    keys_kernel,
    queries_kernel,
)

NAME = "pallas_triton"

# Below this, finding out which blocks matter costs more than leaving them out saves.
_SKIP_FROM = 2048


class _Plan(NamedTuple):
    """Tiles of each kernel; `row` is for rows that one program holds whole, None where none fits."""

    forward: Tiles
    row: Tiles | None
    keys: Tiles
    queries: Tiles


# The largest tiles that neither spill registers nor overflow shared memory from sm_80 to sm_120.
_PLANS = {
    ("bfloat16", 32): _Plan(
        Tiles(128, 64, 4, 3), Tiles(128, 32, 4, 2), Tiles(64, 64, 4, 2), Tiles(64, 64, 4, 2)
    ),
    ("bfloat16", 64): _Plan(
        Tiles(128, 64, 4, 3), Tiles(128, 32, 8, 2), Tiles(128, 32, 8, 2), Tiles(64, 64, 4, 2)
    ),
    ("bfloat16", 128): _Plan(Tiles(128, 64, 8, 2), None, Tiles(64, 32, 8, 2), Tiles(64, 64, 8, 2)),
    ("float32", 32): _Plan(Tiles(64, 32, 4, 1), None, Tiles(32, 16, 4, 1), Tiles(32, 16, 4, 1)),
    ("float32", 64): _Plan(Tiles(32, 32, 4, 1), None, Tiles(32, 16, 4, 1), Tiles(16, 32, 4, 1)),
    ("float32", 128): _Plan(Tiles(32, 32, 4, 1), None, Tiles(16, 16, 4, 1), Tiles(16, 16, 4, 1)),
}


def check(request: Request) -> None:
    """Raises NotImplementedError on what these kernels do not take."""
    if (request.dtype, request.head_width) not in _PLANS:
        raise NotImplementedError(
            "takes bfloat16 and float32 with heads of width 32, 64 and 128, "
            f"not {request.dtype} with {request.head_width}"
        )


class _Call(NamedTuple):
    """What both directions are given. q, k, v are [B, S, parts, H, D]; `parts` says where in it they lie."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    parts: tuple
    slopes: jax.Array
    q_segments: jax.Array
    k_segments: jax.Array
    q_offset: jax.Array
    k_offset: jax.Array
    skip: bool
    interpret: bool

    @property
    def plan(self) -> _Plan:
        return _PLANS[self.q.dtype.name, self.q.shape[4]]

    @property
    def packed(self) -> bool:
        return self.parts == PACKED


def forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip: bool, interpret: bool):
    """The result and the log-sum-exp; see `bodies.Body`."""
    where = slopes, q_segments, k_segments, q_offset, k_offset
    return _forward(_Call(q[:, :, None], k[:, :, None], v[:, :, None], APART, *where, skip, interpret))


def backward(
    q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, out, lse, dout, dlse, *, skip, interpret
):
    """dq, dk and dv; see `bodies.Body`."""
    where = slopes, q_segments, k_segments, q_offset, k_offset
    call = _Call(q[:, :, None], k[:, :, None], v[:, :, None], APART, *where, skip, interpret)
    return tuple(gradient[:, :, 0] for gradient in _backward(call, out, lse, dout, dlse))


def forward_packed(qkv, slopes, segments, *, skip: bool, interpret: bool):
    """As `forward`, from the packed projection [B, S, 3·H·D] to [B, S, H·D]; see `bodies.Body`."""
    out, lse = _forward(_packed_call(qkv, slopes, segments, skip, interpret))
    return out.reshape(*out.shape[:2], -1), lse


def backward_packed(qkv, slopes, segments, out, lse, dout, dlse, *, skip: bool, interpret: bool):
    """The gradient of the packed projection; see `bodies.Body`."""
    out, dout = (array.reshape(*array.shape[:2], slopes.shape[0], -1) for array in (out, dout))
    (gradient,) = _backward(_packed_call(qkv, slopes, segments, skip, interpret), out, lse, dout, dlse)
    return gradient.reshape(qkv.shape)


def _packed_call(qkv, slopes, segments, skip, interpret) -> _Call:
    batch, length, width = qkv.shape
    qkv = qkv.reshape(batch, length, 3, slopes.shape[0], width // (3 * slopes.shape[0]))
    zero = jnp.int32(0)
    return _Call(qkv, qkv, qkv, PACKED, slopes, segments, segments, zero, zero, skip, interpret)


def _forward(call: _Call):
    batch, length, _, heads, width = call.q.shape
    tiles = call.plan.forward
    shapes = (
        jax.ShapeDtypeStruct((batch, length, heads, width), call.v.dtype),
        jax.ShapeDtypeStruct((batch, heads, length), jnp.float32),
    )
    bound = skipping.lse_from_neighbours(*_ranged(call)) if _worth_skipping(call) else None
    inputs = _inputs(call, _key_ranges(call, tiles, bound))
    return _run(forward_kernel, call, tiles, length, shapes, inputs)


def _backward(call: _Call, out, lse, dout, dlse):
    """The gradients of q, k and v, or one for all three where they came packed."""
    q_length, k_length = call.q.shape[1], call.k.shape[1]
    dlse = jnp.zeros_like(lse) if dlse is None else dlse
    gradients = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (call.q, call.k, call.v)]
    if call.packed:
        gradients = gradients[:1]

    plan = call.plan
    if plan.row is not None and k_length <= plan.row.own:
        everything = _all_blocks(call, 1, pl.cdiv(q_length, plan.row.step))
        arguments = (*_inputs(call, everything), dout, lse, -dlse)
        return _run(partial(keys_kernel, whole_row=True), call, plan.row, k_length, gradients, arguments)

    delta = jnp.einsum("bshd,bshd->bhs", out, dout, preferred_element_type=jnp.float32) - dlse
    bound = lse if _worth_skipping(call) else None
    arguments = (*_inputs(call, _query_ranges(call, plan.keys, bound)), dout, lse, delta)
    of_keys = _run(
        partial(keys_kernel, whole_row=False), call, plan.keys, k_length, gradients[-2:], arguments
    )
    arguments = (*_inputs(call, _key_ranges(call, plan.queries, bound)), dout, lse, delta)
    if call.packed:
        # The first kernel left room for dq, which the second one fills in.
        return _run(
            queries_kernel,
            call,
            plan.queries,
            q_length,
            gradients,
            (*arguments, *of_keys),
            {len(arguments): 0},
        )
    return *_run(queries_kernel, call, plan.queries, q_length, gradients[:1], arguments), *of_keys


def _run(kernel, call: _Call, tiles: Tiles, length, shapes, arguments, aliases=None):
    return pl.pallas_call(
        partial(kernel, tiles=tiles, parts=call.parts, precision=_precision(call)),
        # The first index runs fastest: programs of one head share its keys in the cache.
        grid=(pl.cdiv(length, tiles.own), call.q.shape[0], call.q.shape[3]),
        out_shape=shapes,
        input_output_aliases=aliases or {},
        compiler_params=plgpu.CompilerParams(num_warps=tiles.warps, num_stages=tiles.stages),
        interpret=call.interpret,
    )(*arguments)


def _inputs(call: _Call, ranges) -> tuple[Any, ...]:
    """What the kernels read first, in the order of `triton_kernels.Inputs`."""
    slopes = call.slopes.astype(jnp.float32)
    # The flattest slope reaches furthest: where blocks are skipped its programs take longest, and go first.
    order = jnp.argsort(slopes) if _worth_skipping(call) else jnp.arange(slopes.shape[0])
    shift = (call.q_offset - call.k_offset).astype(jnp.int32).reshape(1)
    tensors = (call.q, call.k, call.v, call.q_segments, call.k_segments)
    return slopes * LOG2E, order.astype(jnp.int32), shift, *ranges, *tensors


def _worth_skipping(call: _Call) -> bool:
    return call.skip and call.k.shape[1] >= _SKIP_FROM


def _ranged(call: _Call):
    """The arguments that the functions of `skipping` begin with."""
    q, k = call.q[:, :, call.parts[0]], call.k[:, :, call.parts[1]]
    return q, k, call.slopes, call.q_segments, call.k_segments, call.q_offset, call.k_offset


def _key_ranges(call: _Call, tiles: Tiles, bound):
    q_blocks, k_blocks = pl.cdiv(call.q.shape[1], tiles.own), pl.cdiv(call.k.shape[1], tiles.step)
    if not call.skip or k_blocks <= 2:
        return _all_blocks(call, q_blocks, k_blocks)
    return skipping.key_ranges(*_ranged(call), bound, q_block=tiles.own, k_block=tiles.step)


def _query_ranges(call: _Call, tiles: Tiles, bound):
    q_blocks, k_blocks = pl.cdiv(call.q.shape[1], tiles.step), pl.cdiv(call.k.shape[1], tiles.own)
    if not call.skip or q_blocks <= 2:
        return _all_blocks(call, k_blocks, q_blocks)
    return skipping.query_ranges(*_ranged(call), bound, q_block=tiles.step, k_block=tiles.own)


def _all_blocks(call: _Call, blocks: int, others: int):
    first = jnp.zeros((call.q.shape[0], call.q.shape[3], blocks), jnp.int32)
    return first, jnp.full_like(first, others)


def _precision(call: _Call):
    if call.q.dtype != jnp.float32:
        return None
    # Three products of 11 bits each keep the accuracy of float32 on tensor cores; CPUs, which only emulate,
    # do not know them.
    return lax.Precision.HIGHEST if call.interpret else lax.DotAlgorithmPreset.TF32_TF32_F32_X3
