"""The plan of a corpus: inputs and settings in; what is held out, and the units of work, out.

A unit is what one file holds in `unit_bases` bases, counted along its contigs laid end to end; it becomes one
shard of each split. The plan is a pure function of the inputs, so several machines that work on parts of it,
or one that was interrupted, make the same bytes.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from dnabert2_jax.data.holdout import RegionMap, SpeciesContigs, plan_holdout
from dnabert2_jax.data.inputs import CorpusInput
from dnabert2_jax.data.layout import FORMAT, BuildSettings, InputFile, SpeciesCounts, Split, ValidationRegion
from dnabert2_jax.data.text_lines import LINE_ENDS, read_text_chunks
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import sha256_file
from dnabert2_jax.genome.bed import Regions, read_bed
from dnabert2_jax.genome.fasta import Chunk, Stretch, StretchCounts, acgt_stretches, read_chunks

SHORTEST_STRETCH, LONGEST_STRETCH = 50, 1_000_000
_SMALLEST_UNIT, _LARGEST_UNIT = 23, 28  # powers of two, in bases


@dataclass(frozen=True, slots=True)
class InputScan:
    """One file, read once.

    Attributes:
      contigs: name and extent of each in order, cut where the cap ends.
      sequences: how many contigs, or lines, it has.
      bases: its letters, those beyond the cap among them.
      soft_masked: how many of them are in lower case.
      beyond_cap: how many of them lie beyond the cap.
      line_ends: of a text, the characters that are no letters and not beyond the cap.
    """

    contigs: list[tuple[str, int]]
    sequences: int
    bases: int
    soft_masked: int
    beyond_cap: int
    line_ends: int

    @property
    def extent(self) -> int:
        """The length of the contigs laid end to end."""
        return sum(length for _, length in self.contigs)


@dataclass(frozen=True)
class CorpusPlan:
    """All that a build needs to know before it tokenises.

    Attributes:
      settings: how the corpus is made.
      tokenizer_sha256: of the tokenizer.
      inputs: the files, in order.
      files: what the metadata says of them.
      scans: what is in them.
      regions: what is held out.
    """

    settings: BuildSettings
    tokenizer_sha256: str
    inputs: list[CorpusInput]
    files: list[InputFile]
    scans: list[InputScan]
    regions: list[ValidationRegion]

    @cached_property
    def species(self) -> list[str]:
        """The species in the order in which they first appear."""
        return list(dict.fromkeys(given.species for given in self.inputs))

    @cached_property
    def unit_bases(self) -> int:
        """The bases of a unit: as the settings say, or a power of two near a 64th of all bases.

        A shard's writer keeps up to 16 MiB in memory until the shard is whole, and an interruption loses a
        unit: small corpora have small units, of 8 Mb at least, and large ones not too many files.
        """
        share = sum(scan.extent for scan in self.scans) // 64
        chosen = 1 << min(_LARGEST_UNIT, max(_SMALLEST_UNIT, share.bit_length()))
        return self.settings.unit_bases or chosen

    @cached_property
    def first_units(self) -> list[int]:
        """For each input its first unit, and behind them the number of units."""
        sizes = (max(1, -(-scan.extent // self.unit_bases)) for scan in self.scans)
        return list(itertools.accumulate(sizes, initial=0))

    @property
    def number_of_units(self) -> int:
        """How many units there are."""
        return self.first_units[-1]

    @cached_property
    def region_map(self) -> RegionMap:
        """Finds what is held out."""
        return RegionMap(self.regions)

    @property
    def bases(self) -> int:
        """How much is read, all files together."""
        return sum(scan.extent for scan in self.scans)

    def input_of(self, unit: int) -> int:
        """The place of the input that a unit belongs to."""
        return int(np.searchsorted(self.first_units, unit, side="right")) - 1

    def describe(self) -> bytes:
        """A text that differs wherever two plans make different corpora."""
        wanted = [[given.split, given.weight, given.expected_bases] for given in self.inputs]
        content = [FORMAT, self.tokenizer_sha256, self.settings, self.files, wanted]
        return msgspec.json.format(msgspec.json.encode(content), indent=1)

    def chunks(self, number: int) -> Iterator[Chunk]:
        """The chunks of an input, as far as the cap allows."""
        lengths = dict(self.scans[number].contigs)
        for chunk in _chunks(self.inputs[number], self.settings):
            size = min(chunk.bases.size, lengths.get(chunk.contig, 0) - chunk.start)
            if size > 0:
                yield Chunk(chunk.contig, chunk.start, chunk.bases[:size], chunk.soft_mask[:size])

    def stretches(
        self, number: int, chunks: Iterator[Chunk], counts: StretchCounts
    ) -> Iterator[tuple[int, Stretch]]:
        """The stretches of an input's chunks, each with its unit; units come in order."""
        given, settings = self.inputs[number], self.settings
        offsets = itertools.accumulate((length for _, length in self.scans[number].contigs), initial=0)
        offset_of = {
            name: offset for (name, _), offset in zip(self.scans[number].contigs, offsets, strict=False)
        }
        for stretch in acgt_stretches(
            chunks,
            length=settings.stretch_bases,
            minimum=settings.minimum_bases,
            cuts=self.region_map.cuts(given.species),
            keep=_regions(given, "keep_bed"),
            drop=_regions(given, "drop_bed"),
            counts=counts,
        ):
            position = offset_of[stretch.contig] + stretch.start
            yield self.first_units[number] + position // self.unit_bases, stretch

    def count(self, stretch_counts: Sequence[StretchCounts]) -> list[SpeciesCounts]:
        """What became of each species' bases, tokens apart.

        Args:
          stretch_counts: of each input.
        """
        counted = {}
        for given, scan, stretches in zip(self.inputs, self.scans, stretch_counts, strict=True):
            counts = counted.setdefault(
                given.species,
                SpeciesCounts(
                    species=given.species,
                    split=given.split,
                    weight=given.weight,
                    expected_bases=given.expected_bases,
                    contigs=0,
                    bases=0,
                    soft_masked=0,
                    dropped_short=0,
                    dropped_other=0,
                    dropped_regions=0,
                    dropped_cap=0,
                ),
            )
            counts.contigs += scan.sequences
            counts.bases += scan.bases
            counts.soft_masked += scan.soft_masked
            counts.dropped_short += stretches.too_short
            counts.dropped_other += stretches.not_acgt - scan.line_ends
            counts.dropped_regions += stretches.outside_regions
            counts.dropped_cap += scan.beyond_cap
        return list(counted.values())


