"""Bidirectional attention with the ALiBi bias, for padded and packed rows: one op with several bodies.

In: queries, keys and values, one slope per head, and the segment that each token belongs to.
Out: the attended values, zero at padding; the log-sum-exp on request.
"""

from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from dnabert2_jax.kernels import ring, xla
from dnabert2_jax.kernels.bodies import Body, Request, choose, load
from dnabert2_jax.parallel.mesh import DATA, FSDP, SEQUENCE, TENSOR
from dnabert2_jax.parallel.sharding import fitting_axes

# Under this name rematerialisation finds the op's result and log-sum-exp, which the backward pass needs.
SAVED_NAME = "attention"


@overload
def alibi_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = ...,
    k_segment_ids: jax.Array | None = ...,
    q_offset: int | jax.Array = ...,
    k_offset: int | jax.Array = ...,
    implementation: str | None = ...,
    return_lse: Literal[False] = ...,
    skip: bool = ...,
    interpret: bool = ...,
) -> jax.Array: ...
@overload
def alibi_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = ...,
    k_segment_ids: jax.Array | None = ...,
    q_offset: int | jax.Array = ...,
    k_offset: int | jax.Array = ...,
    implementation: str | None = ...,
    return_lse: Literal[True],
    skip: bool = ...,
    interpret: bool = ...,
) -> tuple[jax.Array, jax.Array]: ...
def alibi_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    k_segment_ids: jax.Array | None = None,
    q_offset: int | jax.Array = 0,
    k_offset: int | jax.Array = 0,
    implementation: str | None = None,
    return_lse: bool = False,
    skip: bool = True,
    interpret: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Computes `softmax(q k^T / sqrt(D) - slope * |i - j|) v` for each head.

    Where q lies on a mesh, the batch is split over its axes `data` and `fsdp`, the heads over `tensor` and
    the tokens of whole rows over `sequence`, as far as they divide, and each device computes its own part;
    the keys of other devices come to it as far as it needs them (`ring.py`).

    Args:
      q: [B, Sq, H, D], of a floating type. Scores and softmax are computed in at least float32.
      k, v: [B, Sk, H, D], in the type of q.
      slopes: [H], the positive ALiBi slopes, or 0 for no bias. No gradient flows to them.
      segment_ids: int32 [B, Sq]; a token attends to the tokens of its own segment. Segment 0 is padding: it
        is attended by nobody and its result is 0. None means one segment without padding.
      k_segment_ids: int32 [B, Sk], where the keys are other tokens than the queries; None means segment_ids.
      q_offset, k_offset: position of the first query and the first key, for a sequence whose parts lie on
        several devices.
      implementation: the name of a body, such as "xla" or "blockwise"; None means the best that this device
        has (`bodies.explain_choice` tells which and why).
      return_lse: return the log-sum-exp of each query's scores too; gradients flow through it.
      skip: leave out blocks of keys that are too far away to change the result by more than rounding does
        (`skipping.py` states and proves the bound). Bodies without blocks have nothing to skip.
      interpret: emulate bodies that are written in Pallas, on any platform: for tests.

    Returns:
      [B, Sq, H, D] in the type of v, 0 for queries that see no key; with `return_lse` also [B, H, Sq] in at
      least float32, -inf for such queries.

    Raises:
      NotImplementedError: the implementation asked for does not exist or does not take this call.

    Examples:
      >>> from dnabert2_jax.kernels.alibi import alibi_slopes
      >>> q = k = v = jnp.ones((2, 16, 4, 8))
      >>> alibi_attention(q, k, v, jnp.asarray(alibi_slopes(4))).shape
      (2, 16, 4, 8)
    """
    (batch, q_length, heads, width), k_length = q.shape, k.shape[1]
    whole_rows = k_segment_ids is None and q_length == k_length and _is_zero(q_offset) and _is_zero(k_offset)
    has_segments = segment_ids is not None or k_segment_ids is not None
    q_segments, k_segments = _segments(segment_ids, k_segment_ids, batch, q_length, k_length)
    split = _split(q, batch, heads, q_length if whole_rows else 1)
    sizes = (batch, q_length, k_length, heads, width)
    request = _request(q, sizes, split, has_segments=has_segments, packed=False, whole_rows=whole_rows)
    body = choose(request, implementation, interpret=interpret)
    call = _Call(body.NAME, skip, interpret, return_lse, split)
    offsets = jnp.asarray(q_offset, jnp.int32), jnp.asarray(k_offset, jnp.int32)
    out, lse = _attend(call, q, k, v, jnp.asarray(slopes, jnp.float32), q_segments, k_segments, *offsets)
    return (out, lse) if return_lse else out


def alibi_attention_qkv(
    qkv: jax.Array,
    slopes: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    implementation: str | None = None,
    skip: bool = True,
    interpret: bool = False,
) -> jax.Array:
    """As `alibi_attention`, on the packed projection of a whole row.

    Args:
      qkv: [B, S, 3·H·D], or [B, S, 3, H·D]; the last axes split as (3, H, D).
      slopes: [H].
      segment_ids: int32 [B, S] or None.
      implementation, skip, interpret: as in `alibi_attention`.

    Returns:
      [B, S, H·D].

    Raises:
      NotImplementedError: as in `alibi_attention`.
    """
    batch, length = qkv.shape[:2]
    heads, width = slopes.shape[0], prod(qkv.shape[2:])
    split = _split(qkv, batch, heads, length)
    sizes = (batch, length, length, heads, width // (3 * heads))
    has_segments = segment_ids is not None
    request = _request(qkv, sizes, split, has_segments=has_segments, packed=True, whole_rows=True)
    body = choose(request, implementation, interpret=interpret)
    # Heads over several devices cut through all three parts of the packed axis.
    if hasattr(body, "forward_packed") and not (split.head_axes or split.token_axes):
        segments, _ = _segments(segment_ids, None, batch, length, length)
        call = _Call(body.NAME, skip, interpret, False, split)
        packed = qkv.reshape(batch, length, width)
        return _attend_packed(call, packed, jnp.asarray(slopes, jnp.float32), segments)
    q, k, v = _unpack(qkv, heads)
    attended = alibi_attention(
        q, k, v, slopes, segment_ids=segment_ids, implementation=body.NAME, skip=skip, interpret=interpret
    )
    return attended.reshape(batch, length, width // 3)


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
    segments, _ = _segments(segment_ids, None, q.shape[0], q.shape[1], k.shape[1])
    scores = xla.biased_scores(q, k, jnp.asarray(slopes, jnp.float32), segments, segments, 0, 0)
    return jnp.where((segments != 0)[:, None, :, None], jax.nn.softmax(scores, axis=-1), 0)


class _Split(NamedTuple):
    """How a call lies on a mesh: the axes over which batch, heads and tokens are split."""

    mesh: AbstractMesh
    batch_axes: tuple[str, ...]
    head_axes: tuple[str, ...]
    token_axes: tuple[str, ...]

    def parts(self, axes: tuple[str, ...]) -> int:
        return prod(self.mesh.shape[axis] for axis in axes)


class _Call(NamedTuple):
    """All that is static in a call."""

    body: str
    skip: bool
    interpret: bool
    lse_is_used: bool
    split: _Split


def _is_zero(offset: int | jax.Array) -> bool:
    return isinstance(offset, int) and offset == 0


def _segments(segment_ids, k_segment_ids, batch, q_length, k_length):
    """Segments of queries and keys, filled with ones where they are not given."""
    if segment_ids is None and k_segment_ids is None:
        return jnp.ones((batch, q_length), jnp.int32), jnp.ones((batch, k_length), jnp.int32)
    queries = jnp.ones((batch, q_length), jnp.int32) if segment_ids is None else segment_ids
    keys = queries if k_segment_ids is None else k_segment_ids
    if queries.shape != (batch, q_length) or keys.shape != (batch, k_length):
        raise ValueError(
            f"segments of shapes {queries.shape} and {keys.shape} for "
            f"queries {(batch, q_length)} and keys {(batch, k_length)}"
        )
    return queries.astype(jnp.int32), keys.astype(jnp.int32)


def _split(array: jax.Array, batch: int, heads: int, tokens: int) -> _Split:
    """Splits these over the axes of the mesh that the array lies on, as far as they divide."""
    mesh = jax.typeof(array).sharding.mesh
    sizes = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    free = {name for name, size, kind in sizes if kind == AxisType.Auto and size > 1}

    def divide(size: int, *wanted: str) -> tuple[str, ...]:
        return fitting_axes(mesh, tuple(name for name in wanted if name in free), size)

    return _Split(mesh, divide(batch, DATA, FSDP), divide(heads, TENSOR), divide(tokens, SEQUENCE))


def _request(array, sizes, split: _Split, *, has_segments: bool, packed: bool, whole_rows: bool) -> Request:
    batch, q_length, k_length, heads, width = sizes
    platform, device_kind = _device(split.mesh)
    token_parts = split.parts(split.token_axes)
    return Request(
        platform,
        device_kind,
        array.dtype.name,
        batch // split.parts(split.batch_axes),
        q_length // token_parts,
        k_length // token_parts,
        heads // split.parts(split.head_axes),
        width,
        has_segments,
        packed and token_parts == 1,
        whole_rows and token_parts == 1,
    )


def _device(mesh: AbstractMesh) -> tuple[str, str]:
    """Platform and kind of the mesh's devices, or of JAX's own choice."""
    device = mesh.abstract_device or jax.config.jax_default_device
    if device is None or isinstance(device, str):
        device = jax.local_devices(backend=device)[0]
    # A mesh says "cuda" where a device says "gpu".
    platform = "gpu" if device.platform == "cuda" else str(device.platform)
    return platform, device.device_kind


def _unpack(qkv: jax.Array, num_heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    batch, length = qkv.shape[:2]
    q, k, v = jnp.unstack(qkv.reshape(batch, length, 3, num_heads, -1), axis=2)
    return q, k, v


def _on_each_device(call: _Call, function, in_specs, out_specs):
    """`function` on each device's part of its arguments; XLA itself splits the dense body, tokens aside."""
    split = call.split
    if not (split.batch_axes or split.head_axes or split.token_axes):
        return function
    if call.body == xla.NAME and not split.token_axes:
        return function
    return jax.shard_map(function, mesh=split.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _specs(call: _Call):
    """Where the parts of each kind of array lie: [B, S, H, D], [B, H, S], [H], [B, S], and scalars."""
    batch, heads, tokens = (
        axes or None for axes in (call.split.batch_axes, call.split.head_axes, call.split.token_axes)
    )
    return (
        PartitionSpec(batch, tokens, heads),
        PartitionSpec(batch, heads, tokens),
        PartitionSpec(heads),
        PartitionSpec(batch, tokens),
        PartitionSpec(),
    )


def _body(call: _Call) -> Body | ring.Ring:
    """The body that computes a device's part, with the keys of others where tokens are split."""
    body, split = load(call.body), call.split
    if not split.token_axes:
        return body
    (axis,) = split.token_axes
    return ring.Ring(body, axis, split.mesh.shape[axis], tuple(split.mesh.axis_names))


# The derivative is taken of the whole, with shard_map inside of it: transposing a shard_map around Pallas
# can add a sum over devices that does not belong there (jax issue 21855).
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(call: _Call, q, k, v, slopes, q_segments, k_segments, q_offset, k_offset):
    tokens, rows, per_head, segments, scalar = _specs(call)
    forward = partial(_body(call).forward, skip=call.skip, interpret=call.interpret)
    in_specs = (tokens, tokens, tokens, per_head, segments, segments, scalar, scalar)
    return _on_each_device(call, forward, in_specs, (tokens, rows))(
        q, k, v, slopes, q_segments, k_segments, q_offset, k_offset
    )


def _attend_forward(call: _Call, *inputs):
    out, lse = checkpoint_name(_attend(call, *inputs), SAVED_NAME)
    return (out, lse), (*inputs, out, lse)


def _attend_backward(call: _Call, residuals, cotangents):
    tokens, rows, per_head, segments, scalar = _specs(call)
    dout, dlse = cotangents
    backward: Any = partial(_body(call).backward, skip=call.skip, interpret=call.interpret)
    in_specs = (tokens, tokens, tokens, per_head, segments, segments, scalar, scalar, tokens, rows, tokens)
    arguments = (*residuals, dout)
    if call.lse_is_used:
        # Nothing depends on a log-sum-exp that is -inf; what is made of it is easily NaN.
        dlse = jnp.where(jnp.isneginf(residuals[-1]), 0, dlse)
        in_specs, arguments = (*in_specs, rows), (*arguments, dlse)
    else:
        backward = partial(backward, dlse=None)
    dq, dk, dv = _on_each_device(call, backward, in_specs, (tokens, tokens, tokens))(*arguments)
    return dq, dk, dv, None, None, None, None, None


_attend.defvjp(_attend_forward, _attend_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend_packed(call: _Call, qkv, slopes, segments):
    return _attend_packed_forward(call, qkv, slopes, segments)[0]


def _attend_packed_forward(call: _Call, qkv, slopes, segments):
    batch, everywhere = PartitionSpec(call.split.batch_axes or None), PartitionSpec()
    body: Any = load(call.body)
    forward = partial(body.forward_packed, skip=call.skip, interpret=call.interpret)
    out, lse = _on_each_device(call, forward, (batch, everywhere, batch), (batch, batch))(
        qkv, slopes, segments
    )
    out, lse = checkpoint_name((out, lse), SAVED_NAME)
    return out, (qkv, slopes, segments, out, lse)


def _attend_packed_backward(call: _Call, residuals, dout):
    batch, everywhere = PartitionSpec(call.split.batch_axes or None), PartitionSpec()
    body: Any = load(call.body)
    backward = partial(body.backward_packed, dlse=None, skip=call.skip, interpret=call.interpret)
    in_specs = (batch, everywhere, batch, batch, batch, batch)
    return _on_each_device(call, backward, in_specs, batch)(*residuals, dout), None, None


_attend_packed.defvjp(_attend_packed_forward, _attend_packed_backward)
