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
      step: int32 scalar, optimizer steps done.
      parameters: by name.
      optimizer: Optax's state.
    """

    step: jax.Array
    parameters: Parameters
    optimizer: Any


def initial_state(
    architecture: Architecture, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Random parameters and an empty optimizer; a pure function of the seed, meant to be compiled."""
    _, parameters = split(MaskedLanguageModel(architecture, rngs=nnx.Rngs(seed)))
    return TrainState(jnp.int32(0), parameters, optimizer.init(parameters))


def apply_gradients(
    state: TrainState, gradients: Parameters, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state after one step of the optimizer."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    parameters = cast(Parameters, optax.apply_updates(state.parameters, updates))
    return TrainState(state.step + 1, parameters, optimizer_state)
