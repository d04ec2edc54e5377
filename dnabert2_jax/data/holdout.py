"""What is held out for validation: species, contig names and lengths in, intervals out.

The plan is a pure function of these, so anyone can work it out again. A species that is marked "validation"
is held out as a whole, one marked "train" not at all. The others follow the setting `holdout`:

"region"
    1. A contig that has at least 2,000 bp to give (length x share) holds regions of length x share / n bases,
       n = max(1, round(length x share / region)) of them. It is divided into n equal parts, and each part
       holds one region at a place drawn from a hash of (species, contig, number). Shorter contigs are for
       training.
    2. A species none of whose contigs is that long gives whole contigs, in the order of a hash of their
       names, until the share is reached; at least one contig stays for training.
    3. A species that is one short contig gives its end.
"chromosome"
    The contigs that are named are held out, in every species that has them. Where none are named, each
    species gives whole chromosomes in the order of a hash until its share is reached; a chromosome is a
    contig at least a tenth as long as the longest of its species, and at least one stays for training.
"species"
    Where no species is marked "validation", whole species are, in the order of a hash of their names, until
    the share of all bases is reached; at least one stays.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from dnabert2_jax.data.layout import BuildSettings, Split, ValidationRegion
from dnabert2_jax.errors import UserError

SHORTEST_REGION = 2_000
_CHROMOSOME = 0.1  # of the longest contig


@dataclass(frozen=True, slots=True)
class SpeciesContigs:
    """A species: its name, how it is split, and name and length in bases of each contig."""

    species: str
    split: Split
    contigs: Sequence[tuple[str, int]]

    @property
    def bases(self) -> int:
        """The length of all contigs."""
        return sum(length for _, length in self.contigs)


def plan_holdout(species: Sequence[SpeciesContigs], settings: BuildSettings) -> list[ValidationRegion]:
    """The held-out intervals of all species, in their order and that of their contigs; they never overlap.

    Raises:
      UserError: a contig is to be held out that no species has, or a species of a corpus that has one.
    """
    named = set(settings.holdout_contigs)
    automatic = [kind for kind in species if kind.split == "auto"]
    missing = named - {name for kind in automatic for name, _ in kind.contigs}
    if missing:
        raise UserError(
            f"the contig {min(missing)!r} is to be held out and no genome has it; name contigs as the FASTA"
            " headers do"
        )
    whole = {kind.species for kind in species if kind.split == "validation"}
    if settings.holdout == "species" and not whole:
        whole = _whole_species(automatic, settings.validation_share)
    regions = []
    for kind in species:
        if kind.species in whole:
            regions += _as_regions(kind.species, kind.contigs, {name for name, _ in kind.contigs})
        elif kind.split == "train" or settings.holdout == "species":
            continue
        elif settings.holdout == "region":
            regions += plan_validation(
                kind.species, kind.contigs, settings.validation_share, settings.region_bases
            )
        elif named:
            regions += _as_regions(kind.species, kind.contigs, named)
        else:
            longest = max((length for _, length in kind.contigs), default=0)
            chromosomes = [contig for contig in kind.contigs if contig[1] >= _CHROMOSOME * longest]
            wanted = settings.validation_share * kind.bases
            held_out = _until_reached(chromosomes, wanted, kind.species)
            regions += _as_regions(kind.species, kind.contigs, held_out)
    return regions


def plan_validation(
    species: str, contigs: Sequence[tuple[str, int]], share: float, region_bases: int
) -> list[ValidationRegion]:
    """The held-out regions of one species, in the order of its contigs; they never overlap.

    Args:
      species: its name, part of what the places are drawn from.
      contigs: name and length in bases of each.
      share: how much of the genome to hold out, in (0, 0.5].
      region_bases: how long a region should be about.
    """
    long_enough = [(name, length) for name, length in contigs if length * share >= SHORTEST_REGION]
    if long_enough:
        return [
            region
            for name, length in long_enough
            for region in _regions_of_contig(species, name, length, share, region_bases)
        ]
    with_bases = [(name, length) for name, length in contigs if length > 0]
    if len(with_bases) > 1:
        wanted = share * sum(length for _, length in with_bases)
        return _as_regions(species, with_bases, _until_reached(with_bases, wanted, species))
    return [
        ValidationRegion(species=species, contig=name, start=length - round(length * share), end=length)
        for name, length in with_bases
    ]


class RegionMap:
    """Finds the held-out region at a place of a genome.

    Args:
      regions: the regions of one or several species; a region's id is its place in this list.
    """

    def __init__(self, regions: Sequence[ValidationRegion]):
        self._by_contig: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        for number, region in enumerate(regions):
            place = (region.species, region.contig)
            self._by_contig.setdefault(place, []).append((region.start, region.end, number))
        for intervals in self._by_contig.values():
            intervals.sort()

    def cuts(self, species: str) -> dict[str, list[int]]:
        """For each contig that has regions, the sorted positions of their borders."""
        return {
            contig: sorted({border for start, end, _ in intervals for border in (start, end)})
            for (owner, contig), intervals in self._by_contig.items()
            if owner == species
        }

    def touched(self, species: str, contig: str, start: int, end: int) -> int:
        """The id of the last region that overlaps the interval [start, end), or -1."""
        intervals = self._by_contig.get((species, contig), [])
        place = bisect_right(intervals, end - 1, key=lambda interval: interval[0]) - 1
        return intervals[place][2] if place >= 0 and intervals[place][1] > start else -1


def _regions_of_contig(
    species: str, contig: str, length: int, share: float, region_bases: int
) -> list[ValidationRegion]:
    number = max(1, round(length * share / region_bases))
    size = round(length * share / number)
    regions = []
    for i in range(number):
        part_start, part_end = length * i // number, length * (i + 1) // number
        room = max(0, part_end - part_start - size)
        start = part_start + _hash(species, contig, str(i)) % (room + 1)
        regions.append(
            ValidationRegion(species=species, contig=contig, start=start, end=min(start + size, part_end))
        )
    return regions


def _whole_species(species: Sequence[SpeciesContigs], share: float) -> set[str]:
    if len(species) < 2:
        raise UserError(
            "one species alone cannot be held out; give several, or hold out by region or chromosome"
        )
    wanted = share * sum(kind.bases for kind in species)
    return _until_reached([(kind.species, kind.bases) for kind in species], wanted)


def _until_reached(sizes: Sequence[tuple[str, int]], wanted: float, *owner: str) -> set[str]:
    """Names in the order of a hash until their sizes reach what is wanted; never all of them."""
    chosen: set[str] = set()
    reached = 0
    for name, size in sorted(sizes, key=lambda item: _hash(*owner, item[0]))[:-1]:
        if reached >= wanted:
            break
        chosen.add(name)
        reached += size
    return chosen


def _as_regions(
    species: str, contigs: Sequence[tuple[str, int]], held_out: set[str]
) -> list[ValidationRegion]:
    return [
        ValidationRegion(species=species, contig=name, start=0, end=length)
        for name, length in contigs
        if name in held_out and length > 0
    ]


def _hash(*words: str) -> int:
    text = "\0".join(words).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
