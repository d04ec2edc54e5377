"""The training state, and how it is born: straight onto the devices that will hold it."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.heads import MaskedLanguageModel
from dnabert2_jax.model.parameters import Parameters, split


class TrainState(NamedTuple):
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, steps done, skipped ones included.
      position: int32 scalar, the number of the batch that comes next, by which masks and dropout are drawn;
        the same as `step` unless batches were left out.
      parameters: by name; an empty node where one is frozen and lies elsewhere.
      optimizer: Optax's state.
      skipped: int32 scalar, steps that changed nothing because loss or gradient was not finite.
      first_skipped: int32 scalar, the first such step, counted from 1; 0 for none.
    """

    step: jax.Array
    position: jax.Array
    parameters: Parameters
    optimizer: Any
    skipped: jax.Array
    first_skipped: jax.Array


def new_state(parameters: Parameters, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.int32(0),
        position=jnp.int32(0),
        parameters=parameters,
        optimizer=optimizer.init(parameters),
        skipped=jnp.int32(0),
        first_skipped=jnp.int32(0),
    )


def initial_state(
    architecture: Architecture, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Random parameters and an empty optimizer; a pure function of the seed, meant to be compiled."""
    _, parameters = split(MaskedLanguageModel(architecture, rngs=nnx.Rngs(seed)))
    return new_state(parameters, optimizer)


def apply_gradients(
    state: TrainState, gradients: Parameters, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state after one step of the optimizer.

    A gradient that is not finite changes neither parameters nor optimizer, so that a state is always worth
    saving; the step is counted as skipped.
    """
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    parameters = cast(Parameters, optax.apply_updates(state.parameters, updates))
    finite = jnp.isfinite(optax.tree.norm(gradients))
    parameters, optimizer_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (parameters, optimizer_state),
        (state.parameters, state.optimizer),
    )
    step = state.step + 1
    return TrainState(
        step=step,
        position=state.position + 1,
        parameters=parameters,
        optimizer=optimizer_state,
        skipped=state.skipped + jnp.where(finite, 0, 1),
        first_skipped=jnp.where(finite | (state.skipped > 0), state.first_skipped, step),
    )
