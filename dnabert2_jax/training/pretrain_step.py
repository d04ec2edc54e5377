"""The step of pre-training, compiled: a batch is masked, predicted and learnt from on the device.

In: a state and a batch of windows. Out: the next state and a few figures. Masks and dropout are functions
of (seed, step).
"""

import jax
import jax.numpy as jnp
import optax

from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import merge
from dnabert2_jax.parallel.mesh import replicated, split_rows
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.objective import Masking, mask_tokens, masked_log_likelihood
from dnabert2_jax.training.optimizer import learning_rate_schedule
from dnabert2_jax.training.state import TrainState, apply_gradients


def make_train_step(
    settings: PretrainSettings, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
):
    """Compiles `(state, batch) -> (state, metrics)`, which donates the state.

    A batch is {"input_ids", "attention_mask"}, int32 [B, S], split over the mesh by rows, and
    {"soft_mask"}, uint8 [B, S], where repeats are weighted. Metrics are scalars: loss (nats per hidden
    token), accuracy, gradient_norm, learning_rate, and skipped and first_skipped of the state.
    """
    dtype = jnp.dtype(settings.training.compute_dtype)
    graph, _ = ModelDescription(settings.model).abstract()
    schedule = learning_rate_schedule(settings.optimizer, settings.training.steps)

    def loss_of(parameters, windows, token_weights, attention_mask, dropout_key):
        nats, hits = masked_log_likelihood(
            merge(graph, parameters), windows, attention_mask, dtype=dtype, dropout_key=dropout_key
        )
        weights = windows.weights * token_weights
        total = weights.sum()
        # A batch whose hidden tokens all weigh nothing teaches nothing; its loss is 0 and not 0 / 0.
        loss = (nats * weights).sum() / jnp.where(total > 0, total, 1)
        return loss, hits.sum() / windows.weights.sum()

    def train_step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(settings.training.seed), state.step)
        mask_key, dropout_key = jax.random.split(key)
        windows = mask_tokens(mask_key, batch["input_ids"], masking_of(settings), settings.model.vocab_size)
        token_weights = _token_weights(batch, windows.positions, settings.training.repeat_weight)
        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state.parameters, windows, token_weights, batch["attention_mask"], dropout_key
        )
        new_state = apply_gradients(state, gradients, optimizer)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state.step),
            "skipped": new_state.skipped,
            "first_skipped": new_state.first_skipped,
        }
        return new_state, metrics

    whole, rows = replicated(mesh), split_rows(mesh)
    return jax.jit(train_step, in_shardings=(whole, rows), out_shardings=whole, donate_argnums=0)


def masking_of(settings: PretrainSettings) -> Masking:
    """The masking that the settings describe."""
    training = settings.training
    return Masking(training.masking_rate, training.mask_share, training.random_share)


def _token_weights(batch: dict[str, jax.Array], positions: jax.Array, repeat_weight: float) -> jax.Array:
    """Weight of each hidden token [B, P]: 1, and `repeat_weight` where all of its bases are soft-masked."""
    if "soft_mask" not in batch:
        return jnp.ones(positions.shape)
    masked = jnp.take_along_axis(batch["soft_mask"], positions, axis=1).astype(jnp.float32)
    # In this order a whole repeat can weigh exactly 0; 1 - masked / 255 would be off by 1e-7.
    return (255 - masked + repeat_weight * masked) / 255
