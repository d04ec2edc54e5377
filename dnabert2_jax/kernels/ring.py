"""Attention over rows whose tokens lie on several devices: a body of the op made of another one.

In: each device's part of queries, keys and values, inside of `shard_map`. Out: its part of the result. Keys
and values travel around the devices in both directions at once, as far as any device needs them: one hop is
an exchange with the neighbours, half as many hops as there are devices reach all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dnabert2_jax.kernels.bodies import Body
from dnabert2_jax.kernels.skipping import describe_keys, live_blocks_of, lse_from_neighbours


class Ring(NamedTuple):
    """Both directions of a body (see `bodies.Body`) for whole rows, split evenly along an axis of the mesh.

    What `skipping.py` proves of blocks holds here of whole parts: keys that no query of a device feels above
    rounding are not computed with, and travel no further than to the last device that feels them. The devices
    agree on the number of hops, so that it depends on the data of all. A part's own blocks are skipped by
    the body against the part, so that errors are bounded by the bound of `skipping.py` times the parts.

    Attributes:
      body: computes a device's queries with one part of the keys.
      axis: of the mesh; its devices hold consecutive parts.
      parts: how many.
      mesh_axes: all axes of the mesh, whose devices take the same number of hops.
    """

    body: Body
    axis: str
    parts: int
    mesh_axes: tuple[str, ...]

    def forward(
        self, q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, *, skip, interpret
    ) -> tuple[jax.Array, jax.Array]:
        """As `bodies.Body.forward`, on parts of whole rows; both offsets are 0."""
        del q_offset, k_offset
        length, wide = q.shape[1], jnp.promote_types(q.dtype, jnp.float32)
        own_offset = lax.axis_index(self.axis) * length
        near = None
        if skip:
            near = lse_from_neighbours(q, k, slopes, q_segments, k_segments, 0, 0)
        plan = self._plan(q, k, slopes, q_segments, k_segments, near)

        def attend(keys, offset, state):
            (k, v, k_segments), (out, lse) = keys, state
            part, part_lse = self.body.forward(
                q, k, v, slopes, q_segments, k_segments, own_offset, offset, skip=skip, interpret=interpret
            )
            new_lse = jnp.logaddexp(lse, part_lse)
            finite = jnp.where(jnp.isneginf(new_lse), 0, new_lse)
            out = _scaled(out, lse - finite) + _scaled(part.astype(wide), part_lse - finite)
            return (out, new_lse), ()

        state = (
            jnp.zeros(q.shape[:3] + v.shape[3:], wide),
            jnp.full((q.shape[0], q.shape[2], length), -jnp.inf, wide),
        )
        (out, lse), _ = self._visit(plan, length, (k, v, k_segments), (), attend, state)
        return out.astype(v.dtype), lse

    def backward(
        self,
        q,
        k,
        v,
        slopes,
        q_segments,
        k_segments,
        q_offset,
        k_offset,
        out,
        lse,
        dout,
        dlse,
        *,
        skip,
        interpret,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `bodies.Body.backward`, on parts of whole rows; both offsets are 0."""
        del q_offset, k_offset
        length, wide = q.shape[1], lse.dtype
        own_offset = lax.axis_index(self.axis) * length
        plan = self._plan(q, k, slopes, q_segments, k_segments, lse if skip else None)

        def attend(keys, offset, dq):
            k, v, k_segments = keys
            dq_part, *dkeys = self.body.backward(
                q, k, v, slopes, q_segments, k_segments, own_offset, offset, out, lse, dout, dlse,
                skip=skip, interpret=interpret,
            )  # fmt: skip
            return dq + dq_part.astype(wide), tuple(dkey.astype(wide) for dkey in dkeys)

        gradients = jnp.zeros(k.shape, wide), jnp.zeros(v.shape, wide)
        state = jnp.zeros(q.shape, wide)
        dq, (dk, dv) = self._visit(plan, length, (k, v, k_segments), gradients, attend, state)
        return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)

    def _plan(self, q, k, slopes, q_segments, k_segments, lse) -> "_Plan":
        """Which parts of the keys this device needs, and how far keys travel for that."""
        length, here = q.shape[1], lax.axis_index(self.axis)
        own = describe_keys(k, k_segments, k_block=length)
        keys = jax.tree.map(lambda x: lax.all_gather(x, self.axis, axis=x.ndim - 1, tiled=True), own)
        live = live_blocks_of(
            q, keys, slopes, q_segments, here * length, 0, lse,
            k_length=self.parts * length, q_block=length, k_block=length,
        ).any(axis=(0, 1, 2))  # fmt: skip
        apart = jnp.abs(jnp.arange(self.parts) - here)
        hops = jnp.where(live, jnp.minimum(apart, self.parts - apart), 0).max()
        return _Plan(live, lax.pmax(hops, self.mesh_axes))

    def _visit(self, plan: "_Plan", length: int, keys, gradients, attend, state):
        """Calls `attend(keys, offset, state) -> (state, gradients)` on each part that is needed.

        Gradients of a part travel with it, are added up, and come home.

        Returns:
          the last state, and the sum of the gradients of this device's own part.
        """
        here = lax.axis_index(self.axis)

        def call(arguments):
            keys, gradients, part, state = arguments
            state, more = attend(keys, part * length, state)
            return jax.tree.map(jnp.add, gradients, more), state

        def stay(arguments):
            _, gradients, _, state = arguments
            return gradients, state

        def attend_to_both(hop, travelling, state):
            """Both travellers that are here now; at the start, and half-way around, they are one part."""

            def attend_to_one(state, one):
                (keys, gradients), direction = one
                part = (here + jnp.where(direction == 0, -hop, hop)) % self.parts
                same = (2 * hop) % self.parts == 0
                needed = plan.live[part] & ~(same & (direction == 1))
                gradients, state = lax.cond(needed, call, stay, (keys, gradients, part, state))
                return state, gradients

            state, gradients = lax.scan(attend_to_one, state, (travelling, jnp.arange(2)))
            return (travelling[0], gradients), state

        def hop_on(hop, carried):
            travelling, state = carried
            # The next keys travel while the device computes with these.
            next_keys = self._send(travelling[0])
            (_, gradients), state = attend_to_both(hop, travelling, state)
            return (next_keys, self._send(gradients)), state

        travelling = jax.tree.map(lambda x: jnp.stack([x, x]), (keys, gradients))
        travelling, state = lax.fori_loop(0, plan.hops, hop_on, (travelling, state))
        (_, gradients), state = attend_to_both(plan.hops, travelling, state)
        gradients = lax.fori_loop(0, plan.hops, lambda _, x: self._send(x, homewards=True), gradients)
        return state, jax.tree.map(lambda x: x[0] + x[1], gradients)

    def _send(self, travelling, *, homewards: bool = False) -> Any:
        """The first of the two travellers goes to the next device, the second to the one before."""
        up = [(part, (part + 1) % self.parts) for part in range(self.parts)]
        down = [(there, here) for here, there in up]
        ways = (down, up) if homewards else (up, down)
        return jax.tree.map(
            lambda x: jnp.stack([lax.ppermute(x[i], self.axis, way) for i, way in enumerate(ways)]),
            travelling,
        )


class _Plan(NamedTuple):
    """live: bool [parts], whether this device needs the keys of each; hops: how far keys travel."""

    live: jax.Array
    hops: jax.Array


def _scaled(out, log_share):
    """[B, S, H, D] times the exponentials [B, H, S]."""
    return out * jnp.swapaxes(jnp.exp(log_share), 1, 2)[..., None]
