"""The slopes of ALiBi, attention with linear biases (Press et al., 2022)."""

import math

import numpy as np


def alibi_slopes(num_heads: int) -> np.ndarray:
    """The positive slope of each head; head h adds `-slope[h] * |i - j|` to the score of tokens i and j.

    For a power of two n the slopes are a geometric series that starts at, and has the ratio of,
    `2 ** (-8 / n)`. Otherwise they are those of the closest lower power p, followed by every second
    slope of 2p, as in the authors' code.

    Args:
      num_heads: H, at least 1.

    Returns:
      float32 [H]. The released model holds its slopes in float32, also where it computes in float64, and
      four of the slopes of 12 heads are not exact in it.

    Examples:
      >>> alibi_slopes(4).tolist()
      [0.25, 0.0625, 0.015625, 0.00390625]
    """
    lower_power = 2 ** math.floor(math.log2(num_heads))
    slopes = _geometric_slopes(lower_power)
    if lower_power < num_heads:
        between = _geometric_slopes(2 * lower_power)[::2]
        slopes = np.concatenate([slopes, between[: num_heads - lower_power]])
    return slopes.astype(np.float32)


def _geometric_slopes(num_heads: int) -> np.ndarray:
    return 2.0 ** (-8.0 / num_heads * np.arange(1, num_heads + 1))
