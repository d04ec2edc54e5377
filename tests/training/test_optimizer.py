"""The schedule's closed form, and AdamW against one written out in float64."""

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
from flax import nnx

from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.settings import OptimizerSettings
from dnabert2_jax.training.optimizer import decays, learning_rate_schedule, make_optimizer
from dnabert2_jax.training.state import apply_gradients, new_state

SETTINGS = OptimizerSettings(
    learning_rate=1e-2, warmup_steps=4, beta1=0.8, beta2=0.95, epsilon=1e-6, weight_decay=0.1
)


def expected_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    return peak * step / warmup if step < warmup else peak * (steps - step) / (steps - warmup)


def rates_of(schedule: optax.Schedule, steps: int) -> np.ndarray:
    return np.array([np.asarray(schedule(step)) for step in range(steps + 1)])


@pytest.mark.parametrize(("warmup", "steps"), [(4, 20), (1, 2), (10, 11), (30, 300)])
def test_schedule(warmup, steps):
    settings = msgspec.structs.replace(SETTINGS, warmup_steps=warmup)
    schedule = learning_rate_schedule(settings, steps)
    rates = rates_of(schedule, steps)
    expected = [expected_rate(step, peak=1e-2, warmup=warmup, steps=steps) for step in range(steps + 1)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)
    assert rates[0] == 0
    assert rates[warmup] == np.float32(1e-2)
    assert rates[steps] == 0


def test_schedule_without_warm_up_begins_at_the_peak():
    rates = rates_of(learning_rate_schedule(msgspec.structs.replace(SETTINGS, warmup_steps=0), 10), 10)
    np.testing.assert_allclose(rates, np.linspace(1e-2, 0, 11), rtol=1e-5, atol=1e-9)


def test_schedule_with_a_level_part():
    schedule = learning_rate_schedule(msgspec.structs.replace(SETTINGS, decay_steps=5), 20)
    rates = rates_of(schedule, 20)
    expected = [*np.linspace(0, 1e-2, 5), *[1e-2] * 10, *np.linspace(1e-2, 0, 6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_adamw(clip):
    rng = np.random.default_rng(0)
    shapes = {"layer.kernel": (3, 4), "layer.bias": (4,), "norm.scale": (4,), "word": (5, 2)}
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    settings = msgspec.structs.replace(SETTINGS, gradient_clip=clip)
    with jax.enable_x64(True):
        optimizer = make_optimizer(settings, 20)
        ours = {name: jnp.asarray(array) for name, array in parameters.items()}
        state = new_state(ours, optimizer)
        step_of = jax.jit(lambda state, gradients: apply_gradients(state, gradients, optimizer))
        first = {name: np.zeros(shape) for name, shape in shapes.items()}
        second = {name: np.zeros(shape) for name, shape in shapes.items()}
        for step in range(8):
            gradients = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
            state = step_of(state, gradients)
            norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
            shrink = min(1.0, clip / norm) if clip else 1.0
            rate = expected_rate(step, peak=1e-2, warmup=4, steps=20)
            for name in shapes:
                gradient = gradients[name] * shrink
                first[name] = 0.8 * first[name] + 0.2 * gradient
                second[name] = 0.95 * second[name] + 0.05 * gradient**2
                m, v = first[name] / (1 - 0.8 ** (step + 1)), second[name] / (1 - 0.95 ** (step + 1))
                decay = 0.1 * parameters[name] if name in ("layer.kernel", "word") else 0
                parameters[name] = parameters[name] - rate * (m / (np.sqrt(v) + 1e-6) + decay)
            for name, expected in parameters.items():
                np.testing.assert_allclose(
                    state.parameters[name], expected, rtol=1e-6, atol=1e-9, err_msg=name
                )
    assert int(state.step) == 8


def test_matrices_decay_and_biases_and_norms_do_not(tiny_architecture):
    _, parameters = split(ModelDescription(tiny_architecture, ("a", "b")).build(nnx.Rngs(0)))
    for name, array in parameters.items():
        assert decays(name) == (array.ndim == 2), name
    _, parameters = split(ModelDescription(tiny_architecture).build(nnx.Rngs(0)))
    for name, array in parameters.items():
        assert decays(name) == (array.ndim == 2), name


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_but_the_counts(poison):
    optimizer = make_optimizer(SETTINGS, 20)
    parameters = {"a.kernel": jnp.ones((2, 2)), "a.bias": jnp.zeros(2)}
    good = {"a.kernel": jnp.full((2, 2), 0.5), "a.bias": jnp.ones(2)}
    step_of = jax.jit(lambda state, gradients: apply_gradients(state, gradients, optimizer))
    before = step_of(step_of(new_state(parameters, optimizer), good), good)
    after = step_of(before, good | {"a.bias": jnp.array([1.0, poison])})
    assert (int(after.step), int(after.skipped), int(after.first_skipped)) == (3, 1, 3)
    for old, new in zip(
        jax.tree.leaves((before.parameters, before.optimizer)),
        jax.tree.leaves((after.parameters, after.optimizer)),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)
    again = step_of(after, good)
    assert (int(again.step), int(again.skipped), int(again.first_skipped)) == (4, 1, 3)
    assert (np.asarray(again.parameters["a.kernel"]) != np.asarray(after.parameters["a.kernel"])).all()
