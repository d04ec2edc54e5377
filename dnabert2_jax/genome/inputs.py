"""Files as plain bytes: a path, or "-" for standard input, goes in; a reader of its unpacked bytes comes out.

Gzip and bgzip are told by their first bytes. What goes wrong while reading becomes a UserError that names the
file, whoever reads.
"""

import gzip
import io
import os
import sys
import warnings
from collections.abc import Buffer, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from isal import igzip, igzip_lib

from dnabert2_jax.errors import InputWarning, UserError

STANDARD_INPUT = "-"

type Source = str | os.PathLike | io.BufferedReader
"""A path, "-" for standard input, or a reader that `open_input` gave and that nobody has read from."""

_BUFFER = 1 << 17  # what the caches of a processor hold; 1 MiB is read at two thirds of the speed
_LONGEST_NAME_SHOWN = 60
_GZIP_MAGIC = b"\x1f\x8b"
# The empty block that ends every complete bgzip file (SAM specification, section 4.1.2).
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@contextmanager
def open_input(source: Source) -> Iterator[io.BufferedReader]:
    """Opens a file or standard input for reading, and unpacks gzip.

    Args:
      source: what to read. A reader that is open already is given back as it is, and left open.

    Yields:
      A reader of the plain bytes. Its `name` is what messages call the file. Its `peek` shows the first
      128 KiB (of a pipe too), and nothing only where there is nothing. It closes with the context; standard
      input stays open.

    Raises:
      UserError: the file cannot be read; later, from the reader: its gzip data is damaged or cut. A bgzip
        file that was cut between two blocks lacks its last one, and is refused for that.
    """
    if isinstance(source, io.BufferedReader):
        yield source
        return
    with _opened(source) as file:
        stored = _Stored(file, display_name(source))
        packed = _buffered(stored)
        is_gzip = packed.peek().startswith(_GZIP_MAGIC)
        yield _buffered(_Unpacked(packed, stored)) if is_gzip else packed


def display_name(path: str | os.PathLike) -> str:
    """What messages call the file at `path`."""
    return "standard input" if is_standard_input(path) else os.fspath(path)


def is_standard_input(path: str | os.PathLike) -> bool:
    """Whether `path` stands for standard input."""
    return os.fspath(path) == STANDARD_INPUT


def quoted(name: str) -> str:
    """A name from a file in quotes, for messages; its beginning where it is long."""
    return repr(name if len(name) <= _LONGEST_NAME_SHOWN else name[:_LONGEST_NAME_SHOWN] + "…")


def is_bgzip(beginning: bytes) -> bool:
    """Whether a file that begins with these bytes (18 are enough) was written by bgzip."""
    has_extra_field = beginning.startswith(_GZIP_MAGIC) and beginning[3:4] == b"\x04"
    return has_extra_field and beginning[12:16] == b"BC\x02\x00"


def peek_stored(path: str | os.PathLike) -> bytes:
    """The first bytes of a file as it is stored, gzip not unpacked; nothing where it is empty.

    Raises:
      UserError: the file cannot be read.
    """
    with _opened(path) as file:
        return _buffered(_Stored(file, display_name(path))).peek()


def warn(message: str) -> None:
    """Gives an InputWarning."""
    warnings.warn(message, InputWarning, stacklevel=3)


def warn_of_rna(name: str, place: str) -> None:
    """Says that a file has U, and in which place first."""
    warn(f"{name}: {place}: has the letter U of RNA; U is read as T in this file")


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    if is_standard_input(path):
        if sys.stdin is None:
            raise UserError("standard input: is closed; pipe a file into it or name a file")
        yield sys.stdin.buffer
        return
    if Path(path).is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from error
    with file:
        yield file


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER)


class _Stored(io.RawIOBase):
    """The bytes as they are stored, and the last few of those read so far."""

    def __init__(self, file: BinaryIO, name: str):
        self.name = name
        self.tail = b""
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        try:
            block = self._file.read(len(view))
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror}; check the disk") from error
        view[: len(block)] = block
        self.tail = (self.tail + block[-len(_BGZIP_END) :])[-len(_BGZIP_END) :]
        return len(block)


class _Unpacked(io.RawIOBase):
    """What gzip data hold."""

    def __init__(self, packed: io.BufferedReader, stored: _Stored):
        self.name = stored.name
        self._stored = stored
        self._is_bgzip = is_bgzip(packed.peek())
        self._gzip = igzip.IGzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        try:
            count = self._gzip.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, igzip_lib.IsalError) as error:  # pyright: ignore
            raise UserError(
                f"{self.name}: the gzip data is truncated or damaged ({error}); fetch it again"
            ) from error
        if count == 0 and self._is_bgzip and self._stored.tail != _BGZIP_END:
            raise UserError(
                f"{self.name}: the bgzip data is truncated (its last block is missing); fetch it again"
            )
        return count
