"""Checkpoints of a training state, through Orbax; the only file that knows Orbax.

A state goes in, a numbered folder comes out, and the other way round. A folder with a number is complete and
has a manifest: Orbax writes beside it, the manifest is added, and then it is renamed. What was damaged
afterwards is found by the manifest's checksums, moved aside and told of.
"""

import os
import re
import shutil
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.training.manifest import (
    DAMAGED,
    Damage,
    Manifest,
    check_files,
    describe_files,
    has_checkpoints,
    read_manifest,
    write_manifest,
)

_WRITING = ".writing"
_REMOVING = ".removing"


class Checkpoints:
    """The checkpoints of one run, in one folder; used as a context so that writes are waited for.

    With several processes, all of them make one and call its methods at the same steps; process 0 alone
    looks after the folder, which all of them see.

    Args:
      folder: made when missing. What an interrupted write left there is removed.
      keep: how many of the newest to keep. Besides, the one of the lowest held-out loss is kept, and the
        newest that may be gone back to.
      keep_every: steps that are multiples of this are kept for good; 0 keeps none.

    Raises:
      UserError: the folder cannot be used, or there are checkpoints in it and all are damaged.
    """

    def __init__(self, folder: Path, *, keep: int, keep_every: int = 0):
        self._folder, self._keep, self._keep_every = folder.resolve(), keep, keep_every
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[int, Future[dict[int, Manifest]]] | None = None
        self._primary = jax.process_index() == 0
        # Compression makes float32 numbers 7 % smaller, for two to three times the processor's time.
        self._context = ocp.Context()
        self._context.array.saving.use_compression = False
        if self._primary:
            self._clear_up()
        self._synchronise()
        self._manifests = self._find()
        self._checked: set[int] = set()
        if self._choose(sorted(self._manifests, reverse=True)) is None and has_checkpoints(self._folder):
            raise UserError(
                f"{self._folder}: all checkpoints are damaged; put one back from a backup, or remove the "
                "folder to begin anew"
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint."""
        self.wait()
        return self._choose(sorted(self._manifests, reverse=True))

    @property
    def best_step(self) -> int | None:
        """The step of the lowest held-out loss among those saved with one, the last of equals."""
        self.wait()
        return self._choose(_by_loss(self._manifests))

    @property
    def newest_good_step(self) -> int | None:
        """The step of the newest checkpoint that may be gone back to."""
        self.wait()
        return self._choose(_good(self._manifests))

    def notes(self, step: int) -> dict[str, Any]:
        """The notes that the checkpoint of `step` was saved with."""
        return self._manifests[step].notes

    def save(
        self,
        step: int,
        state: Any,
        held_out_loss: float | None = None,
        *,
        good: bool = True,
        notes: dict[str, Any] | None = None,
    ) -> None:
        """Starts writing the state of `step`; returns once the arrays are safe to overwrite.

        Args:
          step: steps done; not one that there is a checkpoint of.
          state: arrays in a pytree.
          held_out_loss: by which the best is found.
          good: whether one may go back to it.
          notes: plain JSON that `notes` gives back.

        Raises:
          UserError: it, or the one before, cannot be written.
        """
        self.wait()
        manifest = Manifest(step=step, held_out_loss=held_out_loss, good=good, notes=notes or {})
        try:
            with self._context:
                written = ocp.save_async(str(self._folder / f"{step}{_WRITING}"), state)
        except (OSError, ValueError) as error:
            raise self._cannot_write(step, error) from error
        self._pending = step, self._writer.submit(self._finish, written, manifest)

    def check(self) -> None:
        """Raises UserError where a write has failed in the background; never waits."""
        if self._pending is not None and self._pending[1].done():
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is being written.

        Raises:
          UserError: what was being written cannot be.
        """
        if self._pending is None:
            return
        step, future = self._pending
        try:
            self._manifests = future.result()
        except (OSError, ValueError, UserError) as error:
            self._pending = None
            raise self._cannot_write(step, error) from error
        self._checked.add(step)
        self._pending = None

    def load(self, step: int, like: Any) -> Any:
        """Reads the state of `step` onto the shapes, types and shardings of `like`.

        The shardings may be of another mesh, with more or fewer devices, than the state was saved from.
        """
        self.wait()
        return ocp.load(str(self._folder / str(step)), jax.tree.map(_describe, like))

    def go_back(self, step: int | None, notes: dict[str, Any]) -> None:
        """Gives the checkpoint of `step` other notes, and removes all later ones; None removes all."""
        self.wait()
        later = [other for other in self._manifests if step is None or other > step]
        if self._primary:
            for other in later:
                self._remove(other)
        for other in later:
            del self._manifests[other]
        if step is not None:
            self._manifests[step] = msgspec.structs.replace(self._manifests[step], notes=notes)
            if self._primary:
                write_manifest(self._folder / str(step), self._manifests[step])
        self._synchronise()

    def _finish(self, written: Any, manifest: Manifest) -> dict[int, Manifest]:
        """Completes a write, in a thread of its own; gives the checkpoints that are there afterwards."""
        written.result()
        target = self._folder / str(manifest.step)
        if self._primary:
            unnamed = target.with_name(target.name + _WRITING)
            manifest = msgspec.structs.replace(manifest, files=describe_files(unnamed))
            write_manifest(unnamed, manifest)
            unnamed.rename(target)
            _sync(self._folder)
        manifests = self._manifests | {manifest.step: manifest}
        kept = self._worth_keeping(manifests)
        if self._primary:
            for step in manifests.keys() - kept:
                self._remove(step)
        return {step: manifests[step] for step in sorted(kept)}

    def _worth_keeping(self, manifests: dict[int, Manifest]) -> set[int]:
        regular = [step for step in manifests if self._keep_every and step % self._keep_every == 0]
        return {
            *sorted(manifests)[-self._keep :],
            *_by_loss(manifests)[:1],
            *_good(manifests)[:1],
            *regular,
        }

    def _remove(self, step: int) -> None:
        # Renamed first, so that one which is half removed does not pass for a checkpoint.
        removing = self._folder / f"{step}{_REMOVING}"
        (self._folder / str(step)).rename(removing)
        shutil.rmtree(removing, ignore_errors=True)

    def _clear_up(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                if re.fullmatch(rf"\d+({_WRITING}.*|{_REMOVING})", path.name):
                    shutil.rmtree(path)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot hold checkpoints: {error.strerror}") from error

    def _find(self) -> dict[int, Manifest]:
        manifests = {}
        for step in sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit()):
            try:
                manifests[step] = read_manifest(self._folder / str(step))
            except Damage as damage:
                if self._primary:
                    self._set_aside(step, damage)
        return manifests

    def _choose(self, candidates: Iterable[int]) -> int | None:
        """The first that is whole; those before it are set aside."""
        chosen = -1
        if self._primary:
            chosen = next((step for step in candidates if self._is_whole(step)), -1)
        if jax.process_count() > 1:
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        return None if chosen < 0 else chosen

    def _is_whole(self, step: int) -> bool:
        if step not in self._checked:
            try:
                check_files(self._folder / str(step), self._manifests[step])
            except Damage as damage:
                del self._manifests[step]
                self._set_aside(step, damage)
                return False
            self._checked.add(step)
        return True

    def _set_aside(self, step: int, damage: Damage) -> None:
        number, aside = 2, self._folder / f"{step}{DAMAGED}"
        while aside.exists():
            number, aside = number + 1, self._folder / f"{step}{DAMAGED}-{number}"
        (self._folder / str(step)).rename(aside)
        warnings.warn(
            InputWarning(
                f"{self._folder / str(step)}: the checkpoint is damaged ({damage}); it was moved to "
                f"{aside.name}, and one before it is looked for"
            ),
            stacklevel=2,
        )

    def _cannot_write(self, step: int, error: Exception) -> Exception:
        reason = _reason(error)
        if reason is None:
            return error
        if self._primary:
            for path in self._folder.glob(f"{step}{_WRITING}*"):
                shutil.rmtree(path, ignore_errors=True)
        before = max((other for other in self._manifests if other < step), default=None)
        kept = "there is none before it" if before is None else f"that of step {before} is kept"
        return UserError(
            f"{self._folder}: the checkpoint of step {step} cannot be written: {reason}; {kept}; free some "
            "space and give the same command again"
        )

    def _synchronise(self) -> None:
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints")


def _by_loss(manifests: dict[int, Manifest]) -> list[int]:
    """Steps of checkpoints that have a held-out loss: the lowest first, of equals the last."""
    judged = [(found.held_out_loss, -step) for step, found in manifests.items()]
    return [-step for loss, step in sorted(pair for pair in judged if pair[0] is not None)]


def _good(manifests: dict[int, Manifest]) -> list[int]:
    return sorted((step for step, manifest in manifests.items() if manifest.good), reverse=True)


def _describe(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _reason(error: BaseException | None) -> str | None:
    """What the operating system said; TensorStore hands it on as the number in a ValueError's text."""
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, UserError):
        return _reason(error.__cause__)
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
