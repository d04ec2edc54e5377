"""The layers that the encoder is made of: dense, low-rank adapter, layer norm, dropout.

Parameters are at least float32; activations carry the compute type, and each layer computes in the
type of what it is given.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel` in the type of x, for x [..., I] and kernel [I, O]; the kernel's gradient keeps its type.

    The weight gradient is stated by hand, as one product that contracts all leading axes of x and dy:
    what autodiff derives for bfloat16 misses the fast path on CPUs by a factor of thirty.
    """
    return _project(x, kernel)


def _project(x, kernel):
    return lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())))


def _matmul_forward(x, kernel):
    return _project(x, kernel), (x, kernel)


def _matmul_backward(residuals, dy):
    x, kernel = residuals
    leading = tuple(range(x.ndim - 1))
    dx = lax.dot_general(dy, kernel.astype(dy.dtype), (((dy.ndim - 1,), (1,)), ((), ())))
    dkernel = lax.dot_general(x, dy, ((leading, leading), ((), ())))
    return dx, dkernel.astype(kernel.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


class LowRankAdapter(nnx.Module):
    """`scale · dropout(x) @ a @ b`, a [I, r] and b [r, O]: what LoRA adds to a dense layer's output.

    As in PEFT a starts uniform within ±1/√I and b at zero, so that at first nothing is added.
    """

    def __init__(
        self, inputs: int, outputs: int, *, rank: int, scale: float, dropout_rate: float, rngs: nnx.Rngs
    ):
        bound = inputs**-0.5
        self.a = nnx.Param(jax.random.uniform(rngs.params(), (inputs, rank), minval=-bound, maxval=bound))
        self.b = nnx.Param(jnp.zeros((rank, outputs)))
        self.scale = scale
        self.dropout_rate = dropout_rate

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        # The dropped inputs are drawn again for the gradient: kept, they would outweigh all that LoRA saves.
        @jax.checkpoint
        def narrow(x: jax.Array, a: jax.Array) -> jax.Array:
            return matmul(dropout(x, self.dropout_rate, key), a)

        return self.scale * matmul(narrow(x, self.a[...]), self.b[...])


class Dense(nnx.Module):
    """`x @ kernel + bias`, kernel [I, O], plus what an adapter adds where there is one."""

    def __init__(self, inputs: int, outputs: int, *, std: float, use_bias: bool = True, rngs: nnx.Rngs):
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.lora: LowRankAdapter | None = None

    def __call__(self, x: jax.Array, adapter_key: jax.Array | None = None) -> jax.Array:
        y = matmul(x, self.kernel[...])
        if self.bias is not None:
            y = y + self.bias[...].astype(y.dtype)
        return y if self.lora is None else y + self.lora(x, adapter_key)


class LayerNorm(nnx.Module):
    """Layer norm over the last axis, its statistics in at least float32."""

    def __init__(self, width: int, *, epsilon: float):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array, *, dtype: DTypeLike | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        y = centred * lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]
        return y.astype(dtype or x.dtype)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share `rate` of x and scales the rest to keep the mean; without a key, x itself.

    The draw has 16 bits per element, half the cost of full words; the rate is met to 2^-17.
    """
    if key is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    keep = jax.random.bits(key, x.shape, jnp.uint16) >= threshold
    return jnp.where(keep, x / (1 - threshold / 65536), 0)
