"""BED files, against sets of positions."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.bed import read_bed

intervals = st.tuples(st.sampled_from(["chr1", "chr2", "é"]), st.integers(0, 60), st.integers(0, 20))


@given(
    rows=st.lists(intervals, min_size=1, max_size=30),
    newline=st.sampled_from(["\n", "\r\n"]),
    tail=st.sampled_from(["", "\tname\t0\t+", "\tname with blanks"]),
    separator=st.sampled_from(["\t", " "]),
    start=st.integers(0, 80),
    length=st.integers(0, 40),
)
def test_regions_hold_the_bases_of_their_lines(
    tmp_path_factory, rows, newline, tail, separator, start, length
):
    path = tmp_path_factory.mktemp("bed") / "any.bed"
    lines = [separator.join((contig, str(first), str(first + size))) + tail for contig, first, size in rows]
    path.write_text(newline.join(lines), encoding="utf-8", newline="")
    regions = read_bed(path)
    for contig in ("chr1", "chr2", "é", "absent"):
        bases = {base for name, first, size in rows if name == contig for base in range(first, first + size)}
        mask = regions.mask(contig, start, start + length)
        assert mask.dtype == np.bool_
        assert mask.tolist() == [base in bases for base in range(start, start + length)]
        bounds = regions.bounds.get(contig, np.array([], np.int64))
        assert (np.diff(bounds) > 0).all()
        assert {base for a, b in bounds.reshape(-1, 2) for base in range(a, b)} == bases


TEXT = (
    "\ufeffbrowser position chr1:1-9\ntrack name=x\n# note\n\n"
    "chr1\t5\t9\n  \nchr1\t1\t5\nchr1\t20\t20\nchr1\t30\t31\r\n"
)


@pytest.mark.parametrize("compress", [False, True])
def test_headings_and_comments_are_skipped_and_regions_sorted_and_merged(tmp_path, compress):
    path = tmp_path / "regions"
    path.write_bytes(gzip.compress(TEXT.encode(), mtime=0) if compress else TEXT.encode())
    regions = read_bed(path)
    assert {contig: bounds.tolist() for contig, bounds in regions.bounds.items()} == {"chr1": [1, 9, 30, 31]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no regions"),
        ("# none\ntrack x\n", "holds no regions"),
        ("chr1\t1\t5\nchr1\t7\n", "line 2: has 2 columns; give contig, start and end"),
        ("chr1,1,5\n", "line 1: has 1 columns"),
        ("#x\nchr1\t9\t5\n", "line 2: the start 9 is behind the end 5"),
        ("chr1\t-1\t5\n", "line 1: the start '-1' is no position"),
        ("chr1\t1\t5.5\n", "line 1: the end '5.5' is no position"),
        ("chr1\t1_0\t50\n", "line 1: the start '1_0' is no position"),
        ("chr1\t²\t50\n", "line 1: the start '²' is no position"),
        ("chr1\t0\t" + "9" * 30, "line 1: the end '9{30}' is no position"),
        ("contig\tstart\tend\n", "line 1: the start 'start' is no position"),
        ("x" * 2_000_000, "line 1: is over 1 MiB"),
    ],
)
def test_what_is_no_bed_is_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "bad.bed"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_bed(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_regions_of_another_genome_are_refused(tmp_path):
    path = tmp_path / "regions.bed"
    path.write_text("I\t0\t5\nI\t2\t40\nI\t3\t9\nchr2\t0\t1\n")
    regions = read_bed(path)
    regions.check_contigs({"I": 40, "chr2": 1, "unused": 7}, "genome.fa")
    with pytest.raises(
        UserError, match=r"regions\.bed: line 4: genome\.fa has no contig 'chr2' \(it has 'I'"
    ):
        regions.check_contigs({"I": 40, "II": 9}, "genome.fa")
    with pytest.raises(UserError, match=r"line 2: ends at 40, and contig 'I' of genome\.fa at 39"):
        regions.check_contigs({"I": 39, "chr2": 1}, "genome.fa")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bed") / "any"
    path.write_bytes(data)
    try:
        read_bed(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
