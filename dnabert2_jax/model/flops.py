"""Model FLOPs by formula: an architecture and numbers of tokens in, floating-point operations out.

Counted are the products that the mathematics asks for, two operations per multiplication and addition.
Padding, rematerialisation, norms and the optimizer are not: what a machine spends there is no progress.
"""

from dnabert2_jax.model.architecture import Architecture


def forward_flops(architecture: Architecture, *, tokens: float, pairs: float, predicted: float) -> float:
    """FLOPs of the encoder, and of the masked-language-model head where tokens are predicted.

    Args:
      architecture: the model.
      tokens: how many tokens pass through the encoder.
      pairs: of a query and a key that it attends to: S² for a row of S tokens in one segment.
      predicted: how many tokens pass through the head.

    Examples:
      >>> forward_flops(Architecture(), tokens=128, pairs=128 * 128, predicted=19) / 1e9
      29.73696
    """
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    matrices = 3 if architecture.gates_feed_forward else 2
    dense = tokens * (4 * hidden * hidden + matrices * hidden * inner)
    # A score and a weighted value.
    attention = pairs * 2 * hidden
    head = predicted * (hidden * hidden + hidden * architecture.vocab_size)
    return 2.0 * (architecture.num_hidden_layers * (dense + attention) + head)


def training_flops(architecture: Architecture, *, tokens: float, pairs: float, predicted: float) -> float:
    """FLOPs of a training step: backward, each product is taken twice, once for either factor's gradient.

    Arguments as of `forward_flops`.
    """
    return 3.0 * forward_flops(architecture, tokens=tokens, pairs=pairs, predicted=predicted)
