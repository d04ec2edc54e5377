"""Twenty AdamW steps, in float64, against a plain PyTorch encoder trained on the same masked batches."""

import jax
import msgspec
import numpy as np
import pytest

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings, OptimizerSettings, PretrainSettings, TrainingSettings
from dnabert2_jax.training.objective import mask_tokens
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step, masking_of
from dnabert2_jax.training.state import initial_state, new_state

STEPS, BATCH, LENGTH = 20, 8, 40


@pytest.mark.slow
def test_twenty_steps_give_the_losses_of_pytorch(run_torch, tmp_path):
    settings = PretrainSettings(
        model=Architecture(
            vocab_size=64,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=96,
            hidden_dropout_prob=0.0,
        ),
        training=msgspec.structs.replace(
            TrainingSettings(steps=STEPS, batch_size=BATCH, masking_rate=0.2), compute_dtype="float64"
        ),
        optimizer=OptimizerSettings(learning_rate=3e-3, warmup_steps=5, weight_decay=0.1),
    )
    rng = np.random.default_rng(0)
    input_ids = rng.integers(5, 64, (STEPS, BATCH, LENGTH)).astype(np.int32)
    attention_mask = np.ones_like(input_ids)
    attention_mask[:, ::3, 30:] = 0
    input_ids[attention_mask == 0] = 3

    batches = {"input_ids": [], "positions": [], "targets": [], "weights": []}
    with jax.enable_x64(True):
        optimizer = make_optimizer(settings.optimizer, STEPS)
        # A model folder holds float32: both sides start from numbers that it can hold.
        born = initial_state(settings.model, optimizer, seed=0).parameters
        rounded = {name: array.astype("float32").astype("float64") for name, array in born.items()}
        state = new_state(rounded, optimizer)
        write_model(tmp_path, ModelDescription(settings.model), rounded)
        step = make_train_step(settings, optimizer, make_mesh(MeshSettings(data=1)))
        losses = []
        for number in range(STEPS):
            # The step masks its batch itself; the same key gives the reference the same masks.
            key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
            windows = mask_tokens(key, jax.numpy.asarray(input_ids[number]), masking_of(settings), 64)
            for name, arrays in batches.items():
                arrays.append(np.asarray(getattr(windows, name)))
            batch = {"input_ids": input_ids[number], "segment_ids": attention_mask[number]}
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))

    given = {name: np.stack(arrays) for name, arrays in batches.items()} | {"attention_mask": attention_mask}
    for name in ("input_ids", "positions", "targets", "attention_mask"):
        given[name] = given[name].astype(np.int64)
    numbers = {
        "weight_decay": 0.1,
        "beta1": settings.optimizer.beta1,
        "beta2": settings.optimizer.beta2,
        "adam_epsilon": settings.optimizer.epsilon,
        "peak": 3e-3,
        "warmup": 5,
        "steps": STEPS,
    }
    given |= {f"config/{name}": np.array(value) for name, value in numbers.items()}
    expected = run_torch("torch_training.py", given, tmp_path, needs=("safetensors",))["losses"]

    assert expected[-1] < expected[0] - 0.01, "the reference must have learnt something"
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-8)
