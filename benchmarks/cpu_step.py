"""How much of a CPU's matrix speed a 117M training step reaches.

    python benchmarks/cpu_step.py --output benchmarks/results/cpu_step.json

A step of 32 windows of 128 tokens, dropout on, against a bare product of 4096×768 by 768×3072 in the same
type and the same process, the two in turns. FLOPs of a step are counted by formula: 6 per weight and token
for the encoder, attention's products, and the head on the masked positions.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from cpu_training import BATCH, LENGTH, TYPES, Steps, random_ids, settings_of

from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.model.flops import training_flops
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.environment import describe_environment


def main() -> None:
    """Measures both types and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as `dnabert2 pretrain` does
    result = {"environment": describe_environment(), "batch": BATCH, "length": LENGTH}
    for dtype in TYPES:
        result[dtype] = measure(dtype, arguments.rounds)
        print(dtype, json.dumps(result[dtype]))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(dtype: str, rounds: int) -> dict:
    """Medians over rounds of one step and of several products."""
    steps = Steps(dtype, random_ids())
    product = jax.jit(jnp.matmul)
    left, right = jnp.ones((BATCH * LENGTH, 768), dtype), jnp.ones((768, 3072), dtype)
    product_flops = 2 * BATCH * LENGTH * 768 * 3072

    steps.take()
    product(left, right).block_until_ready()
    step_seconds, product_seconds = [], []
    for _ in range(rounds):
        step_seconds.append(steps.take())
        start = time.perf_counter()
        for _ in range(20):
            product(left, right).block_until_ready()
        product_seconds.append((time.perf_counter() - start) / 20)
    step_rate = step_flops(settings_of(dtype)) / np.median(step_seconds)
    product_rate = product_flops / np.median(product_seconds)
    return {
        "step_seconds": round(float(np.median(step_seconds)), 4),
        "tokens_per_second": round(BATCH * LENGTH / float(np.median(step_seconds)), 1),
        "step_gflops": round(step_rate / 1e9, 1),
        "product_gflops": round(product_rate / 1e9, 1),
        "ratio": round(float(step_rate / product_rate), 3),
    }


def step_flops(settings: PretrainSettings) -> float:
    """Floating-point operations of one step, forward and backward."""
    tokens = BATCH * LENGTH
    predicted = BATCH * round(settings.training.masking_rate * LENGTH)
    return training_flops(settings.model, tokens=tokens, pairs=tokens * LENGTH, predicted=predicted)


if __name__ == "__main__":
    main()
