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

from dnabert2_jax.config import load_settings
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

BATCH, LENGTH = 32, 128


def main() -> None:
    """Measures both types and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result = {"environment": describe_environment(), "batch": BATCH, "length": LENGTH}
    for dtype in ("float32", "bfloat16"):
        result[dtype] = measure(dtype, arguments.rounds)
        print(dtype, json.dumps(result[dtype]))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(dtype: str, rounds: int) -> dict:
    """Medians over rounds of one step and of several products."""
    settings = load_settings(
        PretrainSettings,
        "dnabert2_117m_paper",
        ["--training.batch_size", str(BATCH), "--training.compute_dtype", dtype],
    )
    mesh = make_mesh(MeshSettings(data=1))
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    state = jax.jit(lambda: initial_state(settings.model, optimizer, 0))()
    step = make_train_step(settings, optimizer, mesh)
    ids = np.random.default_rng(0).integers(5, settings.model.vocab_size, (BATCH, LENGTH)).astype(np.int32)
    batch = {"input_ids": ids, "segment_ids": np.ones_like(ids)}
    product = jax.jit(jnp.matmul)
    left, right = jnp.ones((BATCH * LENGTH, 768), dtype), jnp.ones((768, 3072), dtype)
    product_flops = 2 * BATCH * LENGTH * 768 * 3072

    state, _ = step(state, batch)
    product(left, right).block_until_ready()
    step_seconds, product_seconds = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        step_seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(20):
            product(left, right).block_until_ready()
        product_seconds.append((time.perf_counter() - start) / 20)
    step_rate = step_flops(settings) / np.median(step_seconds)
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
    a = settings.model
    tokens = BATCH * LENGTH
    weights = a.num_hidden_layers * (4 * a.hidden_size**2 + 3 * a.hidden_size * a.intermediate_size)
    attention = a.num_hidden_layers * 2 * LENGTH * a.hidden_size
    masked = max(1, round(settings.training.masking_rate * LENGTH)) / LENGTH
    head = masked * (a.hidden_size**2 + a.hidden_size * a.vocab_size)
    return 6.0 * tokens * (weights + attention + head)


if __name__ == "__main__":
    main()
