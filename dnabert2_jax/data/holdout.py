"""Which stretches of a genome are held out for validation: contig names and lengths in, intervals out.

The plan is a pure function of species, contig names and lengths, so anyone can work it out again:

1. A contig that has at least 2,000 bp to give (length x share) holds regions of length x share / n bases,
   n = max(1, round(length x share / region)) of them. It is divided into n equal parts, and each part holds
   one region at a place drawn from a hash of (species, contig, number). Shorter contigs are for training.
2. A species none of whose contigs is that long gives whole contigs, in the order of a hash of their names,
   until the share is reached; at least one contig stays for training.
3. A species that is one short contig gives its end.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

from dnabert2_jax.data.layout import ValidationRegion

SHORTEST_REGION = 2_000


def plan_validation(
    species: str, contigs: Sequence[tuple[str, int]], share: float, region_bases: int
) -> list[ValidationRegion]:
    """The held-out intervals of one species, in the order of its contigs; they never overlap.

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
        return _whole_contigs(species, with_bases, share)
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


def _whole_contigs(species: str, contigs: Sequence[tuple[str, int]], share: float) -> list[ValidationRegion]:
    wanted = share * sum(length for _, length in contigs)
    held_out: set[str] = set()
    reached = 0
    for name, length in sorted(contigs, key=lambda contig: _hash(species, contig[0]))[:-1]:
        if reached >= wanted:
            break
        held_out.add(name)
        reached += length
    return [
        ValidationRegion(species=species, contig=name, start=0, end=length)
        for name, length in contigs
        if name in held_out
    ]


def _hash(*words: str) -> int:
    text = "\0".join(words).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
