"""Files of one sequence a line, such as the released pre-training text, as chunks like those of FASTA.

A file is one contig named "text", and a position in it is the offset of a character in the unpacked file.
Line ends stand among the letters, where they end a run as a gap does: no record crosses them, and a record's
text is `file[start : start + bases]`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import Chunk
from dnabert2_jax.genome.inputs import open_input, warn_of_rna
from dnabert2_jax.genome.sequence import ACGT, NUCLEOTIDES

CONTIG = "text"
LINE_ENDS = b"\r\n"

_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 28
_LETTERS = NUCLEOTIDES.encode() + LINE_ENDS
_AS_DNA = bytes.maketrans(b"Uu", b"Tt")
_LOWER_CASE_BIT = 0x20
_NEW_LINE = ord("\n")


def read_text_chunks(path: Path, *, drop_impure_lines: bool = False) -> Iterator[Chunk]:
    """Reads a text file in chunks of about a megabyte.

    Args:
      path: the file, plain or gzip.
      drop_impure_lines: whether lines with another letter than A, C, G and T become N as a whole.

    Yields:
      Chunks whose bases are upper case, as DNA (U is read as T), line ends among them.

    Warns:
      InputWarning: the file has U.

    Raises:
      UserError: the file cannot be read, is empty or FASTA, or holds what is neither a nucleotide code nor a
        line end; or a line has over 256 MiB.
    """
    start, line = 0, 1
    is_rna = False
    for block in _blocks(path, whole_lines=drop_impure_lines):
        _check_letters(path, block, line)
        if not is_rna and (b"U" in block or b"u" in block):
            is_rna = True
            first = min(place for place in (block.find(b"U"), block.find(b"u")) if place >= 0)
            warn_of_rna(str(path), f"line {line + block.count(b'\n', 0, first)}")
        bases = np.frombuffer(block.translate(_AS_DNA).upper(), np.uint8)
        if drop_impure_lines:
            bases = _without_impure_lines(bases)
        letters = np.frombuffer(block, np.uint8)
        yield Chunk(CONTIG, start, bases, (letters & _LOWER_CASE_BIT) != 0)
        start += len(block)
        line += block.count(b"\n")


def _blocks(path: Path, *, whole_lines: bool) -> Iterator[bytes]:
    unfinished: list[bytes] = []
    with open_input(path) as file:
        beginning = file.peek(3)
        if not beginning:
            raise UserError(f"{path}: is empty; give a file with one sequence a line")
        if beginning.startswith(b">"):
            raise UserError(f"{path}: line 1: begins with '>' as FASTA does; give it as FASTA, not as text")
        if beginning.startswith(b"\xef\xbb\xbf"):  # the byte-order mark that some editors write
            file.read(3)
        while block := file.read(_BLOCK):
            if not whole_lines:
                yield block
                continue
            end = block.rfind(b"\n") + 1
            unfinished.append(block[:end] if end else block)
            if end:
                yield b"".join(unfinished)
                unfinished = [block[end:]]
            elif sum(map(len, unfinished)) > _LONGEST_LINE:
                raise UserError(f"{path}: has a line of over 256 MiB; give one sequence a line")
        if rest := b"".join(unfinished):
            yield rest


def _check_letters(path: Path, block: bytes, line: int) -> None:
    refused = block.translate(None, _LETTERS)
    if refused:
        line += block.count(b"\n", 0, block.index(refused[:1]))
        shown = repr(chr(refused[0])) if refused[:1].isascii() else f"byte 0x{refused[:1].hex()}"
        raise UserError(
            f"{path}: line {line}: {shown} is no IUPAC nucleotide code; give one DNA sequence a line and"
            " nothing else"
        )


def _without_impure_lines(bases: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(bases == _NEW_LINE)
    is_line_end = np.isin(bases, np.frombuffer(LINE_ENDS, np.uint8))
    impure = np.unique(np.searchsorted(ends, np.flatnonzero(~ACGT[bases] & ~is_line_end)))
    if not impure.size:
        return bases
    starts = np.append(0, ends + 1)
    change = np.zeros(bases.size + 1, np.int32)
    change[starts[impure]] += 1
    change[np.append(ends, bases.size)[impure]] -= 1
    inside = np.cumsum(change[:-1]) > 0
    return np.where(inside & ~is_line_end, np.uint8(ord("N")), bases)
