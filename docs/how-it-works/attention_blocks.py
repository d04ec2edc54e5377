"""Draws attention-blocks.svg: the blocks of scores that each head of a long row computes.

    python docs/how-it-works/attention_blocks.py

In: random queries and keys of unit variance. Out: the picture of attention.md.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.skipping import live_blocks, lse_from_neighbours

LENGTH, HEADS, WIDTH, BLOCK = 8192, 12, 64, 128


def main() -> None:
    """Writes the picture beside this script."""
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.standard_normal((1, LENGTH, HEADS, WIDTH), np.float32)) for _ in range(2))
    slopes = alibi_slopes(HEADS)
    segments = jnp.ones((1, LENGTH), jnp.int32)
    inputs = q, k, jnp.asarray(slopes), segments, segments
    lse = lse_from_neighbours(*inputs, q_offset=0, k_offset=0)
    live = np.asarray(live_blocks(*inputs, q_offset=0, k_offset=0, lse=lse, q_block=BLOCK, k_block=BLOCK))[0]

    plt.rcParams["svg.hashsalt"] = "attention"  # the same picture from the same numbers
    figure, panels = plt.subplots(2, 6, figsize=(10, 4), layout="constrained")
    for panel, head in zip(panels.flat, np.argsort(-slopes), strict=True):
        panel.imshow(live[head], cmap="Blues", vmin=-0.15, vmax=1.2, interpolation="nearest")
        slope = f"1/{1 / slopes[head]:.3g}"
        panel.set_title(f"slope {slope}: {100 * live[head].mean():.0f} %", fontsize=9)
        panel.set(xticks=[], yticks=[])
    figure.supxlabel(f"keys, in blocks of {BLOCK}", fontsize=9)
    figure.supylabel("queries", fontsize=9)
    figure.savefig(Path(__file__).with_name("attention-blocks.svg"), metadata={"Date": None})
    print(f"{100 * live.mean():.1f} % of the blocks are computed")


if __name__ == "__main__":
    main()
