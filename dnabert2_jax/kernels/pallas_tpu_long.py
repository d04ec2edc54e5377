"""The body of the attention op for long rows on TPU: online softmax over blocks, far blocks left out.

In: the projections as the dense layers left them, [B, S, H·D] or packed [B, S, 3·H·D], without transposes.
A program takes the heads that share 128 lanes, and visits for each the blocks that it needs. Out: the result
and the log-sum-exp; one fused backward pass that computes the weights again. The kernels themselves are in
`tpu_long_kernels.py`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dnabert2_jax.kernels.block_math import LANES
from dnabert2_jax.kernels.bodies import Request
from dnabert2_jax.kernels.skipping import EPSILON, key_ranges, query_ranges
from dnabert2_jax.kernels.tpu_long_kernels import Tiling, backward_kernel, forward_kernel

NAME = "pallas_tpu_long"

# What may stay on the chip while a program runs over the other side of the row.
_RESIDENT_BYTES = 40 << 20
_VMEM_BYTES = 60 << 20


def check(request: Request) -> None:
    """Raises NotImplementedError on rows that do not fit, and on what the matrix unit does not multiply."""
    if request.dtype not in ("float32", "bfloat16"):
        raise NotImplementedError(f"it computes in float32 and bfloat16, not in {request.dtype}")
    if request.head_width not in (32, 64, 128):
        raise NotImplementedError(f"heads are 32, 64 or 128 wide, not {request.head_width}")
    item = 2 if request.dtype == "bfloat16" else 4
    # q, out, dout and dq, each twice so that the next is fetched meanwhile, and the sum of dq in float32.
    longest = _RESIDENT_BYTES // (LANES * (8 * item + 4))
    length = max(request.q_length, request.k_length)
    if length > longest:
        raise NotImplementedError(f"it takes rows of up to {longest} tokens; this one has {length}")


def forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip, interpret):
    """As `bodies.Body.forward`."""
    call = _Call(q, k, v, None, slopes, q_segments, k_segments, q_offset, k_offset, skip, interpret)
    out, lse = _forward(call)
    return out.reshape(q.shape), lse


def backward(
    q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, out, lse, dout, dlse, *, skip, interpret
):
    """As `bodies.Body.backward`."""
    call = _Call(q, k, v, None, slopes, q_segments, k_segments, q_offset, k_offset, skip, interpret)
    gradients = _backward(call, out, lse, dout, dlse)
    return tuple(gradient.reshape(x.shape) for gradient, x in zip(gradients, (q, k, v), strict=True))


def forward_packed(qkv, slopes, segments, *, skip, interpret):
    """As `bodies.Body.forward_packed`."""
    return _forward(_packed_call(qkv, slopes, segments, skip, interpret))


def backward_packed(qkv, slopes, segments, out, lse, dout, dlse, *, skip, interpret):
    """As `bodies.Body.backward_packed`."""
    call = _packed_call(qkv, slopes, segments, skip, interpret)
    out, dout = out.reshape(call.q.shape), dout.reshape(call.q.shape)
    return jnp.concatenate(_backward(call, out, lse, dout, dlse), axis=2)


class _Call(NamedTuple):
    """The arguments of a body's function; `packed`: the array of which q, k and v are parts, if one is."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    packed: jax.Array | None
    slopes: jax.Array
    q_segments: jax.Array
    k_segments: jax.Array
    q_offset: jax.Array | int
    k_offset: jax.Array | int
    skip: bool
    interpret: bool

    def tiling(self) -> Tiling:
        _, q_length, heads, width = self.q.shape
        return Tiling(heads, width, q_length, self.k.shape[1])

    def parts(self) -> list[tuple[jax.Array, int]]:
        """q, k and v as arrays [B, S', lanes], and the group of lanes in each where its heads begin."""
        t = self.tiling()
        filled_up = (t.q_blocks * t.q_block, 3 * t.groups * LANES)
        if self.packed is not None and self.packed.shape[1:] == filled_up:
            return [(self.packed, i * t.groups) for i in range(3)]
        return [(t.queries(self.q), 0), (t.keys(self.k), 0), (t.keys(self.v), 0)]


def _packed_call(qkv, slopes, segments, skip, interpret) -> _Call:
    parts = qkv.reshape(*qkv.shape[:2], 3, slopes.shape[0], -1)
    q, k, v = (parts[:, :, i] for i in range(3))
    return _Call(q, k, v, qkv, slopes, segments, segments, 0, 0, skip, interpret)


