"""Embeddings on a CPU: this package beside the released PyTorch code, in one run.

    taskset --cpu-list 0,1 python benchmarks/embedding_speed.py --torch-python PYTHON --torch-code DIR \\
        --output benchmarks/results/embedding_speed.json

PYTHON has torch, transformers, einops and safetensors; DIR holds the released bert_layers.py and what it
imports. Both sides load the same file of a 117M model with random weights, and give the mean of the last
hidden states over full batches of 32×128 and 4×1024 tokens. Each round times every candidate once, one
after the other; the machine's mood then falls on all alike, and ratios are taken within a round.
"""

import json
import os
import tempfile
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from machine import describe_machine
from torch_side import TorchSide, compare_seconds, time_in_turns, torch_arguments

from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.model.parameters import Parameters, merge, split

SHAPES = ((32, 128), (4, 1024))
TYPES = ("float32", "bfloat16")
TORCH = "torch_float32"
TORCH_AUTOCAST = "torch_autocast_bfloat16"


def main() -> None:
    """Measures both shapes and writes the result."""
    arguments = torch_arguments(__doc__, rounds=9)
    keep_freed_memory()  # as `dnabert2 embed` does

    description = ModelDescription(Architecture())
    parameters = random_parameters(description)
    embed = compiled_embedding(description)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, description, parameters)
        with TorchSide(
            arguments.torch_python, "embedding_speed_torch.py", [str(arguments.torch_code), folder], cores
        ) as torch_side:
            result: dict = {
                "machine": describe_machine("jax", "jaxlib", "flax", "numpy") | {"cores_used": cores},
                "torch": torch_side.versions,
                "parameters": sum(array.size for array in parameters.values()),
                "rounds": arguments.rounds,
                "load_average_at_start": round(os.getloadavg()[0], 2),
            }
            for batch, length in SHAPES:
                shape = f"{batch}x{length}"
                ids = np.random.default_rng(0).integers(5, 4096, (batch, length)).astype(np.int32)
                result[shape] = measure(parameters, embed, torch_side, ids, arguments.rounds)
                print(shape, json.dumps(result[shape], indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def random_parameters(description: ModelDescription) -> Parameters:
    """Random numbers; norms and biases too, so that every one of them shows in the comparison."""
    _, parameters = split(description.build(nnx.Rngs(0)))
    keys = jax.random.split(jax.random.key(1), len(parameters))
    return {
        name: array + 0.02 * jax.random.normal(key, array.shape)
        for key, (name, array) in zip(keys, parameters.items(), strict=True)
    }


def compiled_embedding(description: ModelDescription):
    """(parameters, input_ids, attention_mask, dtype) → the mean over real tokens, float32 [B, E]."""
    graph, _ = description.abstract()

    @jax.jit(static_argnums=3)
    def embed(parameters, input_ids, attention_mask, dtype):
        hidden = merge(graph, parameters).encoder(input_ids, attention_mask, dtype=jnp.dtype(dtype))
        # Hidden states are 0 at padding.
        return hidden.astype(jnp.float32).sum(axis=1) / attention_mask.sum(axis=1, keepdims=True)

    return embed


def measure(parameters: Parameters, embed, torch_side: TorchSide, ids: np.ndarray, rounds: int) -> dict:
    """Medians over rounds, ratios to the released code, and how far the numbers lie apart."""
    mask = np.ones_like(ids)
    embeddings: dict[str, np.ndarray] = {}

    def theirs(name: str, autocast: bool) -> float:
        answer = torch_side.ask({"input_ids": ids.tolist(), "autocast": autocast})
        embeddings[name] = np.array(answer["embeddings"], np.float32)
        return answer["seconds"]

    def ours(dtype: str) -> float:
        start = time.perf_counter()
        embeddings[dtype] = np.asarray(embed(parameters, ids, mask, dtype))
        return time.perf_counter() - start

    candidates = {
        TORCH: partial(theirs, TORCH, False),
        TORCH_AUTOCAST: partial(theirs, TORCH_AUTOCAST, True),
        **{dtype: partial(ours, dtype) for dtype in TYPES},
    }
    rows = compare_seconds(time_in_turns(candidates, rounds), TORCH, ids.size)
    for name, row in rows.items():
        row["largest_difference"] = float(np.abs(embeddings[name] - embeddings[TORCH]).max())
    return rows


if __name__ == "__main__":
    main()
