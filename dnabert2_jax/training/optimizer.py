"""AdamW with a linear warm-up and a linear decay, and the rule for which parameters decay."""

from typing import Any

import optax

from dnabert2_jax.settings import OptimizerSettings


def learning_rate_schedule(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """From 0 to the learning rate over the warm-up; level; then linearly to 0, which `steps` reaches.

    With `decay_steps` 0 the decay begins where the warm-up ends, as published.

    Examples:
      >>> rate = learning_rate_schedule(OptimizerSettings(learning_rate=1e-3, warmup_steps=10), steps=110)
      >>> [round(float(rate(step)), 6) for step in (0, 5, 10, 60, 110)]
      [0.0, 0.0005, 0.001, 0.0005, 0.0]
    """
    decay_steps = settings.decay_steps or steps - settings.warmup_steps
    return optax.schedules.join_schedules(
        [
            optax.schedules.linear_schedule(0.0, settings.learning_rate, settings.warmup_steps),
            optax.schedules.constant_schedule(settings.learning_rate),
            optax.schedules.linear_schedule(settings.learning_rate, 0.0, decay_steps),
        ],
        [settings.warmup_steps, steps - decay_steps],
    )


def decays(name: str) -> bool:
    """Whether weight decay acts on the parameter of this name: matrices yes, biases and norms no."""
    return not name.endswith((".bias", ".scale"))


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """The optimizer for parameters held in a dict by name."""
    adamw = optax.adamw(
        learning_rate_schedule(settings, steps),
        b1=settings.beta1,
        b2=settings.beta2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        mask=_decay_mask,
    )
    if settings.gradient_clip == 0.0:
        return adamw
    return optax.chain(optax.clip_by_global_norm(settings.gradient_clip), adamw)


def _decay_mask(parameters: Any) -> dict[str, bool]:
    return {name: decays(name) for name in parameters}
