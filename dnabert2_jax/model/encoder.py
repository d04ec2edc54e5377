"""The DNABERT-2 encoder: embeddings, then post-norm blocks of ALiBi attention and a gated feed-forward.

In: token ids [B, S] and the segment of each token. Out: hidden states [B, S, E], zero at padding.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import SAVED_NAME, alibi_attention_qkv, alibi_attention_weights
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.layers import Dense, LayerNorm, Layout, dropout, split_key
from dnabert2_jax.parallel.mesh import TENSOR
from dnabert2_jax.parallel.sharding import BATCH, TOKENS, constrain

# What the backward pass computes again instead of keeping it: nothing; all but what enters each block; or all
# but that, the results of the dense layers and those of attention.
type Rematerialisation = Literal["none", "layers", "dots"]

# The key of each dense layer's adapter, in the order of the layers; without adapters nothing is drawn.
type AdapterKeys = Sequence[jax.Array | None]


class Embeddings(nnx.Module):
    """Word plus token-type vectors, normalised; positions enter through ALiBi alone."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        a, std = architecture, architecture.initializer_range
        self.word = nnx.Param(std * jax.random.normal(rngs.params(), (a.vocab_size, a.hidden_size)))
        self.token_type = nnx.Param(
            std * jax.random.normal(rngs.params(), (a.type_vocab_size, a.hidden_size))
        )
        self.norm = LayerNorm(a.hidden_size, epsilon=a.layer_norm_eps)
        self.dropout_rate = a.hidden_dropout_prob

    def __call__(self, input_ids, token_type_ids, key, dtype) -> jax.Array:
        types = self.token_type[0] if token_type_ids is None else self.token_type[...][token_type_ids]
        words = constrain(self.word[...], None, None)[input_ids]
        return dropout(self.norm(words + types, dtype=dtype), self.dropout_rate, key)


class Attention(nnx.Module):
    """Multi-head self-attention with ALiBi, from one packed projection."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        width, std = architecture.hidden_size, architecture.initializer_range
        self.qkv = Dense(width, 3 * width, std=std, layout=Layout(outputs=TENSOR, parts=3), rngs=rngs)
        self.output = Dense(width, width, std=std, layout=Layout(inputs=TENSOR), rngs=rngs)
        self.num_heads = architecture.num_attention_heads

    def __call__(
        self, x: jax.Array, segment_ids: jax.Array, adapter_keys: AdapterKeys = (None, None)
    ) -> jax.Array:
        qkv = self.qkv(x, adapter_keys[0])
        attended = alibi_attention_qkv(qkv, self._slopes(x), segment_ids=segment_ids)
        return self.output(attended, adapter_keys[1])

    def weights(self, x: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """What each token attends to, [B, H, S, S], given what the block is given."""
        return alibi_attention_weights(self.qkv(x), self._slopes(x), segment_ids=segment_ids)

    def _slopes(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(alibi_slopes(self.num_heads), jnp.promote_types(x.dtype, jnp.float32))


class GatedFeedForward(nnx.Module):
    """`output(gelu(gate) * value)`, gate and value from one projection without bias (GEGLU)."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        a, std = architecture, architecture.initializer_range
        halves, rows = Layout(outputs=TENSOR, parts=2), Layout(inputs=TENSOR)
        self.gated = Dense(
            a.hidden_size, 2 * a.intermediate_size, std=std, use_bias=False, layout=halves, rngs=rngs
        )
        self.output = Dense(a.intermediate_size, a.hidden_size, std=std, layout=rows, rngs=rngs)
        self.dropout_rate = a.hidden_dropout_prob

    def __call__(
        self, x: jax.Array, key: jax.Array | None, adapter_keys: AdapterKeys = (None, None)
    ) -> jax.Array:
        gate, value = jnp.unstack(self.gated(x, adapter_keys[0]), axis=-2)
        inner = dropout(jax.nn.gelu(gate, approximate=False) * value, self.dropout_rate, key)
        # On a CPU the compiler otherwise copies both halves out, and multiplies inside of the next product.
        inner = lax.platform_dependent(inner, cpu=lax.optimization_barrier, default=lambda x: x)
        return self.output(inner, adapter_keys[1])


