"""BED files: a path goes in; for every contig its regions, sorted and merged, come out, or line after line.

`genome.fasta.acgt_stretches` keeps or drops regions; models are run over the windows of lines.
"""

import io
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.inputs import Source, display_name, open_input, quoted

_HEADINGS = (b"track", b"browser")
_STRANDS = ("+", "-", ".")
_LONGEST_LINE = 1 << 20
_MOST_DIGITS = 18  # what surely fits into 64 bits
_CONTIGS_NAMED = 3


class BedLine(NamedTuple):
    """A line of a BED file.

    Attributes:
      number: of the line, counted from 1.
      contig, start, end: 0-based, the end exclusive.
      name: the fourth column; "" where it is absent or ".".
      strand: the sixth column, "+" or "-"; "." where it is absent.
    """

    number: int
    contig: str
    start: int
    end: int
    name: str
    strand: str


class Mention(NamedTuple):
    """Where a BED file names a contig first, and where it reaches furthest into it: lines, counted from 1."""

    first_line: int
    furthest_line: int
    furthest_end: int


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Regions of contigs.

    Attributes:
      name: what messages call the file they are from.
      bounds: for a contig's name int64 [2 * regions]: start, end, start, end, …, 0-based, ends exclusive,
        strictly increasing. Contigs without regions are absent.
      mentions: for the name of every contig of the file, where it stands there.
    """

    name: str
    bounds: Mapping[str, np.ndarray]
    mentions: Mapping[str, Mention]

    def mask(self, contig: str, start: int, end: int) -> np.ndarray:
        """Which of the bases [start, end) of a contig lie in its regions: bool [end - start].

        Examples:
          >>> regions = Regions("peaks.bed", {"chr1": np.array([2, 4])}, {})
          >>> regions.mask("chr1", 0, 6).tolist()
          [False, False, True, True, False, False]
        """
        bounds = self.bounds.get(contig)
        if bounds is None:
            return np.zeros(end - start, np.bool_)
        first = int(np.searchsorted(bounds, start, side="right"))
        last = int(np.searchsorted(bounds, end, side="left"))
        edges = np.concatenate([[start], bounds[first:last], [end]])
        # An odd number of bounds up to `start` means that a region is open there.
        is_inside = (np.arange(len(edges) - 1) + first) % 2 == 1
        return np.repeat(is_inside, np.diff(edges))

    def check_contigs(self, lengths: Mapping[str, int], fasta: str | os.PathLike) -> None:
        """Refuses regions that the genome does not have, which is how a BED of another assembly shows.

        Args:
          lengths: for each contig of the genome its length in bases.
          fasta: the genome's file, for the message.

        Raises:
          UserError: a contig is unknown, or a region ends behind its contig's end.
        """
        for contig, mention in self.mentions.items():
            check_contig(f"{self.name}: line {mention.first_line}", contig, 0, lengths, fasta)
            place = f"{self.name}: line {mention.furthest_line}"
            check_contig(place, contig, mention.furthest_end, lengths, fasta)


def read_bed(source: Source) -> Regions:
    """Reads the first three columns of a BED file; overlapping and touching regions become one.

    Columns are separated by tabs or blanks. Lines that are blank, or begin with "#", "track" or "browser",
    are skipped, and a region without bases (its start is its end) counts for its contig's name alone.

    Args:
      source: the file, plain or gzip, or "-".

    Raises:
      UserError: the file cannot be read, holds no regions, or has a line that is none.
    """
    starts: dict[str, array[int]] = {}
    ends: dict[str, array[int]] = {}
    mentions: dict[str, Mention] = {}
    with open_input(source) as file:
        name = str(file.name)
        for number, line in _lines(file):
            fields = line.split(maxsplit=3)
            if not fields or fields[0].startswith(b"#") or fields[0] in _HEADINGS:
                continue
            contig, start, end = _region(f"{name}: line {number}", fields)
            starts.setdefault(contig, array("q")).append(start)
            ends.setdefault(contig, array("q")).append(end)
            before = mentions.setdefault(contig, Mention(number, number, end))
            if end > before.furthest_end:
                mentions[contig] = Mention(before.first_line, number, end)
    if not mentions:
        raise UserError(f"{name}: holds no regions; give a BED file with at least one")
    merged = {contig: _merged(np.array(starts[contig]), np.array(ends[contig])) for contig in mentions}
    return Regions(name, {contig: bounds for contig, bounds in merged.items() if len(bounds)}, mentions)


def read_bed_lines(source: Source) -> Iterator[BedLine]:
    """Reads a BED file line by line, in its order, up to the sixth column.

    Columns are separated by tabs if the line has one, and by blanks otherwise; what `read_bed` skips is
    skipped.

    Args:
      source: the file, plain or gzip, or "-".

    Raises:
      UserError: as in `read_bed`; a strand is none of "+", "-" and ".".

    Examples:
      >>> [(line.contig, line.start, line.end) for line in read_bed_lines("peaks.bed")]
      [('chr1', 2, 4), ('chr1', 5, 8)]
    """
    found = False
    with open_input(source) as file:
        name = str(file.name)
        for number, line in _lines(file):
            fields = [field.strip() for field in line.split(b"\t")] if b"\t" in line else line.split()
            if not any(fields) or fields[0].startswith(b"#") or line.split(maxsplit=1)[0] in _HEADINGS:
                continue
            place = f"{name}: line {number}"
            contig, start, end = _region(place, fields)
            called, _, strand = (
                field.decode("utf-8", "replace") for field in (*fields[3:6], b"", b"", b"")[:3]
            )
            strand = strand or "."
            if strand not in _STRANDS:
                raise UserError(f"{place}: the strand is {quoted(strand)}; it must be +, - or .")
            found = True
            yield BedLine(number, contig, start, end, "" if called == "." else called, strand)
    if not found:
        raise UserError(f"{name}: holds no regions; give a BED file with at least one")


def check_contig(
    place: str,
    contig: str,
    end: int,
    lengths: Mapping[str, int],
    fasta: str | os.PathLike,
    remedy: str = "use a BED file of this genome",
) -> None:
    """Raises UserError where a genome has no such contig, or one that ends before `end`.

    Args:
      place: the file and the line that name the contig, for the message.
      contig, end: of the region, 0-based and exclusive.
      lengths: for each contig of the genome its length in bases.
      fasta: the genome's file, for the message.
      remedy: what the message asks for.
    """
    genome = display_name(fasta)
    if contig not in lengths:
        raise UserError(f"{place}: {genome} has no contig {quoted(contig)} ({_some(lengths)}); {remedy}")
    if end > lengths[contig]:
        raise UserError(
            f"{place}: ends at {end}, and contig {quoted(contig)} of {genome} at {lengths[contig]}; {remedy}"
        )


def _lines(file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise UserError(f"{file.name}: line {number}: is over 1 MiB; give a BED file")
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _region(place: str, fields: list[bytes]) -> tuple[str, int, int]:
    if len(fields) < 3:
        raise UserError(f"{place}: has {len(fields)} columns; give contig, start and end, separated by tabs")
    contig = fields[0].decode("utf-8", "replace")
    start, end = (
        _position(place, column, field) for column, field in zip(("start", "end"), fields[1:3], strict=True)
    )
    if start > end:
        raise UserError(f"{place}: the start {start} is behind the end {end}; mend the line")
    return contig, start, end


def _position(place: str, column: str, field: bytes) -> int:
    if not field.isdigit() or len(field) > _MOST_DIGITS:
        shown = quoted(field.decode("utf-8", "replace"))
        raise UserError(f"{place}: the {column} {shown} is no position; give a whole number of 0 or more")
    return int(field)


def _merged(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    has_bases = starts < ends
    starts, ends = starts[has_bases], ends[has_bases]
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    # A region begins where nothing before it reaches, and the one before it ends there.
    is_new = starts[1:] > reach[:-1]
    first = np.concatenate([starts[:1], starts[1:][is_new]])
    last = np.concatenate([reach[:-1][is_new], reach[-1:]])
    return np.column_stack([first, last]).reshape(-1)


def _some(contigs: Mapping[str, int]) -> str:
    names = list(contigs)
    shown = ", ".join(quoted(name) for name in names[:_CONTIGS_NAMED])
    return f"it has {shown}{', …' if len(names) > _CONTIGS_NAMED else ''}"
