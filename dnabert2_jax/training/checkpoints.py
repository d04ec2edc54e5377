"""Checkpoints of a training state, through Orbax; the only file that knows Orbax.

A checkpoint is complete or it is not there: Orbax writes beside it and renames.
"""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp


class Checkpoints:
    """The checkpoints of one run, in one folder; used as a context so that writes are waited for.

    Args:
      folder: made when missing. What an interrupted write left there is removed.
      keep: how many of the newest to keep; the one of the lowest held-out loss is kept besides.
    """

    def __init__(self, folder: Path, *, keep: int):
        keeping = ocp.training.preservation_policies
        saving = ocp.training.save_decision_policies
        best = keeping.BestN(get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        # Orbax's own annotations refuse its own policies; hence the two ignores.
        self._checkpointer = ocp.training.Checkpointer(
            str(folder.resolve()),
            preservation_policy=keeping.AnyPreservationPolicy(  # pyright: ignore[reportArgumentType]
                [keeping.LatestN(keep), best]
            ),
            save_decision_policy=saving.FixedIntervalPolicy(1),  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._checkpointer.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int:
        """The step of the lowest held-out loss among those saved with one, the last of equals."""
        judged = [checkpoint for checkpoint in self._checkpointer.checkpoints if checkpoint.metrics]
        return min(reversed(judged), key=lambda checkpoint: _loss(checkpoint.metrics)).step

    def save(self, step: int, state: Any, held_out_loss: float | None = None) -> None:
        """Starts writing the state of `step`; returns once the arrays are safe to overwrite."""
        metrics: Any = None if held_out_loss is None else {_LOSS: held_out_loss}
        self._checkpointer.save_async(step, state, metrics=metrics)

    def load(self, step: int, like: Any) -> Any:
        """Reads the state of `step` onto the shapes, types and shardings of `like`."""
        self._checkpointer.wait()
        return self._checkpointer.load(step, jax.tree.map(_describe, like))


_LOSS = "held_out_loss"


def _loss(metrics: Any) -> float:
    return metrics[_LOSS]


def _describe(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
