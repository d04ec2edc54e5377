"""Alleles on a genome: what a VCF says of one comes in and is checked; windows of both alleles go out.

A change is what is left of REF and ALT without the bases that they share at their ends, so that all ways to
write a variant at a place give the same windows.
"""

from collections import OrderedDict
from typing import Literal, NamedTuple

import numpy as np

from dnabert2_jax.genome.index import IndexedFasta

type ChangeKind = Literal["snv", "mnv", "insertion", "deletion", "complex"]

type Reason = Literal[
    "no_alternative",
    "missing_allele",
    "symbolic_allele",
    "breakend",
    "not_acgt",
    "same_as_reference",
    "contig_absent",
    "outside_contig",
    "ref_mismatch",
    "too_long",
]
"""Why an allele has no score."""

REASONS: dict[Reason, str] = {
    "no_alternative": "ALT is .",
    "missing_allele": "ALT is *, the deletion of another record",
    "symbolic_allele": "ALT is a name in angle brackets",
    "breakend": "ALT is a breakend",
    "not_acgt": "REF or ALT has other letters than A C G T",
    "same_as_reference": "ALT is REF",
    "contig_absent": "the FASTA has no such contig",
    "outside_contig": "REF reaches beyond the contig",
    "ref_mismatch": "the FASTA has other bases than REF",
    "too_long": "an allele is longer than half a window",
}

# Variants lie near each other: 64 KiB at once, and a few of these in turn for files that are not sorted.
_BLOCK = 1 << 16
_BLOCKS_KEPT = 64

# Within how many bases of an indel those lie that it is compared with, and how often one is drawn anew.
_NEAR = 50_000
_DRAWS = 20


class Change(NamedTuple):
    """Bases of a contig and what stands in their place; they share neither their first nor their last base.

    Attributes:
      contig: its name.
      start: 0-based position of the first base of `reference`, or of the base behind an insertion.
      reference, alternative: upper case A C G T; one of them may be empty.
    """

    contig: str
    start: int
    reference: str
    alternative: str

    @property
    def kind(self) -> ChangeKind:
        """What kind of variant it is."""
        before, after = len(self.reference), len(self.alternative)
        if before == after:
            return "snv" if before == 1 else "mnv"
        if before and after:
            return "complex"
        return "deletion" if before else "insertion"


class AlleleWindows(NamedTuple):
    """A stretch of a genome with either allele, upper case, and where in both the change begins."""

    reference: str
    alternative: str
    site: int


class ReferenceBases:
    """The bases of a genome in blocks, upper case; for one thread.

    Args:
      fasta: open for as long as this is used.
    """

    def __init__(self, fasta: IndexedFasta):
        self.lengths = fasta.contigs
        self._fasta = fasta
        self._blocks: OrderedDict[tuple[str, int], str] = OrderedDict()

    def bases(self, contig: str, start: int, end: int) -> str:
        """The bases [start, end), which must be on the contig."""
        first, last = start // _BLOCK, max(start, end - 1) // _BLOCK
        if first == last:
            return self._block(contig, first)[start - first * _BLOCK : end - first * _BLOCK]
        text = "".join([self._block(contig, number) for number in range(first, last + 1)])
        return text[start - first * _BLOCK : end - first * _BLOCK]

    def _block(self, contig: str, number: int) -> str:
        key = (contig, number)
        block = self._blocks.get(key)
        if block is None:
            end = min((number + 1) * _BLOCK, self.lengths[contig])
            block = self._fasta.fetch(contig, min(number * _BLOCK, end), end).upper()
            self._blocks[key] = block
            if len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(key)
        return block


def read_change(
    genome: ReferenceBases, contig: str, start: int, reference: str, alternative: str, window: int
) -> Change | Reason:
    """What an allele of a VCF changes, or why it cannot be told.

    Args:
      genome: what REF is checked against, in either case.
      contig, start: CHROM, and POS counted from 0.
      reference, alternative: REF and one of ALT.
      window: bases; an allele of more than half as many is refused.
    """
    before, after = reference.upper(), alternative.upper()
    if not (_is_acgt(before) and _is_acgt(after)):
        return _unreadable(after)
    if before == after:
        return "same_as_reference"
    if contig not in genome.lengths:
        return "contig_absent"
    if start < 0 or start + len(before) > genome.lengths[contig]:
        return "outside_contig"
    if max(len(before), len(after)) > window // 2:
        return "too_long"
    if genome.bases(contig, start, start + len(before)) != before:
        return "ref_mismatch"
    return trim(contig, start, before, after)


def trim(contig: str, start: int, before: str, after: str) -> Change:
    """Takes away what the alleles share: at the end first, then at the beginning.

    Examples:
      >>> trim("chr1", 100, "CAT", "CT")
      Change(contig='chr1', start=101, reference='A', alternative='')
    """
    shared = 0
    while shared < min(len(before), len(after)) and before[-1 - shared] == after[-1 - shared]:
        shared += 1
    before, after = before[: len(before) - shared], after[: len(after) - shared]
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    return Change(contig, start + first, before[first:], after[first:])


def allele_windows(genome: ReferenceBases, change: Change, window: int) -> AlleleWindows:
    """Both alleles with the same bases on either side, the change in their middle.

    Args:
      genome: where the change lies.
      change: of it.
      window: bases of the reference allele's window; fewer where the contig ends before.
    """
    contig, start, before, after = change
    flank = (window - len(before)) // 2
    first = max(0, start - flank)
    last = min(genome.lengths[contig], start - flank + window)
    bases = genome.bases(contig, first, last)
    site = start - first
    return AlleleWindows(bases, bases[:site] + after + bases[site + len(before) :], site)


def random_changes(
    genome: ReferenceBases, change: Change, count: int, rng: np.random.Generator
) -> list[Change]:
    """Changes of the same kind and lengths at random places near by, as a null for insertions and deletions.

    What is inserted is copied from another random place near by. Places without A C G T are drawn anew; there
    may be fewer in the end than asked for.

    Args:
      genome: where the change lies.
      change: is left out of the draw.
      count: how many.
      rng: draws the places, within 50,000 bases to either side.
    """
    contig, start, before, after = change
    length = genome.lengths[contig]
    low = max(0, start - _NEAR)
    high = min(length, start + _NEAR) - max(len(before), len(after))
    found: list[Change] = []
    if high < low:
        return found
    for place, source in rng.integers(low, high + 1, (count * _DRAWS, 2)).tolist():
        if len(found) == count:
            break
        old = genome.bases(contig, place, place + len(before))
        new = genome.bases(contig, source, source + len(after))
        # A base on either side, so that no change lies at an edge or beside a gap.
        around = genome.bases(contig, max(0, place - 1), min(length, place + len(before) + 1))
        if not _is_acgt(old + new + around) or old == new or place == start:
            continue
        found.append(Change(contig, place, old, new))
    return found


def _is_acgt(letters: str) -> bool:
    return bool(letters) and not letters.strip("ACGT")


def _unreadable(alternative: str) -> Reason:
    if alternative == ".":
        return "no_alternative"
    if alternative == "*":
        return "missing_allele"
    if alternative.startswith("<") and alternative.endswith(">"):
        return "symbolic_allele"
    if "[" in alternative or "]" in alternative or alternative.startswith(".") or alternative.endswith("."):
        return "breakend"
    return "not_acgt"
