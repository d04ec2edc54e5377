"""Where two assemblies can be compared base by base: FASTA files in, sites that differ and others out.

A site is comparable where the 16 bases on either side of it stand in both genomes, once in each, strands
taken together. Sites that differ are paired with others of the same base and neighbours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnabert2_jax.genome.fasta import read_records
from dnabert2_jax.genome.packed import BORDER, OTHER, complement_codes, encode_letters

FLANK = 16
"""Bases on either side: two flanks fill 64 bits, and 32 bases rarely stand twice in a genome by chance."""


class Genome(NamedTuple):
    """A genome in one piece.

    Attributes:
      names: of its n contigs.
      starts: int64 [n], where each begins in `codes`.
      codes: uint8, as `genome.packed` has them, BORDER behind each contig.
    """

    names: list[str]
    starts: np.ndarray
    codes: np.ndarray

    def contig_at(self, places: np.ndarray) -> np.ndarray:
        """The number of the contig that each place of `codes` lies in."""
        return np.searchsorted(self.starts, places, side="right") - 1


class Sites(NamedTuple):
    """m comparable sites of the first genome.

    Attributes:
      contig: int64 [m], its number in the first genome.
      position: int64 [m], 0-based.
      context: uint8 [m, 3], codes of the base in front, the base itself and the base behind.
      other: uint8 [m], the code of the second genome's base, on the first one's strand.
    """

    contig: np.ndarray
    position: np.ndarray
    context: np.ndarray
    other: np.ndarray

    def take(self, chosen: np.ndarray) -> "Sites":
        """Some of them."""
        return Sites(*(column[chosen] for column in self))


def read_genome(path: str | Path) -> Genome:
    """All contigs of a FASTA file."""
    records = list(read_records(path))
    parts = [np.r_[encode_letters(record.sequence.encode()), np.uint8(BORDER)] for record in records]
    lengths = np.array([len(part) for part in parts])
    return Genome([record.name for record in records], np.cumsum(lengths) - lengths, np.concatenate(parts))


def comparable_sites(first: Genome, second: Genome, contigs: Sequence[str]) -> Sites:
    """Sites on some contigs whose flanks also stand on the contig of the same name in the second genome.

    Flanks must be unique among all contigs of either genome and both strands. Flanks that are their own
    reverse complement are left out, since they do not tell the strands apart.
    """
    one, other = (_unique_flanks(genome.codes) for genome in (first, second))
    _, of_one, of_other = np.intersect1d(one.keys, other.keys, assume_unique=True, return_indices=True)
    place, counterpart = one.places[of_one], other.places[of_other]
    turned = one.is_reverse[of_one] != other.is_reverse[of_other]
    base = second.codes[counterpart]
    base = np.where(turned, complement_codes(base), base)
    contig, of_counterpart = first.contig_at(place), second.contig_at(counterpart)
    names, names_there = np.array(first.names)[contig], np.array(second.names)[of_counterpart]
    kept = np.flatnonzero(np.isin(names, contigs) & (names == names_there))
    kept = kept[np.argsort(place[kept])]
    place, contig = place[kept], contig[kept]
    context = first.codes[place[:, None] + np.arange(-1, 2)]
    return Sites(contig, place - first.starts[contig], context, base[kept])


def matched_pairs(sites: Sites, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences, and as many sites without one: place i of either has the same three bases.

    A site is taken once. A difference for which no such site is left is left out.

    Args:
      sites: to draw from.
      seed: of the draw, and of the order that pairs come in.

    Returns:
      Numbers of sites, int64 [k] twice.
    """
    rng = np.random.default_rng(seed)
    kind = sites.context @ np.array([16, 4, 1])
    differs = sites.other != sites.context[:, 1]
    differences, pool = (rng.permutation(np.flatnonzero(chosen)) for chosen in (differs, ~differs))
    pairs = []
    for number in range(64):
        mine, free = differences[kind[differences] == number], pool[kind[pool] == number]
        count = min(len(mine), len(free))
        pairs.append(np.stack([mine[:count], free[:count]]))
    first, second = rng.permutation(np.concatenate(pairs, axis=1), axis=1)
    return first, second


class _Flanks(NamedTuple):
    keys: np.ndarray
    places: np.ndarray
    is_reverse: np.ndarray


def _unique_flanks(codes: np.ndarray) -> _Flanks:
    """Of each site with flanks that stand once in the genome: the flanks as a number, and the site."""
    ahead = codes.astype(np.uint64) & np.uint64(3)
    behind = np.uint64(3) - ahead
    size = 1
    while size < FLANK:
        # Two neighbours of `size` letters make one of twice as many; the other strand is read backwards.
        shift = np.uint64(2 * size)
        ahead = (ahead[:-size] << shift) | ahead[size:]
        behind = (behind[size:] << shift) | behind[:-size]
        size *= 2
    apart, shift = FLANK + 1, np.uint64(2 * FLANK)
    forward = (ahead[:-apart] << shift) | ahead[apart:]
    reverse = (behind[apart:] << shift) | behind[:-apart]
    unusable = np.concatenate([[0], np.cumsum(codes >= OTHER)])
    width = 2 * FLANK + 1
    usable = np.flatnonzero((unusable[width:] == unusable[:-width]) & (forward != reverse))
    forward, reverse = forward[usable], reverse[usable]
    keys, first, counts = np.unique(np.minimum(forward, reverse), return_index=True, return_counts=True)
    single = counts == 1
    first = first[single]
    return _Flanks(keys[single], usable[first] + FLANK, (reverse < forward)[first])
