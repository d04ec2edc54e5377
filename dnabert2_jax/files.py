"""Files that appear whole or not at all, checksums, and the lock that keeps two runs out of one folder."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dnabert2_jax.errors import InputWarning, UserError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


@contextmanager
def room_to_write(path: str | os.PathLike) -> Iterator[None]:
    """Turns the errors of a disk that is full into one that names what was being written.

    Raises:
      UserError: the disk, a quota, or a limit on the size of files left no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"{path}: cannot be written: {error.strerror}; free some space or write elsewhere"
        ) from error


@contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary neighbour of `path` for writing and renames it into place on success.

    Args:
      path: the file to write; parent folders are made.
      mode: "wb" or "w" (UTF-8).

    Raises:
      UserError: `path` is a folder, or cannot be written; the disk is full.
    """
    target = Path(path)
    _refuse_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with (
            room_to_write(target),
            os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file,
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Gives a temporary folder beside `path` and renames it into place on success.

    Args:
      path: the folder to make; parent folders are made.
      replace: whether a folder that is already there gives way. Otherwise only an empty one does. A file
        never does.

    Raises:
      UserError: `path` is there already, or another process made it meanwhile, and `replace` is false; it
        is the working folder; it cannot be written; the disk is full.
    """
    target = Path(path)
    if target.is_dir() and target.samefile(os.curdir):
        raise UserError(f"{target}: is the folder that you are in, which cannot be replaced; name a new one")
    if not replace or target.is_file():
        refuse_existing(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        temporary.chmod(0o777 & ~_umask())
        with room_to_write(target):
            yield temporary
        if replace:
            # The old folder is moved aside and removed last, so that at no instant both are gone.
            former = temporary.with_suffix(".former")
            if target.is_dir():
                target.replace(former)
            temporary.replace(target)
            shutil.rmtree(former, ignore_errors=True)
        else:
            put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raises UserError where writing a new folder at `path` would overwrite something."""
    # No folder can be renamed onto a link, wherever it leads.
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise _exists(path)


def put_in_place(folder: Path, target: Path) -> None:
    """Renames `folder` to its neighbour `target`, in one step that never overwrites anything.

    Raises:
      UserError: at `target` there is something other than an empty folder; `folder` stays where it was.
    """
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        raise _exists(target) from error


def check_writable(path: str | os.PathLike) -> None:
    """Makes sure that `atomic_file` can write at `path`, and leaves nothing behind.

    Raises:
      UserError: `path` is a folder, or nothing can be made where it shall lie.
    """
    target = Path(path)
    _refuse_folder(target)
    nearest = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Waits until a folder's files and its list of them are on the disk, safe from a power failure."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def folder_lock(folder: str | os.PathLike, *, shared: bool = False) -> Iterator[None]:
    """Holds `folder` for this process; the operating system lets go of it however the process ends.

    On one machine this always holds. Between machines it holds where their shared file system hands locks on:
    NFS from version 4 (and 3, unless mounted with `nolock` or `local_lock`), Lustre mounted with `flock`,
    GPFS, CephFS. Where a file system has no locks at all a notice is given, and nothing is held; one that
    keeps locks to each machine (Lustre with `localflock`, buckets mounted as folders) cannot be told apart
    from one that hands them on.

    Args:
      folder: the folder, which must exist.
      shared: whether other processes may hold it at the same time, if they share too.

    Raises:
      UserError: another process holds it, or it cannot be written.
    """
    try:
        file = open(Path(folder) / ".lock", "a")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another run is writing here; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                InputWarning(
                    f"{folder}: its file system has no locks ({error.strerror}), so make sure that no other "
                    "run writes there"
                ),
                stacklevel=3,
            )
        yield


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file to write")


def _exists(path: Path) -> UserError:
    return UserError(f"{path}: exists already; remove it or name another output folder")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
