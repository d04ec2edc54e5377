"""The layers that the encoder is made of: dense, low-rank adapter, layer norm, dropout.

Parameters are at least float32; activations carry the compute type, and each layer computes in the
type of what it is given.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from dnabert2_jax.parallel.mesh import FSDP, TENSOR
from dnabert2_jax.parallel.sharding import Axes, constrain


class Layout(NamedTuple):
    """How a kernel [I, O] lies on a mesh while it is used; gathered from where it is kept.

    Attributes:
      inputs, outputs: the axes of the mesh that split them.
      parts: the outputs are so many vectors of equal length, each of which is split.
    """

    inputs: Axes = None
    outputs: Axes = None
    parts: int = 1


WHOLE = Layout()


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, kernel: jax.Array, layout: Layout = WHOLE) -> jax.Array:
    """`x @ kernel` in the type of x, for x [..., I] and kernel [I, O]; the kernel's gradient keeps its type.

    The weight gradient is stated by hand, as one product that contracts all leading axes of x and dy:
    what autodiff derives for bfloat16 misses the fast path on CPUs by a factor of thirty. What a mesh
    gathers of a kernel is not kept for the gradient, but gathered again.

    Returns:
      [..., O], or [..., parts, O / parts] where the layout has several parts.
    """
    y = lax.dot_general(x, _gathered(kernel, x.dtype, layout), (((x.ndim - 1,), (0,)), ((), ())))
    return y.reshape(*y.shape[: x.ndim - 1], layout.parts, -1) if layout.parts > 1 else y


def _gathered(kernel, dtype, layout: Layout):
    """[I, O], or [I, parts, O / parts] where each part is split."""
    kernel = kernel.astype(dtype)
    if layout.parts == 1 or _devices_along(kernel, TENSOR) == 1:
        return constrain(kernel, layout.inputs, layout.outputs)
    kernel = kernel.reshape(kernel.shape[0], layout.parts, -1)
    # In two steps the first, an exchange, moves what one device keeps and not what it gathers.
    return constrain(constrain(kernel, FSDP, None, layout.outputs), layout.inputs, None, layout.outputs)


def _matmul_forward(x, kernel, layout: Layout):
    return matmul(x, kernel, layout), (x, kernel)


def _matmul_backward(layout: Layout, residuals, dy):
    x, kernel = residuals
    leading = tuple(range(x.ndim - 1))
    if _devices_along(kernel, FSDP) > 1:
        # Gathered once dy is there: else the compiler keeps what was gathered for the forward pass.
        kernel, dy = lax.optimization_barrier((kernel, dy))
    gathered = _gathered(kernel, dy.dtype, layout)
    if gathered.ndim == 2:
        dy = dy.reshape(*x.shape[:-1], -1)
    outputs = tuple(range(x.ndim - 1, dy.ndim)), tuple(range(1, gathered.ndim))
    dx = lax.dot_general(dy, gathered, (outputs, ((), ())))
    dkernel = lax.dot_general(x, dy, ((leading, leading), ((), ())))
    if gathered.ndim == 3:
        # The two steps of `_gathered`, backwards.
        dkernel = constrain(constrain(dkernel, FSDP, None, layout.outputs), (FSDP, TENSOR))
        dkernel = dkernel.reshape(kernel.shape)
    return dx, dkernel.astype(kernel.dtype)


def _devices_along(array, axis: str) -> int:
    return jax.typeof(array).sharding.mesh.shape.get(axis, 1)


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
    """`x @ kernel + bias`, kernel [I, O], plus what an adapter adds where there is one.

    The result is [..., O], or [..., parts, O / parts] where the layout has several parts.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        std: float,
        use_bias: bool = True,
        layout: Layout = WHOLE,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.layout = layout
        self.lora: LowRankAdapter | None = None

    def __call__(self, x: jax.Array, adapter_key: jax.Array | None = None) -> jax.Array:
        y = matmul(x, self.kernel[...], self.layout)
        if self.bias is not None:
            y = y + self.bias[...].astype(y.dtype).reshape(y.shape[x.ndim - 1 :])
        return y if self.lora is None else y + self.lora(x, adapter_key).reshape(y.shape)


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

    Keys [B], one for each row of x, make what is drawn for a row independent of the others.
    """
    if key is None or rate == 0.0:
        return x
    threshold = min(round(rate * 2**32), 2**32 - 1)
    kept = _random_words(key, x.shape) >= jnp.uint32(threshold)
    return jnp.where(kept, x / (1 - threshold / 2**32), 0)


def _random_words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Words of 32 bits, each a hash of its place and the key.

    JAX's own generator, made for more than dropping activations, took a fifth of a training step on a CPU. A
    hash of a dozen operations is computed where it is used, in the gradient again, and is never stored.
    """
    row_keys = jax.random.key_data(key)
    words = row_keys.reshape(*key.shape, *(1,) * (len(shape) - key.ndim), 2)
    places, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(key.ndim, len(shape))):
        places += jnp.uint32(stride % 2**32) * lax.broadcasted_iota(jnp.uint32, shape, axis)
        stride *= shape[axis]
    return _mix(_mix(places ^ words[..., 0]) ^ words[..., 1])


def _mix(words: jax.Array) -> jax.Array:
    """A bijection of 32 bits in which each bit of the result hangs on all (C. Wellons, hash-prospector)."""
    words ^= words >> 16
    words *= jnp.uint32(0x7FEB352D)
    words ^= words >> 15
    words *= jnp.uint32(0x846CA68B)
    return words ^ (words >> 16)


def split_key(key: jax.Array, count: int) -> list[jax.Array]:
    """`count` keys from one, or from keys [B] as many for each row."""
    if key.ndim == 0:
        return list(jax.random.split(key, count))
    return list(jnp.moveaxis(jax.vmap(lambda row_key: jax.random.split(row_key, count))(key), 1, 0))
