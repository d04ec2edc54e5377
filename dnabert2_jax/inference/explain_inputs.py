"""What there is to explain: a file of sequences or regions of a genome in, sequences with flanks out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dnabert2_jax.data.pairs import read_examples
from dnabert2_jax.data.places import cut_lines, cut_regions, read_flanks
from dnabert2_jax.data.sequences import Place
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.views import Subject, subject


@dataclass(frozen=True)
class Sources:
    """Where sequences come from.

    Attributes:
      input: FASTA or a table, or BED with `genome`, or "-" for standard input; None where there are regions.
      genome: a FASTA file, plain or bgzip.
      regions: of the genome, as `data.places.cut_regions` reads them.

    Raises:
      UserError: these do not go together.
    """

    input: str | Path | None = None
    genome: str | Path | None = None
    regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.input is None) == (not self.regions):
            raise UserError("name either an --input, or a --region of a --genome")
        if self.regions and self.genome is None:
            raise UserError("--region is of a genome; name its FASTA file too (--genome)")


class Explained(NamedTuple):
    """A sequence to be explained.

    Attributes:
      name: what the input calls it.
      shown: its bases that are explained, and what lies beside them.
      offset: how many bases of the input's sequence come before the first one that is explained; negative
        where the sequence was widened.
      place: of the explained bases in the genome; None where there is none.
    """

    name: str
    shown: Subject
    offset: int
    place: Place | None


def read_explained(
    sources: Sources, window: int | None, center: int | None, *, is_cut: bool = True
) -> Iterator[Explained]:
    """The sequences of an input, one by one.

    Args:
      sources: where they come from.
      window: so many bases a sequence has with its flanks, where a genome has them. None gives flanks to
        none: what is shown is the sequence, widened where `center` asks for more.
      center: explain so many bases around each sequence's middle, the others being flanks; None for all. Of
        two middles that of the lower position on the sequence's strand is taken.
      is_cut: what is longer than the window will be cut into windows; each end then has a quarter of a window
        beside it, as the bases within have.

    Raises:
      UserError: as in `read_examples`, `cut_lines` and `cut_regions`; a sequence is a pair, is empty, or is
        shorter than `center` and has no genome to be widened from.
    """
    if sources.genome is None:
        assert sources.input is not None, "checked by Sources"
        for entry in read_examples(sources.input):
            if not isinstance(entry.example, str):
                raise UserError(f"{entry.name}: is a pair; give single sequences to explain")
            yield _framed(entry.name, entry.example, ("", ""), None, window, center, is_cut)
        return
    with IndexedFasta(sources.genome) as fasta:
        if sources.regions:
            entries = cut_regions(fasta, sources.regions)
        else:
            assert sources.input is not None, "checked by Sources"
            entries = cut_lines(fasta, sources.input)
        for entry in entries:
            assert isinstance(entry.example, str), "a region is one sequence"
            assert entry.place is not None, "a region has a place"
            flanks = read_flanks(fasta, entry.place, max(window or 0, center or 0))
            yield _framed(entry.name, entry.example, flanks, entry.place, window, center, is_cut)


def _framed(
    name: str,
    sequence: str,
    flanks: tuple[str, str],
    place: Place | None,
    window: int | None,
    center: int | None,
    is_cut: bool,
) -> Explained:
    try:
        whole = subject(sequence, *flanks)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    text, before, length = whole.text, len(whole.left), len(whole.bases)
    first, last = before, before + length
    if center is not None:
        first += (length - center) // 2
        last = first + center
        if first < 0 or last > len(text):
            raise UserError(
                f"{name}: has {length:,} bases, and --center asks for {center:,}; make it less, or leave this"
                " sequence out"
            )
    low, high = min(first, before), max(last, before + length)
    if window is not None:
        flank = max((window - (last - first)) // 2, window // 4 if is_cut else 0)
        low, high = max(0, first - flank), min(len(text), last + flank)
    offset = first - before
    if place is not None:
        start = place.end - offset - (last - first) if place.strand == "-" else place.start + offset
        place = place._replace(start=start, end=start + last - first)
    return Explained(name, Subject(text[low:first], text[first:last], text[last:high]), offset, place)
