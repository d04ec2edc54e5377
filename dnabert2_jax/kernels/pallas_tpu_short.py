"""The body of the attention op for short rows on TPU: a program holds whole rows, no score leaves the chip.

In: the projections as the dense layers left them, [B, S, H·D] or packed [B, S, 3·H·D], without transposes.
Out: the result and the log-sum-exp; one fused backward pass that computes the weights again.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dnabert2_jax.kernels.block_math import (
    MASKED,
    lane_groups,
    position_differences,
    product,
    raw_scores,
    staggered,
    visible,
)
from dnabert2_jax.kernels.bodies import Request

NAME = "pallas_tpu_short"

LONGEST = 256
# What a program's blocks take at most, each held twice so that the next is fetched meanwhile; a single row
# may take more.
_BLOCK_BYTES = 12 << 20
_ROW_BYTES = 36 << 20
_VMEM_BYTES = 56 << 20
# Heads whose scores wait in scratch memory while the matrix units work on the next; by counting bundles.
_FORWARD_AHEAD = 6
_BACKWARD_AHEAD = 4


def check(request: Request) -> None:
    """Raises NotImplementedError on rows that do not fit, and on what the matrix unit does not multiply."""
    if request.dtype not in ("float32", "bfloat16"):
        raise NotImplementedError(f"it computes in float32 and bfloat16, not in {request.dtype}")
    if request.head_width not in (32, 64, 128):
        raise NotImplementedError(f"heads are 32, 64 or 128 wide, not {request.head_width}")
    longest = max(request.q_length, request.k_length)
    if longest > LONGEST:
        raise NotImplementedError(f"it takes rows of up to {LONGEST} tokens; this one has {longest}")
    item = 2 if request.dtype == "bfloat16" else 4
    # q, k, v, dout and three gradients, each twice.
    if 14 * item * longest * request.heads * request.head_width > _ROW_BYTES:
        raise NotImplementedError(f"{request.heads} heads of {longest} tokens do not fit on the chip")


def forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip, interpret):
    """As `bodies.Body.forward`; a row is one block, and nothing is skipped."""
    del skip
    row = _Rows(slopes, q_segments, k_segments, q_offset - k_offset, interpret)
    out, lse = _forward(row, [_flat(x) for x in (q, k, v)])
    return out.reshape(q.shape), lse


def backward(
    q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, out, lse, dout, dlse, *, skip, interpret
):
    """As `bodies.Body.backward`."""
    del out, skip
    row = _Rows(slopes, q_segments, k_segments, q_offset - k_offset, interpret)
    gradients = _backward(row, [_flat(x) for x in (q, k, v)], lse, _flat(dout), dlse)
    return tuple(gradient.reshape(x.shape) for gradient, x in zip(gradients, (q, k, v), strict=True))


def forward_packed(qkv, slopes, segments, *, skip, interpret):
    """As `bodies.Body.forward_packed`."""
    del skip
    return _forward(_Rows(slopes, segments, segments, 0, interpret), [qkv])


def backward_packed(qkv, slopes, segments, out, lse, dout, dlse, *, skip, interpret):
    """As `bodies.Body.backward_packed`."""
    del out, skip
    return _backward(_Rows(slopes, segments, segments, 0, interpret), [qkv], lse, dout, dlse)[0]


def _flat(x):
    """[B, S, H, D] as [B, S, H·D]: the layout of the projections, nothing moves."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


class _Rows(NamedTuple):
    """What both directions need beside the projections; `shift`: position of query 0 less that of key 0."""

    slopes: jax.Array
    q_segments: jax.Array
    k_segments: jax.Array
    shift: jax.Array | int
    interpret: bool


def _forward(rows: _Rows, inputs):
    """`inputs`: q, k and v [B, S, H·D], or all in one [B, S, 3·H·D]."""
    batch, length, width = inputs[0].shape
    width //= 3 if len(inputs) == 1 else 1
    heads = rows.slopes.shape[0]
    results = [
        jax.ShapeDtypeStruct((batch, length, width), inputs[-1].dtype),
        jax.ShapeDtypeStruct((batch, heads, length), jnp.float32),
    ]
    kernel = functools.partial(_forward_kernel, count=len(inputs))
    return _call(kernel, rows, inputs, results, held=(_FORWARD_AHEAD,), products=2, name=f"{NAME}_forward")


