"""Stretches of A, C, G and T, against a walk over single bases."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.genome.bed import read_bed
from dnabert2_jax.genome.fasta import Chunk, Stretch, StretchCounts, acgt_stretches


def chunked(contigs: dict[str, str], bounds: list[int]) -> list[Chunk]:
    """Each contig in chunks that end at those of `bounds` that lie inside it; lower case is soft-masked."""
    chunks = []
    for name, text in contigs.items():
        edges = [0, *sorted({bound for bound in bounds if 0 < bound < len(text)}), len(text)]
        for start, end in pairwise(edges):
            piece = np.frombuffer(text[start:end].encode(), np.uint8)
            upper = np.frombuffer(text[start:end].upper().encode(), np.uint8)
            chunks.append(Chunk(name, start, upper, piece >= ord("a")))
    return chunks


def walked(
    contigs: dict[str, str],
    length: int,
    minimum: int,
    cuts: dict[str, list[int]],
    dropped: Callable[[str, int], bool] = lambda _contig, _position: False,
) -> list[tuple]:
    """The rule, one base at a time."""
    pieces = []
    for name, text in contigs.items():
        open_piece = None
        for position, letter in enumerate([*text, "end"]):
            ends = letter.upper() not in tuple("ACGT") or dropped(name, position)
            if open_piece is not None and (
                ends or position in cuts.get(name, []) or position - open_piece == length
            ):
                if position - open_piece >= minimum:
                    pieces.append((name, open_piece, text[open_piece:position]))
                open_piece = None
            if not ends and open_piece is None:
                open_piece = position
    return pieces


def as_text(stretch: Stretch) -> tuple:
    bases = np.where(stretch.soft_mask, stretch.bases | 0x20, stretch.bases).astype(np.uint8)
    return (stretch.contig, stretch.start, bases.tobytes().decode())


@settings(deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ACGTacgtACGTacgtNnR", max_size=80), min_size=1, max_size=3),
    bounds=st.lists(st.integers(1, 80)),
    length=st.integers(1, 40),
    minimum=st.integers(0, 12),
    cuts=st.lists(st.integers(0, 90), max_size=5),
)
def test_stretches_are_those_of_the_walk_however_the_contigs_are_chunked(
    texts, bounds, length, minimum, cuts
):
    minimum = min(minimum, length)
    contigs = {f"c{index}": text for index, text in enumerate(texts)}
    planned = {"c0": sorted(cuts), "c9": [3]}
    counts = StretchCounts()
    stretches = acgt_stretches(
        chunked(contigs, bounds), length=length, minimum=minimum, cuts=planned, counts=counts
    )
    found = [as_text(stretch) for stretch in stretches]
    assert found == walked(contigs, length, minimum, planned)
    everything = "".join(texts).upper()
    acgt = sum(everything.count(base) for base in "ACGT")
    assert counts.kept == sum(len(text) for _, _, text in found)
    assert counts.not_acgt == len(everything) - acgt
    assert counts.too_short == acgt - counts.kept


bed_rows = st.lists(
    st.tuples(st.sampled_from(["c0", "c1"]), st.integers(0, 80), st.integers(1, 30)), min_size=1, max_size=6
)


@settings(deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ACGTacgtACGTNnR", max_size=80), min_size=1, max_size=3),
    bounds=st.lists(st.integers(1, 80)),
    length=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 90), max_size=3),
    keep=st.none() | bed_rows,
    drop=st.none() | bed_rows,
)
def test_stretches_stay_inside_kept_regions_and_outside_dropped_ones(
    tmp_path_factory, texts, bounds, length, cuts, keep, drop
):
    folder = tmp_path_factory.mktemp("regions")

    def regions(name: str, rows: list | None):
        if rows is None:
            return None
        (folder / name).write_text("".join(f"{c}\t{start}\t{start + size}\n" for c, start, size in rows))
        return read_bed(folder / name)

    def covers(rows: list, contig: str, position: int) -> bool:
        return any(c == contig and start <= position < start + size for c, start, size in rows)

    def is_dropped(contig: str, position: int) -> bool:
        kept = keep is None or covers(keep, contig, position)
        return not kept or (drop is not None and covers(drop, contig, position))

    contigs = {f"c{index}": text for index, text in enumerate(texts)}
    planned, counts = {"c0": sorted(cuts)}, StretchCounts()
    stretches = acgt_stretches(
        chunked(contigs, bounds),
        length=length,
        minimum=3 if length >= 3 else 1,
        cuts=planned,
        keep=regions("keep.bed", keep),
        drop=regions("drop.bed", drop),
        counts=counts,
    )
    expected = walked(contigs, length, 3 if length >= 3 else 1, planned, is_dropped)
    assert [as_text(stretch) for stretch in stretches] == expected
    places = [
        (name, position, letter) for name, text in contigs.items() for position, letter in enumerate(text)
    ]
    assert counts.outside_regions == sum(is_dropped(name, position) for name, position, _ in places)
    assert counts.not_acgt == sum(
        letter.upper() not in "ACGT" and not is_dropped(name, position) for name, position, letter in places
    )
    assert counts.kept == sum(len(text) for _, _, text in expected)
    assert counts.kept + counts.too_short + counts.not_acgt + counts.outside_regions == len(places)


def test_a_cut_starts_the_count_anew_and_short_tails_are_counted():
    chunks = chunked({"chr1": "ACGTACGTACNNACg"}, [])
    counts = StretchCounts()
    stretches = acgt_stretches(chunks, length=4, minimum=2, cuts={"chr1": [3]}, counts=counts)
    assert [as_text(stretch) for stretch in stretches] == [
        ("chr1", 0, "ACG"), ("chr1", 3, "TACG"), ("chr1", 7, "TAC"), ("chr1", 12, "ACg"),
    ]  # fmt: skip
    assert counts == StretchCounts(kept=13, too_short=0, not_acgt=2)
    list(acgt_stretches(chunks, length=4, minimum=4, cuts={"chr1": [3]}, counts=counts))
    assert counts == StretchCounts(kept=13 + 4, too_short=9, not_acgt=4)


def test_a_gap_between_chunks_ends_a_run():
    whole = chunked({"a": "ACGTACGTACGT"}, [4, 8])
    stretches = acgt_stretches([whole[0], whole[2]], length=100, minimum=1)
    assert [as_text(stretch) for stretch in stretches] == [("a", 0, "ACGT"), ("a", 8, "ACGT")]


def test_a_minimum_over_the_length_is_a_fault():
    with pytest.raises(ValueError, match="minimum"):
        list(acgt_stretches([], length=4, minimum=5))
