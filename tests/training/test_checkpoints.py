"""Checkpoints: what is saved comes back, what was not finished does not count, and few are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert2_jax.parallel.mesh import make_mesh, replicated
from dnabert2_jax.settings import OptimizerSettings
from dnabert2_jax.training.checkpoints import Checkpoints
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.state import initial_state


@pytest.fixture
def state(tiny_architecture):
    made = initial_state(tiny_architecture, make_optimizer(OptimizerSettings(), 100_000), 0)
    return jax.device_put(made, replicated(make_mesh(1)))


def steps_in(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_round_trip(tmp_path, state):
    state = state._replace(step=jnp.int32(7))
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(7, state)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.latest_step == 7
        again = checkpoints.load(7, state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_a_state_may_be_overwritten_once_it_is_being_saved(tmp_path, state):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda array: array * 0 - 1, tree), donate_argnums=0)
    expected = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state)
        jax.block_until_ready(spoil(state))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        like = jax.tree.map(jnp.asarray, expected)
        for old, new in zip(
            jax.tree.leaves(expected), jax.tree.leaves(checkpoints.load(1, like)), strict=True
        ):
            np.testing.assert_array_equal(new, old)


def test_the_newest_and_the_best_are_kept(tmp_path):
    small = {"a": jnp.arange(3.0)}
    losses = {10: 3.0, 20: None, 30: 1.0, 40: 2.0, 50: None, 60: 2.5}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, {"a": small["a"] + step}, loss)
        assert checkpoints.best_step == 30
    assert steps_in(tmp_path) == [30, 50, 60]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert (checkpoints.best_step, checkpoints.latest_step) == (30, 60)
        np.testing.assert_array_equal(checkpoints.load(30, small)["a"], np.arange(3.0) + 30)


def test_what_an_interrupted_write_left_is_ignored_and_removed(tmp_path):
    small = {"a": jnp.arange(3.0)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(10, small)
    # Orbax writes under such a name and renames when all is there.
    unfinished = tmp_path / "20.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "_METADATA").write_text("{")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest_step == 10
        checkpoints.save(20, {"a": small["a"] + 20})
    assert steps_in(tmp_path) == [10, 20]
    assert not unfinished.exists()
