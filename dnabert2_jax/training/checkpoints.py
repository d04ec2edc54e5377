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
      keep: how many of the newest to keep.
    """

    def __init__(self, folder: Path, *, keep: int):
        keeping = ocp.training.preservation_policies
        saving = ocp.training.save_decision_policies
        # Orbax's own annotations refuse its own policies; hence the two ignores.
        self._checkpointer = ocp.training.Checkpointer(
            str(folder.resolve()),
            preservation_policy=keeping.LatestN(keep),  # pyright: ignore[reportArgumentType]
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

    def save(self, step: int, state: Any) -> None:
        """Starts writing the state of `step`; returns once the arrays are safe to overwrite."""
        self._checkpointer.save_async(step, state)

    def load(self, step: int, like: Any) -> Any:
        """Reads the state of `step` onto the shapes, types and shardings of `like`."""
        return self._checkpointer.load(step, jax.tree.map(_describe, like))


def _describe(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