def _forward(call: _Call):
    t = call.tiling()
    (q, q_first), (k, k_first), (v, v_first) = call.parts()
    batch, q_length, k_length = q.shape[0], q.shape[1], k.shape[1]
    out, lse = pl.pallas_call(
        functools.partial(forward_kernel, t=t, most_weight=_most_weight(call)),
        grid=(batch, t.groups, t.q_blocks),
        in_specs=[
            *_scalar_specs(t.q_blocks),
            pl.BlockSpec((1, 1, t.q_block), lambda b, _g, i: (b, 0, i)),
            pl.BlockSpec((1, 1, k_length), lambda b, _g, _i: (b, 0, 0)),
            pl.BlockSpec((1, t.q_block, LANES), lambda b, g, i: (b, i, q_first + g)),
            pl.BlockSpec((1, k_length, LANES), lambda b, g, _i: (b, 0, k_first + g)),
            pl.BlockSpec((1, k_length, LANES), lambda b, g, _i: (b, 0, v_first + g)),
        ],
        out_specs=[
            pl.BlockSpec((1, t.q_block, LANES), lambda b, g, i: (b, i, g)),
            pl.BlockSpec((1, 1, t.together, t.q_block), lambda b, g, i: (b, g, 0, i)),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((batch, q_length, t.groups * LANES), call.v.dtype),
            jax.ShapeDtypeStruct((batch, t.groups, t.together, q_length), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((LANES, k_length), v.dtype),
            pltpu.VMEM((t.together, 2, t.k_block, t.q_block), jnp.float32),
            pltpu.VMEM((t.k_block, t.q_block), jnp.float32),
            pltpu.VMEM((t.together, LANES), jnp.float32),
        ],
        compiler_params=_compiler_params(),
        cost_estimate=_cost(call, t, products=2, arrays=4),
        interpret=call.interpret,
        name=f"{NAME}_forward",
    )(
        *_scalars(t, call, key_ranges),
        t.segments(call.q_segments, q_length), t.segments(call.k_segments, k_length),
        q, k, v,
    )  # fmt: skip
    lse = lse.reshape(batch, -1, q_length)[:, : t.heads, : t.q_length]
    return out[:, : t.q_length, : t.heads * t.width], lse


def _backward(call: _Call, out, lse, dout, dlse):
    t = call.tiling()
    (q, q_first), (k, k_first), (v, v_first) = call.parts()
    batch, q_length, k_length = q.shape[0], q.shape[1], k.shape[1]
    whole = pl.BlockSpec((1, q_length, LANES), lambda b, g, _j: (b, 0, g))
    rows = pl.BlockSpec((1, 1, t.together, q_length), lambda b, g, _j: (b, g, 0, 0))
    block = pl.BlockSpec((1, t.k_block, LANES), lambda b, g, j: (b, j, g))
    dq, dk, dv = pl.pallas_call(
        functools.partial(backward_kernel, t=t, most_weight=_most_weight(call)),
        grid=(batch, t.groups, t.k_blocks),
        in_specs=[
            *_scalar_specs(t.k_blocks),
            pl.BlockSpec((1, 1, q_length), lambda b, _g, _j: (b, 0, 0)),
            pl.BlockSpec((1, 1, t.k_block), lambda b, _g, j: (b, 0, j)),
            pl.BlockSpec((1, q_length, LANES), lambda b, g, _j: (b, 0, q_first + g)),
            pl.BlockSpec((1, t.k_block, LANES), lambda b, g, j: (b, j, k_first + g)),
            pl.BlockSpec((1, t.k_block, LANES), lambda b, g, j: (b, j, v_first + g)),
            whole,
            whole,
            rows,
            *([] if dlse is None else [rows]),
        ],
        out_specs=[whole, block, block],
        out_shape=[
            jax.ShapeDtypeStruct((batch, length, t.groups * LANES), x.dtype)
            for length, x in ((q_length, q), (k_length, k), (k_length, v))
        ],
        scratch_shapes=[
            pltpu.VMEM((LANES, q_length), jnp.float32),
            pltpu.VMEM((t.together, 2, t.k_block, t.q_block), jnp.float32),
            pltpu.VMEM((2, t.together, q_length), jnp.float32),
        ],
        compiler_params=_compiler_params(),
        cost_estimate=_cost(call, t, products=5, arrays=7),
        interpret=call.interpret,
        name=f"{NAME}_backward",
    )(
        *_scalars(t, call, query_ranges),
        t.segments(call.q_segments, q_length), t.segments(call.k_segments, k_length),
        q, k, v, t.queries(out), t.queries(dout), t.per_head(lse, q_length),
        *([] if dlse is None else [t.per_head(dlse, q_length)]),
    )  # fmt: skip
    lanes = t.heads * t.width
    return dq[:, : t.q_length, :lanes], dk[:, : t.k_length, :lanes], dv[:, : t.k_length, :lanes]


def _scalar_specs(blocks: int):
    ranges = pl.BlockSpec((1, 1, blocks), lambda b, _g, _i: (b, 0, 0), memory_space=pltpu.SMEM)
    everywhere = pl.BlockSpec(memory_space=pltpu.SMEM)
    return [everywhere, everywhere, ranges, ranges]


def _scalars(t: Tiling, call: _Call, ranges):
    """Slopes, position of query 0 less that of key 0, and the blocks that segments allow."""
    slopes = jnp.pad(call.slopes, (0, t.groups * t.together - t.heads), constant_values=1)
    shift = jnp.asarray(call.q_offset - call.k_offset, jnp.int32).reshape(1)
    first, end = ranges(
        call.q, call.k, call.slopes, call.q_segments, call.k_segments, call.q_offset, call.k_offset, None,
        q_block=t.q_block, k_block=t.k_block,
    )  # fmt: skip
    return slopes, shift, first[:, :1], end[:, :1]


def _most_weight(call: _Call) -> float:
    """ln of what a weight must be below to be left out; see `skipping.py`."""
    if not call.skip:
        return -math.inf
    return math.log(EPSILON[call.q.dtype.name] / (2 * max(call.q.shape[1], call.k.shape[1])))


def _compiler_params():
    return pltpu.CompilerParams(
        dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=_VMEM_BYTES
    )


def _cost(call: _Call, t: Tiling, *, products: int, arrays: int):
    """Without anything left out."""
    scores = call.q.shape[0] * t.heads * t.q_length * t.k_length
    return pl.CostEstimate(
        flops=2 * products * scores * t.width,
        transcendentals=scores,
        bytes_accessed=arrays * call.q.size * call.q.dtype.itemsize,
    )
