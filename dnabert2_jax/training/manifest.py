"""The manifest of a checkpoint: what its files are, by checksum, and what a resume must know besides arrays.

A folder of files and a few facts come in, `manifest.json` goes out; later the folder comes in and the facts,
or what is wrong with it, come out.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from dnabert2_jax.files import atomic_file, sha256_file

MANIFEST = "manifest.json"
DAMAGED = ".damaged"  # what the name of a checkpoint that was set aside has after the step


class Damage(Exception):
    """A checkpoint is not what was written; the message says in what way."""


class StoredFile(msgspec.Struct, frozen=True):
    """A file of a checkpoint."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a checkpoint without reading its arrays.

    Attributes:
      step: how many steps were done.
      held_out_loss: of the evaluation at this step; None where there was none.
      good: whether one may go back to it; not so while the loss is higher than it was.
      notes: what the training loop needs besides the arrays, as JSON.
      files: by path within the checkpoint's folder.
    """

    step: int
    held_out_loss: float | None = None
    good: bool = True
    notes: dict[str, Any] = {}
    files: dict[str, StoredFile] = {}


class _Sealed(msgspec.Struct, frozen=True):
    manifest: msgspec.Raw
    sha256: str


def describe_files(folder: Path) -> dict[str, StoredFile]:
    """Reads every file below `folder` except a manifest, and gives size and checksum of each."""
    return {
        path.relative_to(folder).as_posix(): StoredFile(path.stat().st_size, sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes, or replaces, the manifest of `folder` in one step.

    Raises:
      UserError: it cannot be written.
    """
    content = msgspec.json.encode(manifest)
    seal = _Sealed(msgspec.Raw(content), hashlib.sha256(content).hexdigest())
    with atomic_file(folder / MANIFEST) as file:
        file.write(msgspec.json.encode(seal))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`.

    Raises:
      Damage: it is missing, or was changed.
    """
    try:
        sealed = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Sealed)
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
    except FileNotFoundError:
        raise Damage(f"{MANIFEST} is missing") from None
    except msgspec.MsgspecError as error:
        raise Damage(f"{MANIFEST} cannot be read") from error
    if hashlib.sha256(sealed.manifest).hexdigest() != sealed.sha256:
        raise Damage(f"{MANIFEST} was changed")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compares the files of `folder` with its manifest; files that it does not name are let be.

    Raises:
      Damage: one is missing, too short or long, or has other bytes.
    """
    for name, stored in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Damage(f"{name} is missing")
        if path.stat().st_size != stored.bytes:
            raise Damage(f"{name} has {path.stat().st_size} bytes in place of {stored.bytes}")
    # Reading takes long, so it comes when all else is in order.
    for name, stored in manifest.files.items():
        try:
            found = sha256_file(folder / name)
        except OSError as error:
            raise Damage(f"{name} cannot be read: {error.strerror}") from error
        if found != stored.sha256:
            raise Damage(f"{name} has other bytes than were written")


def has_checkpoints(folder: Path) -> bool:
    """Whether a folder holds complete checkpoints, damaged ones included; their names begin by the step."""
    return folder.is_dir() and any(
        re.fullmatch(rf"\d+({re.escape(DAMAGED)}.*)?", path.name) for path in folder.iterdir()
    )
