"""The Pallas Triton kernels of `pallas_triton`: references into GPU memory in, blocks of results out.

One program computes one block of rows of one head of one sequence, and loops over the blocks of the other
side. Scores are kept in powers of two, so that `exp2` needs no product. Where the diagonal does not cross a
block, the sign of i − j is known and the bias is a term per row plus a term per column: only blocks on the
diagonal pay for |i − j| per score. They are visited first, so that the running maximum starts high.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

LOG2E = math.log2(math.e)
_LN2 = math.log(2)
# Below every score and still finite, so that a query that sees no key has no infinity to subtract.
_LOWEST = -2e38

# Where queries, keys and values lie on the third axis of [B, S, 3, H, D], or of three arrays [B, S, 1, H, D].
# They are NumPy's integers because the emulator takes no Python ones as indices.
PACKED = (np.int32(0), np.int32(1), np.int32(2))
APART = (np.int32(0),) * 3


class Tiles(NamedTuple):
    """The shape of a program: its own rows, the rows of a step of its loop, warps, and stages of loads."""

    own: int
    step: int
    warps: int
    stages: int


class Inputs(NamedTuple):
    """What each kernel reads first.

    Attributes:
      slopes: float32 [H], in powers of two.
      order: int32 [H], the heads in the order in which programs start.
      shift: int32 [1], the position of query 0 less that of key 0.
      first, end: int32 [B, H, blocks], the range of blocks that each program visits.
      q, k, v: [B, S, parts, H, D].
      q_segments, k_segments: int32 [B, S].
    """

    slopes: Any
    order: Any
    shift: Any
    first: Any
    end: Any
    q: Any
    k: Any
    v: Any
    q_segments: Any
    k_segments: Any


class _Program(NamedTuple):
    """Where a program works: its sequence, head and first row, the slope, and the blocks to visit."""

    sequence: Any
    head: Any
    start: Any
    slope: Any
    first: Any
    end: Any


def forward_kernel(*refs, tiles: Tiles, parts, precision) -> None:
    """The result and the log-sum-exp of a block of queries."""
    inputs, (out_ref, lse_ref) = Inputs(*refs[:10]), refs[10:]
    program = _program(inputs, tiles)
    position = program.start + inputs.shift[0]
    scale = inputs.q.shape[-1] ** -0.5 * LOG2E
    q = _load_rows(inputs.q, program, program.start, tiles.own, parts[0])
    q_segments = _load_vector(inputs.q_segments, (program.sequence,), program.start, tiles.own, 0)

    def visit(block, carry, diagonal):
        accumulator, maximum, total = carry
        start = block * tiles.step
        k = _load_rows(inputs.k, program, start, tiles.step, parts[1])
        v = _load_rows(inputs.v, program, start, tiles.step, parts[2])
        k_segments = _load_vector(inputs.k_segments, (program.sequence,), start, tiles.step, 0)
        per_query, bias = _bias(program.slope, position - start, tiles, diagonal)
        scores = _product(q, k.T, precision) * scale + bias
        scores = jnp.where(q_segments[:, None] == k_segments[None, :], scores, -jnp.inf)
        new_maximum = jnp.maximum(maximum, jnp.max(scores, axis=1) + per_query)
        weights = jnp.exp2(scores + (per_query - new_maximum)[:, None])
        shrinkage = jnp.exp2(maximum - new_maximum)
        total = total * shrinkage + jnp.sum(weights, axis=1)
        attended = _product(weights.astype(v.dtype), v, precision)
        return accumulator * shrinkage[:, None] + attended, new_maximum, total

    nothing = jnp.zeros(q.shape, jnp.float32), jnp.full(tiles.own, _LOWEST), jnp.zeros(tiles.own, jnp.float32)
    blocks = pl.cdiv(inputs.k.shape[1], tiles.step)
    accumulator, maximum, total = _visit_blocks(visit, nothing, program, position, tiles, blocks)
    # Queries of segment 0 have seen keys of segment 0: neither counts. A total that is not a number counts.
    seen = (q_segments != 0) & (total != 0)
    total = jnp.where(seen, total, 1)
    at = (program.sequence, pl.ds(program.start, tiles.own), program.head)
    _store(out_ref, at, 1, program.start, jnp.where(seen[:, None], accumulator / total[:, None], 0))
    at = (program.sequence, program.head, pl.ds(program.start, tiles.own))
    _store(lse_ref, at, 2, program.start, jnp.where(seen, maximum * _LN2 + jnp.log(total), -jnp.inf))


def keys_kernel(*refs, tiles: Tiles, parts, precision, whole_row: bool) -> None:
    """dk and dv of a block of keys; where that is the whole row, dq too.

    Scores lie with keys down and queries across, so that dk and dv need no transposed weights. `delta` holds
    rowsum(dout ∘ out) − dlse; for a whole row, where the sum is that of weights times their gradients and
    needs no `out`, it holds −dlse.
    """
    inputs, (dout_ref, lse_ref, delta_ref), gradient_refs = Inputs(*refs[:10]), refs[10:13], refs[13:]
    program = _program(inputs, tiles)
    position = program.start - inputs.shift[0]
    scale = inputs.q.shape[-1] ** -0.5
    k = _load_rows(inputs.k, program, program.start, tiles.own, parts[1])
    v = _load_rows(inputs.v, program, program.start, tiles.own, parts[2])
    k_segments = _load_vector(inputs.k_segments, (program.sequence,), program.start, tiles.own, 0)

    def visit(block, carry, diagonal):
        dk, dv = carry
        start = block * tiles.step
        q = _load_rows(inputs.q, program, start, tiles.step, parts[0])
        dout = _load_rows(dout_ref, program, start, tiles.step)
        q_segments = _load_vector(inputs.q_segments, (program.sequence,), start, tiles.step, 0)
        lse = _load_lse(lse_ref, program, start, tiles.step)
        delta = _load_vector(delta_ref, (program.sequence, program.head), start, tiles.step, 0.0)
        per_key, bias = _bias(program.slope, position - start, tiles, diagonal)
        exponents = _product(k, q.T, precision) * (scale * LOG2E) + (bias - lse[None, :]) + per_key[:, None]
        weights = _weights(exponents, k_segments[:, None] == q_segments[None, :])
        dv += _product(weights.astype(dout.dtype), dout, precision)
        dweights = _product(v, dout.T, precision)
        if whole_row:
            delta += jnp.sum(weights * dweights, axis=0)
        dscores = (weights * (dweights - delta[None, :])).astype(q.dtype)
        dk += _product(dscores, q, precision)
        if whole_row:
            at = (program.sequence, pl.ds(start, tiles.step), parts[0], program.head)
            _store(gradient_refs[0], at, 1, start, _product(dscores.T, k, precision) * scale)
        return dk, dv

    nothing = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    blocks = 1 if whole_row else pl.cdiv(inputs.q.shape[1], tiles.step)
    dk, dv = _visit_blocks(visit, nothing, program, position, tiles, blocks)
    dk_ref, dv_ref = gradient_refs * 2 if len(gradient_refs) == 1 else gradient_refs[-2:]
    rows = pl.ds(program.start, tiles.own)
    _store(dk_ref, (program.sequence, rows, parts[1], program.head), 1, program.start, dk * scale)
    _store(dv_ref, (program.sequence, rows, parts[2], program.head), 1, program.start, dv)


def queries_kernel(*refs, tiles: Tiles, parts, precision) -> None:
    """dq of a block of queries. The last of the references is what it is written to."""
    inputs, (dout_ref, lse_ref, delta_ref), gradient_ref = Inputs(*refs[:10]), refs[10:13], refs[-1]
    program = _program(inputs, tiles)
    position = program.start + inputs.shift[0]
    scale = inputs.q.shape[-1] ** -0.5
    q = _load_rows(inputs.q, program, program.start, tiles.own, parts[0])
    dout = _load_rows(dout_ref, program, program.start, tiles.own)
    q_segments = _load_vector(inputs.q_segments, (program.sequence,), program.start, tiles.own, 0)
    lse = _load_lse(lse_ref, program, program.start, tiles.own)
    delta = _load_vector(delta_ref, (program.sequence, program.head), program.start, tiles.own, 0.0)

    def visit(block, dq, diagonal):
        start = block * tiles.step
        k = _load_rows(inputs.k, program, start, tiles.step, parts[1])
        v = _load_rows(inputs.v, program, start, tiles.step, parts[2])
        k_segments = _load_vector(inputs.k_segments, (program.sequence,), start, tiles.step, 0)
        per_query, bias = _bias(program.slope, position - start, tiles, diagonal)
        exponents = _product(q, k.T, precision) * (scale * LOG2E) + bias + (per_query - lse)[:, None]
        weights = _weights(exponents, q_segments[:, None] == k_segments[None, :])
        dweights = _product(dout, v.T, precision)
        dscores = (weights * (dweights - delta[:, None])).astype(k.dtype)
        return dq + _product(dscores, k, precision)

    blocks = pl.cdiv(inputs.k.shape[1], tiles.step)
    dq = _visit_blocks(visit, jnp.zeros(q.shape, jnp.float32), program, position, tiles, blocks)
    at = (program.sequence, pl.ds(program.start, tiles.own), parts[0], program.head)
    _store(gradient_ref, at, 1, program.start, dq * scale)


def _program(inputs: Inputs, tiles: Tiles) -> _Program:
    block, sequence, head = pl.program_id(0), pl.program_id(1), inputs.order[pl.program_id(2)]
    at = sequence, head, block
    return _Program(sequence, head, block * tiles.own, inputs.slopes[head], inputs.first[at], inputs.end[at])


def _visit_blocks(visit: Callable, carry, program: _Program, position, tiles: Tiles, blocks: int):
    """Visits the program's blocks: those that the diagonal may cross, then the others.

    `position` is that of the program's first row, counted from the first row of the other side, which has
    `blocks` in all.
    """
    first, end = program.first, program.end

    def visit_diagonal(block, carry):
        return visit(block, carry, True)

    if blocks <= 2:
        # The form for the diagonal is right everywhere, and one loop needs fewer registers than two.
        return lax.fori_loop(first, end, visit_diagonal, carry)
    # Rounding is towards zero, so that block 0 may be called diagonal where it is not: dearer, not wrong.
    step = jnp.int32(tiles.step)
    diagonal = jnp.clip(lax.div(position, step), first, end)
    beyond = jnp.clip(lax.div(position + (tiles.own - 1), step) + 1, first, end)
    carry = lax.fori_loop(diagonal, beyond, visit_diagonal, carry)

    def visit_other(count, carry):
        return visit(count + jnp.where(count >= diagonal, beyond - diagonal, 0), carry, False)

    return lax.fori_loop(first, end - (beyond - diagonal), visit_other, carry)


def _bias(slope, distance, tiles: Tiles, diagonal: bool) -> tuple[jax.Array, jax.Array]:
    """−slope·|distance + row − column| as a term per row [own] and the rest, [own, step] or [1, step].

    Both terms count from the corner of the block: counted from the start of the sequence they would be large
    numbers that cancel.
    """
    row = (distance + jnp.arange(tiles.own)).astype(jnp.float32)
    column = jnp.arange(tiles.step).astype(jnp.float32)
    if diagonal:
        return jnp.zeros(tiles.own, jnp.float32), -slope * jnp.abs(row[:, None] - column[None, :])
    slope = jnp.where(distance > 0, slope, -slope)
    return -slope * row, (slope * column)[None, :]


def _weights(exponents, visible):
    """2^exponents where visible. Rounding of enormous scores could else make a weight many times 1."""
    return jnp.where(visible, jnp.exp2(jnp.minimum(exponents, 0)), 0)


def _product(a, b, precision):
    return lax.dot_general(
        a, b, (((1,), (0,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _load_rows(ref, program: _Program, start, count: int, *part):
    """[count, D] of the program's head, 0 beyond the end."""
    at = ref.at[(program.sequence, pl.ds(start, count), *part, program.head)]
    if ref.shape[1] % count == 0:
        return plgpu.load(at)
    return plgpu.load(at, mask=(start + jnp.arange(count) < ref.shape[1])[:, None], other=0)


def _load_vector(ref, prefix, start, count: int, beyond):
    at = ref.at[(*prefix, pl.ds(start, count))]
    if ref.shape[-1] % count == 0:
        return plgpu.load(at)
    return plgpu.load(at, mask=start + jnp.arange(count) < ref.shape[-1], other=beyond)


def _load_lse(ref, program: _Program, start, count: int):
    """In powers of two, and +inf where a query saw no key, so that its weights come out as 0."""
    lse = _load_vector(ref, (program.sequence, program.head), start, count, -jnp.inf)
    return jnp.where(lse == -jnp.inf, jnp.inf, lse * LOG2E)


def _store(ref, at, axis: int, start, value) -> None:
    """Writes a block of rows of an array, whose axis of rows is given, as far as it has them."""
    count, length = value.shape[0], ref.shape[axis]
    value = value.astype(ref.dtype)
    if length % count == 0:
        plgpu.store(ref.at[at], value)
        return
    inside = start + jnp.arange(count) < length
    plgpu.store(ref.at[at], value, mask=inside.reshape(-1, *(1,) * (value.ndim - 1)))