def _backward(rows: _Rows, inputs, lse, dout, dlse):
    """The gradients of `inputs`, which are as in `_forward`."""
    arrays = [*inputs, dout, lse] if dlse is None else [*inputs, dout, lse, dlse]
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    kernel = functools.partial(_backward_kernel, count=len(inputs), through_lse=dlse is not None)
    held = (_BACKWARD_AHEAD, 2)
    return _call(kernel, rows, arrays, results, held=held, products=5, name=f"{NAME}_backward")


def _call(kernel, rows: _Rows, arrays, results, *, held, products, name):
    """Runs a kernel over the batch; `held`: how many [Sk, Sq] it holds, `products` how many it multiplies."""
    arrays = [rows.q_segments[:, None], rows.k_segments[:, None], *arrays]
    (batch, q_length), k_length = rows.q_segments.shape, rows.k_segments.shape[1]
    scores = batch * rows.slopes.shape[0] * k_length * q_length
    width = results[0].shape[-1] // rows.slopes.shape[0]
    row_bytes = 2 * sum(x.size // batch * x.dtype.itemsize for x in (*arrays, *results))
    together = max(1, min(batch, _BLOCK_BYTES // row_bytes))

    def block(x):
        return pl.BlockSpec((together, *x.shape[1:]), lambda i: (i, 0, 0))

    return pl.pallas_call(
        kernel,
        grid=(pl.cdiv(batch, together),),
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM)] * 2 + [block(x) for x in arrays],
        out_specs=[block(x) for x in results],
        out_shape=results,
        scratch_shapes=[
            pltpu.VMEM((*held, k_length, q_length), jnp.float32),
            pltpu.VMEM((k_length, q_length), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=_VMEM_BYTES),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * scores * width,
            transcendentals=scores,
            bytes_accessed=batch * row_bytes // 2,
        ),
        interpret=rows.interpret,
        name=name,
    )(rows.slopes, jnp.asarray(rows.shift, jnp.int32).reshape(1), *arrays)


def _forward_kernel(slopes, shift, q_segments, k_segments, *refs, count):
    inputs, (out, lse, held, distance) = refs[:count], refs[count:]
    q_part, k_part, v_part = _parts(inputs)
    heads = lse.shape[1]
    width = out.shape[2] // heads
    distance[...] = jnp.abs(position_differences(distance.shape) + shift[0].astype(jnp.float32))

    def attend_row(i, _):
        sees = visible(q_segments[i], k_segments[i])
        finished = []

        def score(task: _Head):
            q, k, v_down = task.values
            scores = raw_scores(k[:, task.own], q[:, task.own])
            scores = jnp.where(sees, scores - slopes[task.head] * distance[...], MASKED)
            held[task.head % _FORWARD_AHEAD] = scores
            return jnp.max(scores, axis=0, keepdims=True), v_down[task.own]

        def attend(task: _Head, scored):
            top, v_down = scored
            weights = jnp.exp(held[task.head % _FORWARD_AHEAD] - top)
            total = jnp.sum(weights, axis=0, keepdims=True)
            blind = top == MASKED
            lse[i, task.head : task.head + 1] = jnp.where(blind, -jnp.inf, top + jnp.log(total))
            attended = product(v_down, weights.astype(v_down.dtype), 1, 0)
            finished.append(jnp.where(blind, 0, attended * (1 / total)))
            if task.last:
                out[i, :, task.lanes] = jnp.concatenate(finished, axis=0).T.astype(out.dtype)
                finished.clear()

        def load(lanes):
            return q_part.read(i, lanes), k_part.read(i, lanes), v_part.read(i, lanes).T

        staggered(_tasks(heads, width, load), score, attend, _FORWARD_AHEAD)

    jax.lax.fori_loop(0, out.shape[0], attend_row, None)


def _backward_kernel(slopes, shift, q_segments, k_segments, *refs, count, through_lse):
    inputs, (dout, lse), refs = refs[:count], refs[count : count + 2], refs[count + 2 :]
    dlse, refs = (refs[0], refs[1:]) if through_lse else (None, refs)
    gradients, (held, distance) = refs[:count], refs[count:]
    (q_part, k_part, v_part), (dq_part, dk_part, dv_part) = _parts(inputs), _parts(gradients)
    heads = lse.shape[1]
    width = dout.shape[2] // heads
    distance[...] = jnp.abs(position_differences(distance.shape) + shift[0].astype(jnp.float32))

    def differentiate_row(i, _):
        sees = visible(q_segments[i], k_segments[i])
        finished = []

        def weigh(task: _Head):
            q, k, v, do, _ = task.values
            this = slice(task.head, task.head + 1)
            scores = raw_scores(k[:, task.own], q[:, task.own]) - slopes[task.head] * distance[...]
            weights = jnp.where(sees, jnp.exp(scores - lse[i, this]), 0)
            dweights = product(v[:, task.own], do[:, task.own], 1, 1)
            # Equal to rowsum(dout ∘ out), for which `out` would have to be read.
            shared = jnp.sum(weights * dweights, axis=0, keepdims=True)
            held[task.head % _BACKWARD_AHEAD, 0] = weights
            held[task.head % _BACKWARD_AHEAD, 1] = dweights
            return shared if dlse is None else shared - dlse[i, this]

        def differentiate(task: _Head, shared):
            q, _, _, do, k_down = task.values
            weights, dweights = (held[task.head % _BACKWARD_AHEAD, j] for j in (0, 1))
            dscores = (weights * (dweights - shared) * width**-0.5).astype(q.dtype)
            dq = product(k_down[task.own], dscores, 1, 0)
            dk = product(dscores, q[:, task.own], 1, 0)
            dv = product(weights.astype(do.dtype), do[:, task.own], 1, 0)
            finished.append((dq, dk, dv))
            if task.last:
                dq, dk, dv = zip(*finished, strict=True)
                dq_part.write(i, task.lanes, jnp.concatenate(dq, axis=0).T)
                dk_part.write(i, task.lanes, jnp.concatenate(dk, axis=1))
                dv_part.write(i, task.lanes, jnp.concatenate(dv, axis=1))
                finished.clear()

        def load(lanes):
            q, k, v = (part.read(i, lanes) for part in (q_part, k_part, v_part))
            return q, k, v, dout[i, :, lanes], k.T

        staggered(_tasks(heads, width, load), weigh, differentiate, _BACKWARD_AHEAD)

    jax.lax.fori_loop(0, dout.shape[0], differentiate_row, None)


class _Head(NamedTuple):
    """A head to compute: its group's lanes and values, which lanes of these are its own, is it the last."""

    head: int
    lanes: slice
    own: slice
    last: bool
    values: tuple[jax.Array, ...]


def _tasks(heads, width, load):
    """The heads in order; those that share registers share what is loaded."""
    for group in lane_groups(heads, width):
        lanes = slice(group.start * width, group.stop * width)
        values = load(lanes)
        for n, head in enumerate(group):
            yield _Head(head, lanes, slice(n * width, (n + 1) * width), head == group[-1], values)


class _Part(NamedTuple):
    """q, k, v or a gradient: an array of its own, or its lanes in a packed one."""

    ref: Any
    first_lane: int

    def read(self, row, lanes: slice) -> jax.Array:
        return self.ref[row, :, self._lanes(lanes)]

    def write(self, row, lanes: slice, value: jax.Array) -> None:
        self.ref[row, :, self._lanes(lanes)] = value.astype(self.ref.dtype)

    def _lanes(self, lanes: slice) -> slice:
        return slice(self.first_lane + lanes.start, self.first_lane + lanes.stop)


def _parts(refs) -> list[_Part]:
    if len(refs) == 3:
        return [_Part(ref, 0) for ref in refs]
    width = refs[0].shape[2] // 3
    return [_Part(refs[0], i * width) for i in range(3)]