class Block(nnx.Module):
    """One layer, post-norm: each norm follows its residual sum. Nothing is dropped after the feed-forward."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        width, epsilon = architecture.hidden_size, architecture.layer_norm_eps
        self.attention = Attention(architecture, rngs=rngs)
        self.attention_norm = LayerNorm(width, epsilon=epsilon)
        self.feed_forward = GatedFeedForward(architecture, rngs=rngs)
        self.feed_forward_norm = LayerNorm(width, epsilon=epsilon)
        self.dropout_rate = architecture.hidden_dropout_prob

    def __call__(self, x: jax.Array, segment_ids: jax.Array, key: jax.Array | None) -> jax.Array:
        attention_key, inner_key, adapter_keys = _block_keys(key)
        attended = constrain(self.attention(x, segment_ids, adapter_keys[:2]), BATCH, TOKENS)
        x = self.attention_norm(x + dropout(attended, self.dropout_rate, attention_key))
        fed_forward = constrain(self.feed_forward(x, inner_key, adapter_keys[2:]), BATCH, TOKENS)
        return self.feed_forward_norm(x + fed_forward)


def _block_keys(key: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None, AdapterKeys]:
    """Keys of a block's two dropouts, and of its four dense layers' adapters."""
    if key is None:
        return None, None, [None] * 4
    attention_key, inner_key, adapters_key = split_key(key, 3)
    return attention_key, inner_key, split_key(adapters_key, 4)


def _rematerialised(block: Block, policy: Rematerialisation) -> Callable[..., jax.Array]:
    if policy == "none":
        return block
    saved = None
    if policy == "dots":
        policies = jax.checkpoint_policies
        saved = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(SAVED_NAME)
        )
    return jax.checkpoint(block.__call__, policy=saved)


class Encoder(nnx.Module):
    """The whole encoder."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        self.embeddings = Embeddings(architecture, rngs=rngs)
        self.blocks = nnx.List(Block(architecture, rngs=rngs) for _ in range(architecture.num_hidden_layers))

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        *,
        dtype: DTypeLike = jnp.float32,
        dropout_key: jax.Array | None = None,
        rematerialisation: Rematerialisation = "none",
    ) -> jax.Array:
        """Computes the last hidden states.

        Args:
          input_ids: int32 [B, S].
          segment_ids: int32 [B, S]; tokens attend inside their own segment, and 0 is padding. The usual
            attention mask of ones and zeros is such an array. None means no padding.
          token_type_ids: int32 [B, S], 0 or 1 for the two sequences of a pair; None means all 0.
          dtype: the compute type; the result has it too.
          dropout_key: draws dropout; keys [B] draw that of each row by itself; None turns it off.
          rematerialisation: what the backward pass computes again, to keep less.

        Returns:
          [B, S, E], exactly 0 at padding.
        """
        if segment_ids is None:
            segment_ids = jnp.ones_like(input_ids)
        states = self.states(
            input_ids,
            segment_ids,
            token_type_ids,
            dtype=dtype,
            dropout_key=dropout_key,
            rematerialisation=rematerialisation,
        )
        return jnp.where((segment_ids != 0)[:, :, None], states[-1], 0)

    def states(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        token_type_ids: jax.Array | None = None,
        *,
        dtype: DTypeLike = jnp.float32,
        dropout_key: jax.Array | None = None,
        rematerialisation: Rematerialisation = "none",
    ) -> list[jax.Array]:
        """What enters each block, and what leaves the last: 1 + L arrays [B, S, E].

        At padding they hold numbers without meaning. Arguments as of the encoder itself.
        """
        keys = [None] * (1 + len(self.blocks))
        if dropout_key is not None:
            keys = split_key(dropout_key, 1 + len(self.blocks))
        states = [constrain(self.embeddings(input_ids, token_type_ids, keys[0], dtype), BATCH, TOKENS)]
        for block, key in zip(self.blocks, keys[1:], strict=True):
            states.append(_rematerialised(block, rematerialisation)(states[-1], segment_ids, key))
        return states
