"""Sequences cut out of a genome: a BED file's regions, or windows along FASTA records, go in; entries with
their places come out, one by one.
"""

import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from dnabert2_jax.data.sequences import Entry, Place
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.bed import check_contig, read_bed_lines
from dnabert2_jax.genome.fasta import Chunk, read_chunks
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.genome.inputs import Source, display_name, quoted
from dnabert2_jax.genome.sequence import reverse_complement

_LOWER_CASE_BIT = np.uint8(0x20)
_REGION = re.compile(r"(.+):([0-9][0-9,]{0,19})-([0-9][0-9,]{0,19})")


def read_regions(bed: str | os.PathLike, genome: str | os.PathLike) -> Iterator[Entry]:
    """Cuts the regions of a BED file out of a genome, in the order of the file, holding one at a time.

    Args:
      bed: the file, or "-" for standard input. Its fourth column names a region, which is else called
        contig:start-end, as bedtools does; of one with "-" in the sixth column the other strand is read.
      genome: a FASTA file, plain or bgzip.

    Yields:
      Entries with a place; the sequence in the case of the file.

    Raises:
      UserError: either file is refused by its reader; a region is empty, or not in the genome.
    """
    with IndexedFasta(genome) as fasta:
        yield from cut_lines(fasta, bed)


def cut_lines(fasta: IndexedFasta, bed: str | os.PathLike) -> Iterator[Entry]:
    """`read_regions` of a genome that is open already."""
    for line in read_bed_lines(bed):
        place = f"{display_name(bed)}: line {line.number}"
        check_contig(place, line.contig, line.end, fasta.contigs, fasta.path)
        if line.start == line.end:
            raise UserError(f"{place}: the region has no bases; remove the line")
        region = Place(line.contig, line.start, line.end, line.strand)
        name = line.name or f"{line.contig}:{line.start}-{line.end}"
        yield Entry(name, _bases(fasta, region), place=region)


def cut_regions(fasta: IndexedFasta, regions: Sequence[str]) -> Iterator[Entry]:
    """Cuts regions such as `chr1:1,001-2,000` out of a genome: positions from 1 on, the last one included.

    Yields:
      Entries that are called as their regions are written, with a place.

    Raises:
      UserError: one is written in another way, or is not in the genome.
    """
    for region in regions:
        found = _REGION.fullmatch(region)
        if found is None:
            raise UserError(f"{quoted(region)} is no region; write contig:start-end, positions from 1 on")
        start, end = (int(found[group].replace(",", "")) for group in (2, 3))
        check_contig(quoted(region), found[1], end, fasta.contigs, fasta.path, "name a region of it")
        if not 1 <= start <= end:
            raise UserError(
                f"{quoted(region)}: the first position is 1, and the start may not be behind the end"
            )
        place = Place(found[1], start - 1, end, "+")
        yield Entry(region, _bases(fasta, place), place=place)


def read_flanks(fasta: IndexedFasta, place: Place, length: int) -> tuple[str, str]:
    """Up to `length` bases on either side of a place, read with its strand; fewer at the ends of contigs."""
    before = place._replace(start=max(0, place.start - length), end=place.start)
    behind = place._replace(start=place.end, end=min(fasta.contigs[place.contig], place.end + length))
    left, right = (behind, before) if place.strand == "-" else (before, behind)
    return _bases(fasta, left), _bases(fasta, right)


def _bases(fasta: IndexedFasta, place: Place) -> str:
    sequence = fasta.fetch(place.contig, place.start, place.end)
    return reverse_complement(sequence) if place.strand == "-" else sequence


def read_windows(source: Source, length: int, step: int) -> Iterator[Entry]:
    """Cuts the records of a FASTA file into windows, in memory that does not grow with the records.

    Windows begin at every multiple of `step`. The last one of a record ends with it, so that with a step of
    at most the length every base is in one; a record that is shorter than a window is one window.

    Args:
      source: the FASTA file, plain or gzip, or "-" for standard input.
      length: bases of a window.
      step: bases from one start to the next.

    Yields:
      Entries named contig:start-end, with a place; the sequence in the case of the file.

    Raises:
      UserError: as in `genome.fasta.read_chunks`.
    """
    record: _Record | None = None
    for chunk in read_chunks(source):
        if record is None or chunk.contig != record.contig:
            if record is not None:
                yield from record.finish()
            record = _Record(chunk.contig, length, step)
        yield from record.add(chunk)
    if record is not None:
        yield from record.finish()


class _Record:
    """The windows of one record: holds the bases that some window may still need."""

    def __init__(self, contig: str, length: int, step: int):
        self.contig = contig
        self._length = length
        self._step = step
        self._held = b""
        self._origin = 0  # of what is held
        self._next = 0  # the start of the next window
        self._reached = 0  # the end of the last one

    def add(self, chunk: Chunk) -> Iterator[Entry]:
        letters = chunk.bases | chunk.soft_mask * _LOWER_CASE_BIT
        self._held += letters.tobytes()
        while self._next + self._length <= self._end:
            yield self._window(self._next, self._next + self._length)
            self._next += self._step
        # The last window may begin before the next multiple.
        needed = max(self._origin, min(self._next, self._end - self._length))
        self._held = self._held[needed - self._origin :]
        self._origin = needed

    def finish(self) -> Iterator[Entry]:
        if self._reached < self._end and self._next < self._end:
            yield self._window(max(0, self._end - self._length), self._end)

    @property
    def _end(self) -> int:
        return self._origin + len(self._held)

    def _window(self, start: int, end: int) -> Entry:
        self._reached = end
        sequence = self._held[start - self._origin : end - self._origin].decode("ascii")
        return Entry(f"{self.contig}:{start}-{end}", sequence, place=Place(self.contig, start, end, "+"))
