"""VCF files as streams of lines: a file comes in; what its records say of alleles goes out, and the lines of
a copy in which INFO has gained one key.

A line is kept as its bytes, so that whatever is not read here leaves as it came.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import pysam

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, room_to_write
from dnabert2_jax.genome.inputs import Source, is_standard_input, open_input, quoted

_VERSION = b"##fileformat=VCFv"
_COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")
_INFO = _COLUMNS.index(b"INFO")
_WHAT_IT_IS = "a VCF file begins with ##fileformat=VCFv4… and names its columns, #CHROM POS ID REF ALT …"
_LONGEST_LINE = 1 << 27  # 100,000 samples of 1,000 letters each
_MOST_DIGITS = 18  # what surely fits into 64 bits
_BCF = (b"BCF\x02", b"BCF\x04")


class VcfRecord(NamedTuple):
    """A record.

    Attributes:
      number: of its line, counted from 1.
      line: as it stands in the file, with its end of line.
      contig: CHROM.
      start: 0-based position of the first base of REF; -1 where POS is 0, in front of the contig.
      name: ID.
      reference: REF.
      alternatives: ALT, in order; a single "." where the record has none.
    """

    number: int
    line: bytes
    contig: str
    start: int
    name: str
    reference: str
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vcf:
    """An open VCF file.

    Attributes:
      name: what messages call it.
      header: all lines up to that of the columns' names, as they stand in the file.
      records: can be gone through once.
    """

    name: str
    header: tuple[bytes, ...]
    records: Iterator[VcfRecord]


@contextmanager
def open_vcf(source: Source, key: str) -> Iterator[Vcf]:
    """Opens a VCF file, plain, gzip or bgzip, to be copied with one more key in INFO.

    Args:
      source: the file, or "-" for standard input.
      key: what INFO shall gain.

    Raises:
      UserError: the file cannot be read, has no header of VCF, or has that key already; later, from the
        records: a line is no record.
    """
    with open_input(source) as file:
        name = str(file.name)
        header = _read_header(file, name)
        declared = f"##INFO=<ID={key},".encode()
        if any(line.startswith(declared) for line in header):
            raise _has_key(name, key)
        yield Vcf(name, header, _records(file, name, len(header), header[-1].count(b"\t"), key))


def described_header(header: Sequence[bytes], description: str) -> bytes:
    """The header with one more line, in front of that of the columns' names, and with the same end of line.

    Args:
      header: as of `Vcf`.
      description: the line, such as `##INFO=<…>`.
    """
    return b"".join([*header[:-1], description.encode(), _line_end(header[-1]), header[-1]])


def annotated(record: VcfRecord, key: str, values: Sequence[str]) -> bytes:
    r"""The record's line with `key=value,value…` at the end of INFO; all other bytes are as they were.

    Examples:
      >>> line = b"chr1\t101\trs7\tA\tC\t.\tPASS\tDP=9\n"
      >>> annotated(VcfRecord(12, line, "chr1", 100, "rs7", "A", ("C",)), "SCORE", ["-1.5"])
      b'chr1\t101\trs7\tA\tC\t.\tPASS\tDP=9;SCORE=-1.5\n'
    """
    end = _line_end(record.line)
    fields = record.line.removesuffix(end).split(b"\t", _INFO + 1)
    before = fields[_INFO]
    entry = f"{key}={','.join(values)}".encode()
    if before in (b"", b"."):
        fields[_INFO] = entry
    else:
        fields[_INFO] = before + (b"" if before.endswith(b";") else b";") + entry
    return b"\t".join(fields) + end


@contextmanager
def vcf_output(path: str | os.PathLike) -> Iterator[Callable[[bytes], object]]:
    """What is yielded writes bytes to a file that appears whole or not at all, or to standard output.

    Args:
      path: bgzip where it ends in .gz; "-" for standard output, to which lines go as they are written.

    Raises:
      UserError: the file cannot be written.
    """
    if is_standard_input(path):
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    with atomic_file(path) as file:
        if Path(path).suffix == ".gz":
            with _bgzip(file) as packed, room_to_write(path):
                yield packed.write
        else:
            yield file.write


def _bgzip(file: IO[bytes]) -> pysam.BGZFile:
    # htslib opens files by name alone, and this one is to be renamed when it is whole.
    return pysam.BGZFile(f"/dev/fd/{file.fileno()}", "wb", None)


def _read_header(file: IO[bytes], name: str) -> tuple[bytes, ...]:
    header: list[bytes] = []
    while line := _next_line(file, name, len(header) + 1):
        if not header and line.startswith(_BCF):
            raise UserError(f"{name}: is BCF; turn it into VCF with bcftools view")
        if not header and not line.startswith(_VERSION):
            raise UserError(f"{name}: line 1: has no header of VCF; {_WHAT_IT_IS}")
        header.append(line)
        if line.startswith(b"#CHROM"):
            found = tuple(line.removesuffix(_line_end(line)).split(b"\t"))
            if found[: len(_COLUMNS)] != _COLUMNS:
                raise UserError(
                    f"{name}: line {len(header)}: names other columns than VCF does; {_WHAT_IT_IS}, with tabs"
                    " between them"
                )
            return tuple(header)
        if not line.startswith(b"##"):
            break
    place = f"line {len(header)}: the header" if header else "the file is empty, and its header"
    raise UserError(f"{name}: {place} ends without a line of the columns' names; {_WHAT_IT_IS}")


def _records(file: IO[bytes], name: str, number: int, tabs: int, key: str) -> Iterator[VcfRecord]:
    needle = f"{key}=".encode()
    while line := _next_line(file, name, number + 1):
        number += 1
        if line.count(b"\t") != tabs:
            raise UserError(
                f"{name}: line {number}: has {line.count(b'\t') + 1} columns and the header {tabs + 1};"
                " mend the line, with tabs between columns"
            )
        contig, position, identifier, reference, alternatives, _, _, info = line.split(b"\t", _INFO + 1)[:8]
        if not position.isdigit() or len(position) > _MOST_DIGITS:
            shown = quoted(position.decode("utf-8", "replace"))
            raise UserError(
                f"{name}: line {number}: POS {shown} is no position; give a whole number, 1-based"
            )
        if needle in info and any(entry.startswith(needle) for entry in info.split(b";")):
            raise _has_key(f"{name}: line {number}", key)
        yield VcfRecord(
            number,
            line,
            contig.decode("utf-8", "replace"),
            int(position) - 1,
            identifier.decode("utf-8", "replace"),
            reference.decode("latin-1"),
            tuple(alternatives.decode("latin-1").split(",")),
        )


def _next_line(file: IO[bytes], name: str, number: int) -> bytes:
    line = file.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
        raise UserError(f"{name}: line {number}: is over 128 MiB; give a VCF file")
    return line


def _line_end(line: bytes) -> bytes:
    if line.endswith(b"\r\n"):
        return b"\r\n"
    return b"\n" if line.endswith(b"\n") else b""


def _has_key(place: str, key: str) -> UserError:
    return UserError(
        f"{place}: has the key {key} in INFO already; remove it first (bcftools annotate -x INFO/{key})"
    )
