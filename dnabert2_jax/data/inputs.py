"""What a corpus is made from: each file with its species, how it is split, and what is expected of it.

The command line or a genome table gives `CorpusInput`s; `check_inputs` refuses what contradicts itself.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnabert2_jax.data.layout import InputKind, Split
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.inputs import is_standard_input


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInput:
    """One file.

    Attributes:
      species: several files may share one.
      path: the file, plain or gzip.
      kind: "fasta", or "text" for one sequence a line.
      split: "train", "validation" (the species is held out as a whole), or "auto".
      weight: relative share of the species in training; None where nobody said.
      expected_bases: the size that the species' files should have together, or None.
      keep_bed: a BED file of the regions to use, or None.
      drop_bed: a BED file of regions not to use, or None.
    """

    species: str
    path: Path
    kind: InputKind = "fasta"
    split: Split = "auto"
    weight: float | None = None
    expected_bases: int | None = None
    keep_bed: Path | None = None
    drop_bed: Path | None = None


def as_inputs(inputs: Sequence[CorpusInput | tuple[str, str | os.PathLike]]) -> list[CorpusInput]:
    """Makes a CorpusInput of each pair of species and FASTA file, and checks them all.

    Raises:
      UserError: as in `check_inputs`.
    """
    whole = [
        given if isinstance(given, CorpusInput) else CorpusInput(species=given[0], path=Path(given[1]))
        for given in inputs
    ]
    check_inputs(whole)
    return whole


def check_inputs(inputs: Sequence[CorpusInput]) -> None:
    """Refuses inputs that no corpus can be made from.

    Raises:
      UserError: there are none; a file is given twice, is standard input, or has no species; files of one
        species disagree about it; or only some species have a weight.
    """
    if not inputs:
        raise UserError("a corpus needs at least one file of sequences; name one")
    by_path: dict[str, CorpusInput] = {}
    by_species: dict[str, CorpusInput] = {}
    for given in inputs:
        if is_standard_input(given.path):
            raise UserError(
                "standard input: can be read only once, and a corpus needs two passes; name a file"
            )
        if not given.species:
            raise UserError(f"{given.path}: the species has no name; give it one")
        place = os.path.realpath(given.path)
        if place in by_path:
            raise UserError(
                f"{given.path}: is given already, for {by_path[place].species!r}; name each file once"
            )
        by_path[place] = given
        first = by_species.setdefault(given.species, given)
        for column in ("split", "weight", "expected_bases", "kind"):
            if getattr(first, column) != getattr(given, column):
                raise UserError(
                    f"{given.path}: its {column} is {getattr(given, column)!r}, and that of {first.path},"
                    f" of the same species {given.species!r}, is {getattr(first, column)!r}; make them equal"
                )
        if given.kind == "text" and (given.keep_bed or given.drop_bed):
            raise UserError(f"{given.path}: has lines and no contigs, so BED regions mean nothing; drop them")
    trained_on = [given for given in by_species.values() if given.split != "validation"]
    with_weight = [given.weight is not None for given in trained_on]
    if any(with_weight) and not all(with_weight):
        missing = trained_on[with_weight.index(False)]
        raise UserError(
            f"{missing.path}: the species {missing.species!r} has no weight and others have one;"
            " give every species a weight, or none"
        )
