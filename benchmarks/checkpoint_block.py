"""How long a checkpoint of the 117M state keeps training waiting, and how long it takes in all.

    python benchmarks/checkpoint_block.py --output benchmarks/results/checkpoint_block.json

The state (float32 parameters and both moments of AdamW) trains on batches of 4 windows of 64 tokens. In each
round a step is timed while nothing is written; then `Checkpoints.save` is, the step after it, which donates
the state that is being saved, and the time until the checkpoint is complete with its checksums. At last it
is opened, checked and read back. The folder lies where --folder says, /tmp by default.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import numpy as np

from dnabert2_jax.config import load_settings
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.checkpoints import Checkpoints
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

BATCH, LENGTH = 4, 64


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder), arguments.rounds)
    result = {
        "environment": describe_environment(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "batch": [BATCH, LENGTH],
        **figures,
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, rounds: int) -> dict[str, object]:
    """Seconds of each part; of those that repeat, of each round."""
    settings = load_settings(
        PretrainSettings,
        "dnabert2_117m",
        ["--training.batch_size", str(BATCH), "--data.sequence_length", str(LENGTH)],
    )
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    state = jax.jit(lambda: initial_state(settings.model, optimizer, 0))()
    train_step = make_train_step(settings, optimizer, make_mesh(MeshSettings(data=1)))
    ids = np.random.default_rng(0).integers(5, settings.model.vocab_size, (BATCH, LENGTH)).astype(np.int32)
    batch = {"input_ids": ids, "segment_ids": np.ones_like(ids)}

    def train() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(train_step(state, batch))

    for _ in range(2):  # The second has a state that lies as a step leaves it, and compiles for that.
        train()
    seconds: dict[str, list[float]] = {
        "undisturbed step": [],
        "save": [],
        "step after": [],
        "whole write": [],
    }
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        for number in range(1, rounds + 1):
            seconds["undisturbed step"].append(clocked(train))
            start = time.perf_counter()
            seconds["save"].append(clocked(lambda number=number: checkpoints.save(number, state)))
            seconds["step after"].append(clocked(train))
            checkpoints.wait()
            seconds["whole write"].append(time.perf_counter() - start)
    size = sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())
    start = time.perf_counter()
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        opened = time.perf_counter() - start
        loaded = clocked(lambda: jax.block_until_ready(checkpoints.load(rounds, state)))
    return {
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "checkpoint_bytes": size,
        "most_seconds_blocked": max(seconds["save"]),
        "median_seconds": {name: round(median(values), 4) for name, values in seconds.items()},
        "seconds": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
        "seconds_to_open_and_check": round(opened, 4),
        "seconds_to_load": round(loaded, 4),
    }


def clocked(do: Callable[[], object]) -> float:
    """Seconds that `do` takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
