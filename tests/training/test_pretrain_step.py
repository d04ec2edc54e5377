"""One compiled step of pre-training: what it reports, what it changes, and how repeats weigh."""

import msgspec
import numpy as np
import pytest

from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import OptimizerSettings, PretrainSettings, TrainingSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state


@pytest.fixture(scope="module")
def settings(tiny_architecture):
    return PretrainSettings(
        model=msgspec.structs.replace(tiny_architecture, num_hidden_layers=1, hidden_dropout_prob=0.0),
        training=TrainingSettings(steps=10, batch_size=4, compute_dtype="float32"),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=2),
    )


@pytest.fixture(scope="module")
def batch():
    ids = np.random.default_rng(0).integers(5, 64, (4, 32), dtype=np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.fixture(scope="module")
def run():
    """run(settings, batches): the last state and each step's figures; a kind of step is compiled once."""
    compiled = {}

    def go(settings, batches):
        optimizer = make_optimizer(settings.optimizer, settings.training.steps)
        state = initial_state(settings.model, optimizer, settings.training.seed)
        step = compiled.setdefault(settings, make_train_step(settings, optimizer, make_mesh(1)))
        figures = []
        for batch in batches:
            state, metrics = step(state, batch)
            figures.append({name: float(value) for name, value in metrics.items()})
        return state, figures

    return go


def test_figures_of_the_first_steps(run, settings, batch):
    state, figures = run(settings, [batch] * 3)
    assert int(state.step) == 3
    assert [row["learning_rate"] for row in figures] == pytest.approx([0, 5e-3, 1e-2])
    assert all(row["gradient_norm"] > 0 for row in figures)
    assert all(0 <= row["accuracy"] <= 1 for row in figures)
    assert [row["skipped"] for row in figures] == [0, 0, 0]


def test_a_run_is_a_pure_function_of_its_seed(run, settings, batch):
    first, figures = run(settings, [batch] * 2)
    again, figures_again = run(settings, [batch] * 2)
    assert figures == figures_again
    for name, array in first.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)
    other = msgspec.structs.replace(settings, training=msgspec.structs.replace(settings.training, seed=1))
    assert run(other, [batch])[1] != figures[:1]


def test_repeats_weigh_what_is_asked(run, settings, batch):
    """With the repeats' weight 0, a batch counts as if only its other half were predicted."""
    light = msgspec.structs.replace(
        settings, training=msgspec.structs.replace(settings.training, repeat_weight=0.0)
    )
    half = np.zeros((4, 32), np.uint8)
    half[:2] = 255
    _, (plain,) = run(settings, [batch])
    _, (weighted,) = run(light, [batch | {"soft_mask": half}])
    _, (opposite,) = run(light, [batch | {"soft_mask": 255 - half}])
    # Every row has as many hidden tokens, so that the whole is the mean of its halves.
    assert (weighted["loss"] + opposite["loss"]) / 2 == pytest.approx(plain["loss"], abs=1e-5)
    assert weighted["loss"] != plain["loss"]
    _, (unmasked,) = run(light, [batch | {"soft_mask": np.zeros((4, 32), np.uint8)}])
    assert unmasked["loss"] == pytest.approx(plain["loss"], abs=1e-6)


def test_a_batch_of_repeats_alone_teaches_nothing_when_they_weigh_nothing(run, settings, batch):
    light = msgspec.structs.replace(
        settings, training=msgspec.structs.replace(settings.training, repeat_weight=0.0)
    )
    _, (row,) = run(light, [batch | {"soft_mask": np.full((4, 32), 255, np.uint8)}])
    assert (row["loss"], row["gradient_norm"], row["skipped"]) == (0, 0, 0)


def test_the_first_loss_is_that_of_the_initial_model(run, settings, batch):
    """Near log V: the initial scores are small against it."""
    small = msgspec.structs.replace(
        settings, model=msgspec.structs.replace(settings.model, initializer_range=1e-3)
    )
    _, (row,) = run(small, [batch])
    assert row["loss"] == pytest.approx(np.log(64), abs=0.05)
