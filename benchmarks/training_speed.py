"""A pre-training step on a CPU: this package beside the released PyTorch code, in one run.

    taskset --cpu-list 0,1 python benchmarks/training_speed.py --torch-python PYTHON --torch-code DIR \\
        --output benchmarks/results/training_speed.json

PYTHON has torch, transformers, einops and safetensors; DIR holds the released bert_layers.py and what it
imports. Both sides make steps of AdamW on a 117M model with dropout, 32 windows of 128 tokens, of which 19
each are hidden; ours hides them itself, theirs is given them hidden. Each round times every candidate once.
"""

import json
import os
import tempfile
from functools import partial

import numpy as np
from cpu_training import BATCH, LENGTH, TYPES, Steps, random_ids, settings_of
from flax import nnx
from machine import describe_machine
from torch_side import TorchSide, compare_seconds, time_in_turns, torch_arguments

from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.vocabulary import MASK_ID

HIDDEN = 19
TORCH, TORCH_AUTOCAST = "torch_float32", "torch_autocast_bfloat16"


def main() -> None:
    """Measures and writes the result."""
    arguments = torch_arguments(__doc__, rounds=7)
    keep_freed_memory()  # as `dnabert2 pretrain` does
    cores = len(os.sched_getaffinity(0))
    ids = random_ids()
    places = np.argsort(np.random.default_rng(1).random((BATCH, LENGTH)), axis=1)[:, :HIDDEN]
    masked, labels = ids.copy(), np.full_like(ids, -100)
    np.put_along_axis(masked, places, MASK_ID, axis=1)
    np.put_along_axis(labels, places, np.take_along_axis(ids, places, axis=1), axis=1)
    load = round(os.getloadavg()[0], 2)
    description = ModelDescription(settings_of(TYPES[0]).model)
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, description, split(description.build(nnx.Rngs(0)))[1])
        script = [str(arguments.torch_code), folder]
        with TorchSide(arguments.torch_python, "training_speed_torch.py", script, cores) as torch_side:

            def theirs(autocast: bool) -> float:
                request = {"input_ids": masked.tolist(), "labels": labels.tolist(), "autocast": autocast}
                return torch_side.ask(request)["seconds"]

            rows = {}
            # One type after the other: their states and activations together are more than many hold.
            for dtype in TYPES:
                candidates = {
                    TORCH: partial(theirs, False),
                    TORCH_AUTOCAST: partial(theirs, True),
                    dtype: Steps(dtype, ids).take,
                }
                rows[f"beside {dtype}"] = compare_seconds(
                    time_in_turns(candidates, arguments.rounds), TORCH, ids.size
                )
                del candidates
            result = {
                "machine": describe_machine("jax", "jaxlib", "flax", "optax", "numpy")
                | {"cores_used": cores},
                "torch": torch_side.versions,
                "rounds": arguments.rounds,
                "load_average_at_start": load,
                **rows,
            }
    print(json.dumps(rows, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