def make_plan(inputs: Sequence[CorpusInput], tokenizer_sha256: str, settings: BuildSettings) -> CorpusPlan:
    """Reads every file once and plans what to hold out.

    Raises:
      UserError: a setting is out of range, a file cannot be read, two files of a species have a contig of one
        name, or what is to be held out is not there.
    """
    check_settings(settings)
    scans: list[InputScan] = []
    room: dict[str, int] = {}
    contigs: dict[str, dict[str, int]] = {}
    for given in inputs:
        left = room.get(given.species, settings.max_bases_per_species)
        scan = _scan(given, settings, left)
        if left is not None:
            room[given.species] = left - sum(
                length for name, length in scan.contigs if name not in settings.holdout_contigs
            )
        seen = contigs.setdefault(given.species, {})
        for name, length in scan.contigs:
            if name in seen:
                raise UserError(
                    f"{given.path}: has a contig {name!r} as another file of {given.species!r} has;"
                    " rename one, or call the files different species"
                )
            seen[name] = length
        scans.append(scan)
    splits: dict[str, Split] = {given.species: given.split for given in inputs}
    regions = plan_holdout(
        [
            SpeciesContigs(species, splits[species], list(lengths.items()))
            for species, lengths in contigs.items()
        ],
        settings,
    )
    if not regions:
        raise UserError(
            f"nothing can be held out by {settings.holdout}; hold out in another way,"
            " or mark a species of the table as validation"
        )
    return CorpusPlan(
        settings, tokenizer_sha256, list(inputs), [_file(given) for given in inputs], scans, regions
    )


