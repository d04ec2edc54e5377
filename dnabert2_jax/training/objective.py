"""The masked-language-model objective: which tokens are hidden, and how well they are predicted.

In: batches of windows [B, S] and a key. Out: loss and counts over the hidden positions only; the head
never sees the others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from dnabert2_jax.model.encoder import Rematerialisation
from dnabert2_jax.model.heads import MaskedLanguageModel
from dnabert2_jax.tokenizer.vocabulary import MASK_ID, SPECIAL_TOKENS


class MaskedWindows(NamedTuple):
    """Windows with some tokens hidden; P is the largest number of hidden tokens in a window.

    Attributes:
      input_ids: int32 [B, S], what the model is shown.
      positions: int32 [B, P], where tokens were hidden.
      targets: int32 [B, P], the tokens that stood there.
      weights: float32 [B, P], 1 for a hidden token, 0 for the filling of a short window.
    """

    input_ids: jax.Array
    positions: jax.Array
    targets: jax.Array
    weights: jax.Array


class Masking(NamedTuple):
    """How much is hidden, and how what is hidden is shown.

    Attributes:
      rate: share of a window's tokens to hide.
      mask_share: of the hidden tokens, the share shown as [MASK].
      random_share: of the hidden tokens, the share shown as a random token; the rest stand as they are.
      span: tokens that are hidden side by side; 1 hides each token without regard to its neighbours.
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    span: int = 1

    def all_masked(self) -> "Masking":
        """The same rate with every hidden token shown as [MASK]."""
        return self._replace(mask_share=1.0, random_share=0.0)


def mask_tokens(key: jax.Array, input_ids: jax.Array, masking: Masking, vocab_size: int) -> MaskedWindows:
    """Hides a share of each window's tokens, never a special one.

    A window with n tokens has `round(rate * n)` hidden, at least one, chosen without regard to their
    neighbours; as in BERT's own code the number is fixed, where the PyTorch collator draws it.

    In spans it has rate * n / span of them, rounded up or down by chance so that the rate holds on average,
    and at least one. They lie anywhere in the runs of ordinary tokens, but apart: none reaches over a special
    token, and so none into another segment, and shorter runs stay as they are. DNABERT (Ji et al. 2021) draws
    its spans independently, so that they may share tokens and end at a window's edge; what is hidden of them
    is shown token by token as here.

    Args:
      key: the positions are a pure function of it and of the rate; what is shown, of the shares too.
      input_ids: int32 [B, S].
      masking: how much to hide, and how.
      vocab_size: V.

    Examples:
      >>> window = jnp.array([[1, 5, 6, 7, 8, 5, 6, 7, 8, 5, 2]])
      >>> masked = mask_tokens(jax.random.key(0), window, Masking(rate=0.2).all_masked(), vocab_size=9)
      >>> masked.input_ids.shape, masked.targets.shape, int((masked.input_ids == MASK_ID).sum())
      ((1, 11), (1, 2), 2)
    """
    batch, length = input_ids.shape
    position_key, fate_key, replacement_key = jax.random.split(key, 3)
    first_ordinary = len(SPECIAL_TOKENS)
    eligible = input_ids >= first_ordinary
    if masking.span == 1:
        counts = jnp.where(eligible.any(1), jnp.maximum(1, jnp.round(masking.rate * eligible.sum(1))), 0)
        most = max(1, round(masking.rate * length))
        order = jnp.where(eligible, jax.random.uniform(position_key, (batch, length)), 2.0)
    else:
        hidden = _hidden_spans(position_key, eligible, masking)
        counts = hidden.sum(1)
        most = min(length, masking.span * _most_spans(masking, length))
        order = jnp.where(hidden, 0.0, 1.0)
    # XLA sorts each row where it lies, and would gather those of all devices for its top_k.
    positions = jnp.argsort(order, axis=1)[:, :most]
    weights = (jnp.arange(most) < counts[:, None]).astype(jnp.float32)
    targets = jnp.take_along_axis(input_ids, positions, axis=1)

    fate = jax.random.uniform(fate_key, (batch, most))
    random_tokens = jax.random.randint(replacement_key, (batch, most), first_ordinary, vocab_size)
    changed = masking.mask_share + masking.random_share
    shown = jnp.where(fate < masking.mask_share, MASK_ID, jnp.where(fate < changed, random_tokens, targets))
    shown = jnp.where(weights > 0, shown, targets)
    hidden_ids = jax.vmap(lambda row, at, token: row.at[at].set(token))(
        input_ids, positions, shown.astype(input_ids.dtype)
    )
    return MaskedWindows(hidden_ids, positions, targets, weights)


def _most_spans(masking: Masking, length: int) -> int:
    return max(1, int(masking.rate * length / masking.span) + 1)


def _hidden_spans(key: jax.Array, eligible: jax.Array, masking: Masking) -> jax.Array:
    """Which tokens [B, S] lie in a hidden span, given which may be hidden."""
    batch, length = eligible.shape
    span = masking.span
    before = jnp.pad(jnp.cumsum(eligible, axis=1), ((0, 0), (1, 0)))
    begins = jnp.pad(before[:, span:] - before[:, :-span] == span, ((0, 0), (0, span - 1)))
    start_key, rounding_key = jax.random.split(key)
    wanted = masking.rate * eligible.sum(1) / span + jax.random.uniform(rounding_key, (batch,))
    wanted = jnp.maximum(1, jnp.floor(wanted))
    ranks = jnp.where(begins, jax.random.uniform(start_key, (batch, length)), 2.0)

    def place(number: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, ranks = carry
        start = ranks.argmin(1, keepdims=True)
        distance = jnp.arange(length) - start
        is_placed = (number < wanted[:, None]) & (ranks.min(1, keepdims=True) < 2.0)
        hidden |= is_placed & (distance >= 0) & (distance < span)
        # No other span begins where it would share a token with this one.
        return hidden, jnp.where(jnp.abs(distance) < span, 2.0, ranks)

    nothing = jnp.zeros_like(eligible)
    return jax.lax.fori_loop(0, _most_spans(masking, length), place, (nothing, ranks))[0]


def masked_log_likelihood(
    model: MaskedLanguageModel,
    windows: MaskedWindows,
    segment_ids: jax.Array,
    *,
    dtype: DTypeLike,
    dropout_key: jax.Array | None = None,
    rematerialisation: Rematerialisation = "none",
) -> tuple[jax.Array, jax.Array]:
    """The negative log-likelihood of the hidden tokens, and whether each is the model's first guess.

    Returns:
      nats [B, P] in at least float32, and hits [B, P] of 0 and 1; both are 0 where weights are.
    """
    hidden = model.encoder(
        windows.input_ids,
        segment_ids,
        dtype=dtype,
        dropout_key=dropout_key,
        rematerialisation=rematerialisation,
    )
    chosen = jnp.take_along_axis(hidden, windows.positions[:, :, None], axis=1)
    logits = model.logits(chosen)
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    nats = -jnp.take_along_axis(log_probabilities, windows.targets[:, :, None], axis=-1)[:, :, 0]
    hits = (logits.argmax(-1) == windows.targets).astype(jnp.float32)
    return nats * windows.weights, hits * windows.weights
