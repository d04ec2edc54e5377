"""One compiled step of pre-training: what it reports, what it changes, and how repeats weigh."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.model.encoder import Rematerialisation
from dnabert2_jax.model.heads import MaskedLanguageModel
from dnabert2_jax.model.parameters import merge, split
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings, OptimizerSettings, PretrainSettings, TrainingSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import compiler_options, make_train_step
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
    return {"input_ids": ids, "segment_ids": np.ones_like(ids)}


@pytest.fixture(scope="module")
def run():
    """run(settings, batches): the last state and each step's figures; a kind of step is compiled once."""
    compiled = {}

    def go(settings, batches):
        optimizer = make_optimizer(settings.optimizer, settings.training.steps)
        state = initial_state(settings.model, optimizer, settings.training.seed)
        step = compiled.setdefault(
            settings, make_train_step(settings, optimizer, make_mesh(MeshSettings(data=1)))
        )
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


@dataclass(frozen=True)
class Gpu:
    """What is asked of a GPU that is not there."""

    platform: str = "gpu"
    process_index: int = 0


def test_on_a_gpu_a_run_that_is_to_be_repeatable_compiles_so(settings):
    on_gpu, on_cpu = make_mesh(MeshSettings(), [Gpu()]), make_mesh(MeshSettings(data=1))
    repeatable = msgspec.structs.replace(
        settings, training=msgspec.structs.replace(settings.training, deterministic=True)
    )
    assert compiler_options(repeatable, on_gpu) == {"xla_gpu_deterministic_ops": True}
    assert compiler_options(settings, on_gpu) is None
    assert compiler_options(repeatable, on_cpu) is None


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["layers", "dots"])
def test_rematerialisation_keeps_less_and_changes_no_number(run, settings, batch, policy):
    training = msgspec.structs.replace(settings.training, rematerialisation=policy)
    expected, _ = run(settings, [batch] * 3)
    found, _ = run(msgspec.structs.replace(settings, training=training), [batch] * 3)
    for name, value in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], value, atol=1e-6, err_msg=name)


def test_what_is_kept_for_the_backward_pass(tiny_architecture):
    architecture = msgspec.structs.replace(tiny_architecture, hidden_dropout_prob=0.0)
    graph, parameters = split(MaskedLanguageModel(architecture, rngs=nnx.Rngs(0)))
    ids = jnp.full((2, 16), 7)

    def kept(policy: Rematerialisation) -> int:
        def loss(parameters):
            return merge(graph, parameters).encoder(ids, rematerialisation=policy).sum()

        _, back = jax.vjp(loss, parameters)
        return sum(array.size for array in jax.tree.leaves(back)) - sum(p.size for p in parameters.values())

    everything, dots, layers = kept("none"), kept("dots"), kept("layers")
    assert layers < dots < everything
    # What enters each of two blocks, and little else outside of them.
    assert layers < 10 * ids.size * architecture.hidden_size
