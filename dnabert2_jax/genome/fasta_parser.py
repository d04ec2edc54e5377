"""The FASTA parser: a file goes in, headers and validated letters of DNA come out, block by block.

Memory is bounded by the block, however long a line is; `genome.fasta` builds chunks and records from this.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.inputs import Source, open_input, quoted, warn_of_rna
from dnabert2_jax.genome.sequence import NUCLEOTIDES

_BLOCK = 1 << 17
_LONGEST_HEADER = 1 << 20
_BLANKS = b" \t\r\n\v\f"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LETTERS = NUCLEOTIDES.encode()


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a record: its first word, and what follows that."""

    name: str
    description: str


def parse_fasta(source: Source) -> Iterator[Header | bytes]:
    """Yields each header, and after it the record's letters in pieces of at most a block.

    Pieces are in the case of the file, without line breaks and blanks; every letter is an IUPAC nucleotide
    code. U is read as T, which an InputWarning says once.

    Raises:
      UserError: see `genome.fasta.read_chunks`.
    """
    with open_input(source) as file:
        yield from _parse(str(file.name), _blocks(file))


def _parse(file: str, blocks: Iterator[bytes]) -> Iterator[Header | bytes]:
    line = 1
    name = ""
    names: set[str] = set()
    unfinished_header: bytes | None = None
    at_line_start = True
    is_rna = False
    for block in blocks:
        position = 0
        while position < len(block):
            if unfinished_header is not None:
                end = block.find(b"\n", position)
                unfinished_header += block[position : end if end >= 0 else len(block)]
                if len(unfinished_header) > _LONGEST_HEADER:
                    raise UserError(f"{file}: line {line}: the header is over 1 MiB; give a FASTA file")
                if end < 0:
                    break
                header = _header(file, line, unfinished_header, names)
                yield header
                name, unfinished_header, at_line_start = header.name, None, True
                line += 1
                position = end + 1
                continue
            mark = block.find(b">", position)
            piece = block[position : mark if mark >= 0 else len(block)]
            if piece:
                letters = _letters(file, name, line, piece)
                line += piece.count(b"\n")
                at_line_start = piece.endswith(b"\n")
                if b"U" in letters or b"u" in letters:
                    if not is_rna:
                        warn_of_rna(file, f"record {quoted(name)}")
                    is_rna = True
                    letters = letters.replace(b"U", b"T").replace(b"u", b"t")
                if letters:
                    yield letters
            position += len(piece)
            if mark >= 0:
                if not at_line_start:
                    raise _refused_letter(file, name, line, b">")
                unfinished_header = b""
                position += 1
    if unfinished_header is not None:
        yield _header(file, line, unfinished_header, names)
    if not names:
        raise UserError(f"{file}: holds no sequences; give a FASTA file with at least one record")


def _letters(file: str, name: str, line: int, piece: bytes) -> bytes:
    letters = piece.replace(b"\n", b"")
    others = letters.translate(None, _LETTERS)
    if others:
        letters = letters.translate(None, _BLANKS)
        refused = others.translate(None, _BLANKS)
        if refused and name:
            offending_line = line + piece[: piece.index(refused[:1])].count(b"\n")
            raise _refused_letter(file, name, offending_line, refused[:1])
    if letters and not name:
        raise _no_header(file, line + piece[: piece.index(letters[:1])].count(b"\n"), letters)
    return letters


def _header(file: str, line: int, text: bytes, names: set[str]) -> Header:
    if b"\r" in text.rstrip(b"\r"):
        raise UserError(f"{file}: line {line}: lines end in CR alone; convert the file to Unix line ends")
    words = text.decode("utf-8", "replace").split(maxsplit=1)
    if not words:
        raise UserError(f"{file}: line {line}: the header has no name; write one after the '>'")
    name = words[0]
    if name in names:
        raise UserError(
            f"{file}: line {line}: a second record is named {quoted(name)}; give each a name of its own"
        )
    names.add(name)
    return Header(name, words[1].strip() if len(words) > 1 else "")


def _no_header(file: str, line: int, letters: bytes) -> UserError:
    if not letters[:64].isascii() or not letters[:64].decode("ascii").isprintable():
        return UserError(f"{file}: is not text; give a FASTA file, plain or compressed with gzip")
    return UserError(
        f"{file}: line {line}: begins with {chr(letters[0])!r} where a FASTA header begins with '>';"
        " give a FASTA file, or add the header line"
    )


def _refused_letter(file: str, record: str, line: int, letter: bytes) -> UserError:
    place = f"{file}: record {quoted(record)}, line {line}"
    if not letter.isascii() or not letter.decode("ascii").isprintable():
        return UserError(f"{place}: byte 0x{letter.hex()} is no letter; the file is damaged or not FASTA")
    shown = f"'{letter.decode('ascii')}'"
    if letter in b"-.":
        return UserError(
            f"{place}: {shown} is a gap of an alignment; remove gaps, or write N for unknown bases"
        )
    if letter == b">":
        return UserError(
            f"{place}: '>' stands inside a sequence line; begin each header on a line of its own"
        )
    if letter in b"Xx":
        return UserError(
            f"{place}: {shown} is no IUPAC nucleotide code; write N for a masked or unknown base"
        )
    return UserError(
        f"{place}: {shown} is no IUPAC nucleotide code; give DNA or RNA sequences, not proteins or other text"
    )


def _blocks(file: io.BufferedReader) -> Iterator[bytes]:
    beginning = file.peek()
    if not beginning:
        raise UserError(f"{file.name}: is empty; give a FASTA file with at least one record")
    if beginning.startswith(_BYTE_ORDER_MARK):
        file.read(len(_BYTE_ORDER_MARK))
    while block := file.read(_BLOCK):
        yield block
