"""Pooling: hidden states of a row's tokens in, one vector out."""

from typing import Literal

import jax
import jax.numpy as jnp

type Pooling = Literal["mean", "cls", "max"]


def widen(hidden: jax.Array) -> jax.Array:
    """The array in at least float32: what leaves the package, and what sums are computed in."""
    return hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))


def pool(hidden: jax.Array, attention_mask: jax.Array, pooling: Pooling) -> jax.Array:
    """One vector per row, [B, E], from hidden states [B, S, E]; padding never counts."""
    if pooling == "cls":
        return hidden[:, 0]
    real = attention_mask[:, :, None] != 0
    if pooling == "max":
        return jnp.where(real, hidden, -jnp.inf).max(axis=1)
    return jnp.where(real, hidden, 0).sum(axis=1) / real.sum(axis=1)
