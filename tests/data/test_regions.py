"""Regions written as samtools writes them, and what lies beside them, against samtools itself."""

import pysam
import pytest

from dnabert2_jax.data.places import cut_regions, read_flanks
from dnabert2_jax.data.sequences import Place
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.explain_inputs import Sources, read_explained


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(">chr1\nGATTACAGATTACAGGCC\n>HLA:01:02\nACGTACGTAA\n")
    with IndexedFasta(path) as file:
        yield file


@pytest.mark.parametrize("region", ["chr1:1-1", "chr1:3-12", "chr1:18-18", "HLA:01:02:2-9", "chr1:1-0,018"])
def test_regions_are_those_of_samtools(fasta, region, tmp_path):
    (entry,) = cut_regions(fasta, [region])
    contig, _, positions = region.replace(",", "").rpartition(":")
    start, end = map(int, positions.split("-"))
    pysam.faidx("-o", str(tmp_path / "cut.fa"), str(fasta.path), f"{{{contig}}}:{start}-{end}")
    assert entry.example == "".join((tmp_path / "cut.fa").read_text().splitlines()[1:])
    assert entry.name == region
    assert entry.place == Place(contig, start - 1, end, "+")


@pytest.mark.parametrize("strand", ["+", "-", "."])
def test_flanks_are_read_as_the_strand_is(fasta, strand):
    left, right = read_flanks(fasta, Place("chr1", 5, 9, strand), 7)
    text = fasta.fetch("chr1", 0, 16)
    whole = reverse_complement(text) if strand == "-" else text
    assert left + (reverse_complement(text[5:9]) if strand == "-" else text[5:9]) + right == whole
    assert read_flanks(fasta, Place("chr1", 0, 18, strand), 7) == ("", "")


@pytest.mark.parametrize(
    ("region", "complaint"),
    [
        ("chr1", "'chr1' is no region; write contig:start-end"),
        ("chr1:5", "is no region"),
        ("chr1:a-b", "is no region"),
        ("chr1:0-4", "the first position is 1"),
        ("chr1:9-4", "the start may not be behind the end"),
        ("chr1:4-19", "ends at 19, and contig 'chr1' of .*genome.fa at 18; name a region of it"),
        ("chr2:4-9", "has no contig 'chr2'"),
        ("chr1:1-,", "is no region"),
    ],
)
def test_other_regions_are_refused(fasta, region, complaint):
    with pytest.raises(UserError, match=complaint):
        list(cut_regions(fasta, [region]))


@pytest.mark.parametrize(("is_cut", "beside"), [(True, 16), (False, 0)])
def test_a_region_that_is_longer_than_a_window_has_context_at_its_ends(tmp_path, is_cut, beside):
    path = tmp_path / "long.fa"
    path.write_text(">c\n" + "GATTACA" * 100 + "\n")
    sources = Sources(genome=path, regions=("c:301-400",))
    (found,) = read_explained(sources, 64, None, is_cut=is_cut)
    assert len(found.shown.bases) == 100
    assert len(found.shown.left) == len(found.shown.right) == beside
