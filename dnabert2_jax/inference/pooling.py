"""Pooling: hidden states of a row's tokens in, one vector out."""

from typing import Literal

import jax
import jax.numpy as jnp

type VectorPooling = Literal["mean", "cls", "max"]
type TokenPooling = Literal["token", "nucleotide"]
type Pooling = VectorPooling | TokenPooling

VECTOR_POOLINGS = ("mean", "cls", "max")
TOKEN_POOLINGS = ("token", "nucleotide")


def widen(hidden: jax.Array) -> jax.Array:
    """The array in at least float32: what leaves the package, and what sums are computed in."""
    return hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))


def pool(hidden: jax.Array, owned: jax.Array, pooling: Pooling) -> jax.Array:
    """One vector per row, [B, E]; or, for poolings of tokens, what came in.

    Args:
      hidden: [B, S, E].
      owned: int32 [B, 2]; "mean" and "max" are over the tokens from the one up to the other, at least one.
      pooling: "cls" is the first token's vector.
    """
    if pooling in TOKEN_POOLINGS:
        return hidden
    if pooling == "cls":
        return hidden[:, 0]
    places = jnp.arange(hidden.shape[1])
    counts = ((places >= owned[:, :1]) & (places < owned[:, 1:]))[:, :, None]
    if pooling == "max":
        return jnp.where(counts, hidden, -jnp.inf).max(axis=1)
    return jnp.where(counts, hidden, 0).sum(axis=1) / counts.sum(axis=1)
