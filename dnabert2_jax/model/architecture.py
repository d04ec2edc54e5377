"""The architecture: the few numbers that define a model, most under the names of the released config.json."""

from math import inf
from typing import Annotated

import msgspec
from msgspec import Meta

from dnabert2_jax.errors import UserError

# Far above any model of DNA; a configuration from elsewhere must not keep the machine busy for hours.
_LARGEST_LAYERS = 1024
_LARGEST_SIZE = 1 << 20


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of an encoder. The defaults are the released 117M model.

    With `learned_positions` it is BERT as in DNABERT (Ji et al., 2021): each position has a vector of its own
    in the place of ALiBi, and the feed-forward is two layers in the place of a gated one.
    """

    vocab_size: Annotated[int, Meta(description="V, ids of the tokenizer")] = 4096
    hidden_size: Annotated[int, Meta(description="E, width of a token's vector")] = 768
    num_hidden_layers: Annotated[int, Meta(description="blocks")] = 12
    num_attention_heads: Annotated[int, Meta(description="H, must divide hidden_size")] = 12
    intermediate_size: Annotated[int, Meta(description="width inside the feed-forward")] = 3072
    type_vocab_size: Annotated[int, Meta(description="token types, 2 for pairs")] = 2
    learned_positions: Annotated[
        int,
        Meta(
            ge=0,
            description="most tokens of a sequence in a model like DNABERT, which learns a vector for each "
            "position; 0 is DNABERT-2, with ALiBi and without such a bound",
        ),
    ] = 0
    hidden_dropout_prob: Annotated[float, Meta(description="share of activations dropped")] = 0.1
    layer_norm_eps: Annotated[float, Meta(description="added to the variance")] = 1e-12
    initializer_range: Annotated[float, Meta(description="standard deviation of initial weights")] = 0.02

    @property
    def head_width(self) -> int:
        """D, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def gates_feed_forward(self) -> bool:
        """Whether the feed-forward is gated (GEGLU), as in DNABERT-2, or plain (GELU), as in BERT."""
        return not self.learned_positions


def check_architecture(architecture: Architecture, source: str) -> None:
    """Raises UserError, naming `source`, where the numbers do not describe a model."""
    for name in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "type_vocab_size",
    ):
        largest = _LARGEST_LAYERS if name == "num_hidden_layers" else _LARGEST_SIZE
        if not 1 <= getattr(architecture, name) <= largest:
            raise UserError(f"{source}: {name} is {getattr(architecture, name)}; it must be 1 to {largest}")
    if not 0 <= architecture.learned_positions <= _LARGEST_SIZE:
        raise UserError(
            f"{source}: learned_positions is {architecture.learned_positions}; "
            f"it must be 0 to {_LARGEST_SIZE}"
        )
    if architecture.hidden_size % architecture.num_attention_heads:
        raise UserError(
            f"{source}: hidden_size {architecture.hidden_size} does not divide by "
            f"num_attention_heads {architecture.num_attention_heads}"
        )
    if not 0 <= architecture.hidden_dropout_prob < 1:
        raise UserError(f"{source}: hidden_dropout_prob must lie in [0, 1)")
    if not all(0 < number < inf for number in (architecture.layer_norm_eps, architecture.initializer_range)):
        raise UserError(f"{source}: layer_norm_eps and initializer_range must be positive and finite")


def check_length(architecture: Architecture, tokens: int, what: str, remedy: str) -> None:
    """Raises UserError where a sequence of so many tokens has positions that the model never learnt.

    Args:
      architecture: of the model.
      tokens: of the longest sequence, [CLS] and [SEP] counted.
      what: the setting or the sequence that has them, for the message.
      remedy: what to do, for the message.
    """
    if 0 < architecture.learned_positions < tokens:
        raise UserError(
            f"{what} has {tokens:,} tokens and the model positions for "
            f"{architecture.learned_positions:,}; {remedy}"
        )


def count_parameters(architecture: Architecture) -> int:
    """The parameters of the masked-language model (encoder and head, tied decoder counted once).

    Examples:
      >>> count_parameters(Architecture())
      117074176
    """
    hidden = architecture.hidden_size
    return count_encoder_parameters(architecture) + hidden * hidden + 3 * hidden + architecture.vocab_size


def count_encoder_parameters(architecture: Architecture) -> int:
    """The parameters of the encoder alone."""
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    rows = architecture.vocab_size + architecture.type_vocab_size + architecture.learned_positions
    norm = 2 * hidden
    attention = 4 * (hidden * hidden + hidden)
    if architecture.gates_feed_forward:
        feed_forward = 3 * hidden * inner + hidden
    else:
        feed_forward = 2 * hidden * inner + inner + hidden
    block = attention + feed_forward + 2 * norm
    return rows * hidden + norm + architecture.num_hidden_layers * block