def check_settings(settings: BuildSettings) -> None:
    """Refuses settings that are out of range.

    Raises:
      UserError: one is.
    """
    if not 0 < settings.validation_share <= 0.5:
        raise UserError(
            f"the validation share must be above 0 and at most 0.5, not {settings.validation_share}"
        )
    if settings.holdout_contigs and settings.holdout != "chromosome":
        raise UserError("contigs are named to be held out, so hold out by chromosome")
    if settings.region_bases < 1:
        raise UserError(f"a validation region must have at least 1 base, not {settings.region_bases}")
    if not SHORTEST_STRETCH <= settings.stretch_bases <= LONGEST_STRETCH:
        raise UserError(
            f"a record must have room for {SHORTEST_STRETCH} to {LONGEST_STRETCH} bases,"
            f" not {settings.stretch_bases}"
        )
    if not 1 <= settings.minimum_bases <= settings.stretch_bases:
        raise UserError(
            f"the shortest run must be 1 to {settings.stretch_bases} bases, not {settings.minimum_bases}"
        )
    if settings.max_bases_per_species is not None and settings.max_bases_per_species < 1:
        raise UserError(f"the cap must leave at least 1 base, not {settings.max_bases_per_species}")
    if settings.unit_bases is not None and settings.unit_bases < 1:
        raise UserError(f"a unit must have at least 1 base, not {settings.unit_bases}")


def _chunks(given: CorpusInput, settings: BuildSettings) -> Iterator[Chunk]:
    if given.kind == "text":
        return read_text_chunks(given.path, drop_impure_lines=settings.drop_impure_lines)
    return read_chunks(given.path)


def _scan(given: CorpusInput, settings: BuildSettings, room: int | None) -> InputScan:
    lengths: dict[str, int] = {}
    kept: dict[str, int] = {}
    soft_masked = line_ends = kept_line_ends = lines = 0
    last = ord("\n")
    for chunk in _chunks(given, settings):
        lengths[chunk.contig] = chunk.start + chunk.bases.size
        fits = chunk.bases.size
        if room is not None and chunk.contig not in settings.holdout_contigs:
            fits = min(fits, room)
            room -= fits
        kept[chunk.contig] = kept.get(chunk.contig, 0) + fits
        soft_masked += int(np.count_nonzero(chunk.soft_mask))
        if given.kind == "text":
            is_line_end = np.isin(chunk.bases, np.frombuffer(LINE_ENDS, np.uint8))
            line_ends += int(np.count_nonzero(is_line_end))
            kept_line_ends += int(np.count_nonzero(is_line_end[:fits]))
            lines += int(np.count_nonzero(chunk.bases == ord("\n")))
            last = int(chunk.bases[-1])
    extent = sum(lengths.values())
    if given.keep_bed or given.drop_bed:
        for regions in (_regions(given, "keep_bed"), _regions(given, "drop_bed")):
            if regions is not None:
                regions.check_contigs(lengths, given.path)
    return InputScan(
        contigs=list(kept.items()),
        sequences=len(lengths) if given.kind == "fasta" else lines + (last != ord("\n")),
        bases=extent - line_ends,
        soft_masked=soft_masked,
        beyond_cap=extent - sum(kept.values()) - (line_ends - kept_line_ends),
        line_ends=kept_line_ends,
    )


def _regions(given: CorpusInput, column: str) -> Regions | None:
    path = getattr(given, column)
    return None if path is None else read_bed(path)


def _file(given: CorpusInput) -> InputFile:
    return InputFile(
        species=given.species,
        file=given.path.name,
        kind=given.kind,
        sha256=sha256_file(given.path),
        keep_bed=sha256_file(given.keep_bed) if given.keep_bed else None,
        drop_bed=sha256_file(given.drop_bed) if given.drop_bed else None,
    )
