"""Pre-training steps as the benchmarks on CPUs take them: 117M, 32 windows of 128 tokens, dropout on."""

import time

import jax
import numpy as np

from dnabert2_jax.config import load_settings
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.parallel.sharding import born
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

BATCH, LENGTH = 32, 128
TYPES = ("float32", "bfloat16")


def settings_of(dtype: str) -> PretrainSettings:
    """The paper's pre-training, on smaller batches."""
    overrides = ["--training.batch_size", str(BATCH), "--training.compute_dtype", dtype]
    return load_settings(PretrainSettings, "dnabert2_117m_paper", overrides)


def random_ids() -> np.ndarray:
    """Token ids int32 [32, 128], the same ones each time."""
    return np.random.default_rng(0).integers(5, 4096, (BATCH, LENGTH)).astype(np.int32)


class Steps:
    """Steps in one type, on a state of their own."""

    def __init__(self, dtype: str, ids: np.ndarray):
        settings = settings_of(dtype)
        optimizer = make_optimizer(settings.optimizer, settings.training.steps)
        mesh = make_mesh(MeshSettings(data=1))
        self._state = born(lambda: initial_state(settings.model, optimizer, 0), mesh)
        self._step = make_train_step(settings, optimizer, mesh)
        self._batch = {"input_ids": ids, "segment_ids": np.ones_like(ids)}

    def take(self) -> float:
        """Seconds of the next step."""
        start = time.perf_counter()
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start
