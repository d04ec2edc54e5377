"""The architecture: the few numbers that define a model, under the names of the released config.json."""

from math import inf
from typing import Annotated

import msgspec
from msgspec import Meta

from dnabert2_jax.errors import UserError

# Far above any model of DNA; a configuration from elsewhere must not keep the machine busy for hours.
_LARGEST_LAYERS = 1024
_LARGEST_SIZE = 1 << 20


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of a DNABERT-2 encoder. The defaults are the released 117M model."""

    vocab_size: Annotated[int, Meta(description="V, ids of the tokenizer")] = 4096
    hidden_size: Annotated[int, Meta(description="E, width of a token's vector")] = 768
    num_hidden_layers: Annotated[int, Meta(description="blocks")] = 12
    num_attention_heads: Annotated[int, Meta(description="H, must divide hidden_size")] = 12
    intermediate_size: Annotated[int, Meta(description="width inside the gated feed-forward")] = 3072
    type_vocab_size: Annotated[int, Meta(description="token types, 2 for pairs")] = 2
    hidden_dropout_prob: Annotated[float, Meta(description="share of activations dropped")] = 0.1
    layer_norm_eps: Annotated[float, Meta(description="added to the variance")] = 1e-12
    initializer_range: Annotated[float, Meta(description="standard deviation of initial weights")] = 0.02

    @property
    def head_width(self) -> int:
        """D, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads


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
    if architecture.hidden_size % architecture.num_attention_heads:
        raise UserError(
            f"{source}: hidden_size {architecture.hidden_size} does not divide by "
            f"num_attention_heads {architecture.num_attention_heads}"
        )
    if not 0 <= architecture.hidden_dropout_prob < 1:
        raise UserError(f"{source}: hidden_dropout_prob must lie in [0, 1)")
    if not all(0 < number < inf for number in (architecture.layer_norm_eps, architecture.initializer_range)):
        raise UserError(f"{source}: layer_norm_eps and initializer_range must be positive and finite")


def count_parameters(architecture: Architecture) -> int:
    """The parameters of the masked-language model (encoder and head, tied decoder counted once)."""
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    embeddings = (architecture.vocab_size + architecture.type_vocab_size + 2) * hidden
    attention = 4 * hidden * hidden + 4 * hidden
    feed_forward = 3 * hidden * inner + hidden
    norms = 4 * hidden
    head = hidden * hidden + 3 * hidden + architecture.vocab_size
    return embeddings + architecture.num_hidden_layers * (attention + feed_forward + norms) + head
