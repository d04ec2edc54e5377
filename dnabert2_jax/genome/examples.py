"""Labelled sequences from simulated genomes: genomes go in; train, dev and test lists of (sequence, label)
come out.

Splits are regions: the first part of every contig is for training, the next for dev, the last for test, so no
base is in two splits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dnabert2_jax.genome.sequence import ACGT, reverse_complement
from dnabert2_jax.genome.simulate import SimulatedContig, SimulatedGenome
from dnabert2_jax.genome.splits import SPLITS, split_of


class Window(NamedTuple):
    """A labelled place: bases [start, end) of a contig, 0-based, to be read on `strand`; label 1 or 0."""

    contig: str
    start: int
    end: int
    strand: str
    label: int


def promoter_examples(
    genomes: Sequence[SimulatedGenome], *, length: int = 300, seed: int
) -> dict[str, list[tuple[str, int]]]:
    """Sequences centred on a promoter (label 1), and others that no promoter touches (label 0).

    Args:
      genomes: the simulated genomes, with contig names of their own.
      length: bases of a sequence.
      seed: decides which windows are taken where there are more of one label, their strands and their order.

    Returns:
      For "train", "dev" and "test" the pairs (sequence, label), as many of each label, in mixed order. A
      promoter reads forward; sequences are A, C, G and T only.
    """
    contigs = {contig.name: contig for genome in genomes for contig in genome.contigs}
    return {
        split: [(_sequence(contigs[window.contig], window), window.label) for window in windows]
        for split, windows in promoter_windows(genomes, length=length, seed=seed).items()
    }


def promoter_windows(
    genomes: Sequence[SimulatedGenome], *, length: int = 300, seed: int
) -> dict[str, list[Window]]:
    """The places of `promoter_examples`, in the same order; its arguments are explained there."""
    rng = np.random.default_rng(seed)
    promoters: dict[str, list[Window]] = {split: [] for split in SPLITS}
    others: dict[str, list[Window]] = {split: [] for split in SPLITS}
    for genome in genomes:
        for contig in genome.contigs:
            centred, elsewhere = _candidates(genome, contig, length, rng)
            for windows, candidates in ((promoters, centred), (others, elsewhere)):
                for window in candidates:
                    split = split_of(window.start, window.end, len(contig.bases))
                    if split and ACGT[contig.bases[window.start : window.end]].all():
                        windows[split].append(window)
    chosen: dict[str, list[Window]] = {}
    for split in SPLITS:
        pairs = min(len(promoters[split]), len(others[split]))
        both = _sample(promoters[split], pairs, rng) + _sample(others[split], pairs, rng)
        chosen[split] = _sample(both, len(both), rng)
    return chosen


def _candidates(
    genome: SimulatedGenome, contig: SimulatedContig, length: int, rng: np.random.Generator
) -> tuple[list[Window], list[Window]]:
    is_promoter = np.zeros(len(contig.bases), np.bool_)
    centred = []
    for element in genome.elements:
        if element.contig == contig.name:
            is_promoter[element.start : element.end] = True
            start = (element.start + element.end - length) // 2
            centred.append(Window(contig.name, start, start + length, element.strand, 1))
    tiles = range(0, len(contig.bases) - length + 1, length)
    elsewhere = [
        Window(contig.name, start, start + length, "+-"[rng.integers(2)], 0)
        for start in tiles
        if not is_promoter[start : start + length].any()
    ]
    return centred, elsewhere


def _sample(windows: list[Window], count: int, rng: np.random.Generator) -> list[Window]:
    return [windows[index] for index in rng.permutation(len(windows))[:count]]


def _sequence(contig: SimulatedContig, window: Window) -> str:
    bases = contig.bases[window.start : window.end]
    return (bases if window.strand == "+" else reverse_complement(bases)).tobytes().decode("ascii")
