"""Genomes with structure and a known truth, for the quickstart and for tests: a seed in, genomes out.

A genome is a Markov background with genes on both strands, families of repeats (soft-masked), assembly gaps
(N), and a promoter in front of every gene whose place is known. The promoters follow one grammar in all
species; composition, codon usage and repeats differ between species.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert2_jax.genome.sequence import reverse_complement

PROMOTER_LENGTH = 160
_START_SITE = 100
_MOTIFS = {
    "tata": [("SSGGCGGS", -72), ("TATAWAWR", -31), ("YYANWYY", -2), ("RGWYVT", 28)],
    "tataless": [("SSGGCGGS", -84), ("GGCCAATSR", -60), ("SSGGCGGS", -38), ("YYANWYY", -2), ("RGWYVT", 28)],
}
"""Per kind of promoter its motifs in IUPAC codes, each with its first base relative to the start site."""
_MOTIF_JITTER = 2
_PROMOTER_GC = 0.58

_BASES = np.frombuffer(b"ACGT", np.uint8)
_IUPAC_BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T",
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
_STOP_CODONS = ("TAA", "TAG", "TGA")
_MARKOV_ORDER = 3
_GC_RANGE = (0.36, 0.56)
_STRAND_PATCH = 2000
_CODONS = (90, 260)
_PURINE_FIRST = 2.0
"""How much more often a codon begins with a purine than composition says (real genes: Shepherd 1981, RNY)."""
_INTERGENIC = (60, 400)
_LEADER = (20, 60)
_REPEAT_FAMILIES = 6
_REPEAT_LENGTH = (150, 450)
_REPEAT_DIVERGENCE = (0.02, 0.12)
_REPEAT_SHARE_OF_LOCI = 0.5
_GAP = 100
_CONTIG_SHARES = (0.4, 0.3, 0.2, 0.1)
_SHORTEST_CONTIG = 10_000


class SimulatedContig(NamedTuple):
    """A contig: its name, bases (uint8 [L], ASCII, upper case) and soft mask (bool [L], true in repeats)."""

    name: str
    bases: np.ndarray
    soft_mask: np.ndarray


class Element(NamedTuple):
    """A promoter: bases [start, end) of a contig, 0-based; it reads forward on `strand`, "+" or "-"."""

    contig: str
    start: int
    end: int
    strand: str
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedGenome:
    """A genome and the true places of its promoters, in order along each contig."""

    name: str
    contigs: list[SimulatedContig]
    elements: list[Element]


def simulate_genomes(species: int, bases: int, seed: int) -> list[SimulatedGenome]:
    """Makes genomes named simulated_1, simulated_2, …

    A genome depends on its number, `bases` and `seed` alone, apart from its GC content, which is spread
    evenly over the species.

    Args:
      species: how many genomes.
      bases: bases of each genome, over all its contigs (four, or one where they would be short).
      seed: the same seed gives the same genomes.

    Raises:
      ValueError: a number is out of range.
    """
    if species < 1 or bases < 1:
        raise ValueError(f"species {species} and bases {bases} must be at least 1")
    streams = np.random.SeedSequence(seed).spawn(species)
    contents = np.linspace(*_GC_RANGE, species)
    return [
        _simulate_genome(f"simulated_{index + 1}", bases, float(gc), np.random.default_rng(stream))
        for index, (gc, stream) in enumerate(zip(contents, streams, strict=True))
    ]


class _Species(NamedTuple):
    transitions: np.ndarray  # float64 [4 ** order, 4], cumulative along the last axis
    codons: np.ndarray  # uint8 [61, 3]
    codon_usage: np.ndarray  # float64 [61], cumulative
    repeats: list[np.ndarray]


def _simulate_genome(name: str, bases: int, gc: float, rng: np.random.Generator) -> SimulatedGenome:
    species = _species(gc, rng)
    contigs, elements = [], []
    for index, length in enumerate(_contig_lengths(bases)):
        contig, found = _contig(f"{name}_contig_{index + 1}", length, species, rng)
        contigs.append(contig)
        elements += found
    return SimulatedGenome(name, contigs, elements)


def _species(gc: float, rng: np.random.Generator) -> _Species:
    composition = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    transitions = rng.dirichlet(30 * composition, 4**_MARKOV_ORDER)
    triplets = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    sense = [triplet for triplet in triplets if triplet not in _STOP_CODONS]
    codons = np.frombuffer("".join(sense).encode(), np.uint8).reshape(-1, 3)
    expected = composition[np.searchsorted(_BASES, codons)].prod(axis=1)
    expected *= np.where(np.isin(codons[:, 0], _ascii("AG")), _PURINE_FIRST, 1.0)
    usage = rng.dirichlet(60 * expected / expected.sum() + 0.05)
    lengths = rng.integers(*_REPEAT_LENGTH, _REPEAT_FAMILIES)
    repeats = [rng.choice(_BASES, length, p=composition) for length in lengths]
    return _Species(transitions.cumsum(axis=1), codons, usage.cumsum(), repeats)


def _contig_lengths(bases: int) -> list[int]:
    if bases * min(_CONTIG_SHARES) < _SHORTEST_CONTIG:
        return [bases]
    lengths = [int(share * bases) for share in _CONTIG_SHARES]
    lengths[0] += bases - sum(lengths)
    return lengths


def _contig(
    name: str, length: int, species: _Species, rng: np.random.Generator
) -> tuple[SimulatedContig, list[Element]]:
    bases = _background(length, species, rng)
    soft_mask = np.zeros(length, np.bool_)
    elements: list[Element] = []
    end = 0
    gap_is_due = length >= _SHORTEST_CONTIG
    while True:
        start = end + int(rng.integers(*_INTERGENIC))
        if gap_is_due and start > length // 2:
            bases[end : end + _GAP] = ord("N")
            gap_is_due = False
            start += _GAP
        if rng.random() < _REPEAT_SHARE_OF_LOCI:
            repeat = _repeat_copy(species, rng)
            if start + len(repeat) > length:
                break
            bases[start : start + len(repeat)] = repeat
            soft_mask[start : start + len(repeat)] = True
            start += len(repeat) + int(rng.integers(*_INTERGENIC))
        kind = str(rng.choice(list(_MOTIFS)))
        leader = rng.choice(_BASES, rng.integers(*_LEADER))
        unit = np.concatenate([_promoter(kind, rng), leader, _gene(species, rng)])
        end = start + len(unit)
        if end > length:
            break
        if rng.random() < 0.5:
            bases[start:end] = unit
            elements.append(Element(name, start, start + PROMOTER_LENGTH, "+", kind))
        else:
            bases[start:end] = reverse_complement(unit)
            elements.append(Element(name, end - PROMOTER_LENGTH, end, "-", kind))
    return SimulatedContig(name, bases, soft_mask), elements


def _background(length: int, species: _Species, rng: np.random.Generator) -> np.ndarray:
    # Patches are drawn side by side, one base of each at a time. Every other one is turned to the reverse
    # strand, so that, as in real genomes, both strands have the same composition.
    patches = -(-length // _STRAND_PATCH)
    drawn = np.empty((_STRAND_PATCH, patches), np.uint8)
    context = rng.integers(0, 4**_MARKOV_ORDER, patches)
    for row in drawn:
        row[:] = _draw(species.transitions[context], rng)
        context = (context * 4 + row) % 4**_MARKOV_ORDER
    bases = _BASES[drawn.T]
    bases[1::2] = reverse_complement(bases[1::2])
    return bases.reshape(-1)[:length].copy()


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # The last bound is left out: rounding may put it below 1.
    return (rng.random((len(cumulative), 1)) >= cumulative[:, :-1]).sum(axis=1)


def _gene(species: _Species, rng: np.random.Generator) -> np.ndarray:
    draws = rng.random(rng.integers(*_CODONS))
    codons = species.codons[np.searchsorted(species.codon_usage[:-1], draws, side="right")]
    stop = _STOP_CODONS[rng.integers(len(_STOP_CODONS))]
    return np.concatenate([_ascii("ATG"), codons.reshape(-1), _ascii(stop)])


def _promoter(kind: str, rng: np.random.Generator) -> np.ndarray:
    composition = np.array([1 - _PROMOTER_GC, _PROMOTER_GC, _PROMOTER_GC, 1 - _PROMOTER_GC]) / 2
    bases = rng.choice(_BASES, PROMOTER_LENGTH, p=composition)
    for motif, offset in _MOTIFS[kind]:
        start = _START_SITE + offset + int(rng.integers(-_MOTIF_JITTER, _MOTIF_JITTER + 1))
        letters = [_IUPAC_BASES[code][rng.integers(len(_IUPAC_BASES[code]))] for code in motif]
        bases[start : start + len(motif)] = _ascii("".join(letters))
    return bases


def _repeat_copy(species: _Species, rng: np.random.Generator) -> np.ndarray:
    consensus = species.repeats[rng.integers(len(species.repeats))]
    # Copies lack a part of their beginning, as those of retroelements do.
    copy = consensus[rng.integers(len(consensus) // 2) :].copy()
    mutated = rng.random(len(copy)) < rng.uniform(*_REPEAT_DIVERGENCE)
    copy[mutated] = rng.choice(_BASES, np.count_nonzero(mutated))
    return copy if rng.random() < 0.5 else reverse_complement(copy)


def _ascii(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
