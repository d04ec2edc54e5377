"""What float32 and bfloat16 cost in accuracy at 117M parameters, against float64.

    python benchmarks/precision.py --output benchmarks/results/precision.json

Random weights of two sizes: those of a new model (standard deviation 0.02), and twice as large, where
rounding weighs more. Random tokens, at 128 and 1,024 of them. Errors of hidden states are relative to their
root mean square; of embeddings (means over tokens) the cosine distance is given, and how often the likeliest
token of a position stays the same.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnabert2_jax.inference.pretrained import ComputeType, Pretrained
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.training.environment import describe_environment


def main() -> None:
    """Measures every combination and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for scale in (0.02, 0.04):
        for shape in ((16, 128), (2, 1024)):
            rows += measure(scale, shape)
    result = {"environment": describe_environment(), "against": "float64", "rows": rows}
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(scale: float, shape: tuple[int, int]) -> list[dict]:
    """The errors of both types for one size of weights and one shape of batch."""
    architecture = Architecture(initializer_range=scale)
    ids = np.random.default_rng(0).integers(5, architecture.vocab_size, shape).astype(np.int32)
    hidden, logits = results(architecture, "float64", ids)
    rows = []
    for dtype in ("float32", "bfloat16"):
        other_hidden, other_logits = results(architecture, dtype, ids)
        error = other_hidden - hidden
        rows.append(
            {
                "weights": scale,
                "batch": list(shape),
                "dtype": dtype,
                "hidden_rms_error": figure(np.sqrt((error**2).mean() / (hidden**2).mean())),
                "hidden_largest_error": figure(np.abs(error).max() / np.sqrt((hidden**2).mean())),
                "embedding_cosine_distance": figure(cosine_distance(hidden.mean(1), other_hidden.mean(1))),
                "logits_largest_error": figure(np.abs(other_logits - logits).max()),
                "same_likeliest_token": round(
                    float((other_logits.argmax(-1) == logits.argmax(-1)).mean()), 4
                ),
            }
        )
        print(json.dumps(rows[-1]))
    return rows


def results(architecture: Architecture, dtype: ComputeType, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states and token logits in float64, computed in `dtype`."""
    description = ModelDescription(architecture)
    _, parameters = split(description.build(nnx.Rngs(0)))
    with jax.enable_x64(dtype == "float64"):
        wide = jnp.float64 if dtype == "float64" else jnp.float32
        parameters = {name: jnp.asarray(np.asarray(array), wide) for name, array in parameters.items()}
    # 4^6 hexamers and 5 special tokens: near enough to the vocabulary of 4096, and never asked to tokenise.
    model = Pretrained(description, parameters, KmerTokenizer(6, False), dtype)
    return np.asarray(model.hidden_states(ids), np.float64), np.asarray(model.mlm_logits(ids), np.float64)


def cosine_distance(left: np.ndarray, right: np.ndarray) -> float:
    """The largest over the rows."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float((1 - (left * right).sum(1) / norms).max())


def figure(value: float) -> float:
    """Three digits."""
    return float(f"{value:.2e}")


if __name__ == "__main__":
    main()
