"""Places in indexed FASTA files, against the whole file read through."""

import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.genome.fasta import read_records, write_fasta
from dnabert2_jax.genome.index import IndexedFasta, write_index


@pytest.fixture(scope="module")
def fasta(tmp_path_factory) -> str:
    rng = np.random.default_rng(1)
    letters = np.frombuffer(b"ACGTRN", np.uint8)
    contigs = [
        (name, rng.choice(letters, length), rng.random(length) < 0.3)
        for name, length in (("one", 100_000), ("two", 61), ("none", 0), ("last", 60))
    ]
    path = tmp_path_factory.mktemp("index") / "genome.fa"
    write_fasta(path, contigs)
    return str(path)


@pytest.fixture(scope="module", params=["plain", "bgzip"])
def indexed(request, fasta, bgzip, tmp_path_factory):
    path = fasta
    if request.param == "bgzip":
        path = str(tmp_path_factory.mktemp("bgzip") / "genome.fa.gz")
        with open(path, "wb") as file, open(fasta, "rb") as plain:
            file.write(b"".join(bgzip(plain.read())))
    with IndexedFasta(path) as file:
        yield file


@given(st.data())
def test_a_place_reads_as_in_the_whole_file(fasta, indexed, data):
    whole = {record.name: record.sequence for record in read_records(fasta)}
    assert whole.pop("none") == ""
    assert indexed.contigs == {name: len(sequence) for name, sequence in whole.items()}
    contig = data.draw(st.sampled_from(sorted(whole)))
    start = data.draw(st.integers(0, len(whole[contig])))
    end = data.draw(st.integers(start, min(start + 500, len(whole[contig]))))
    assert indexed.fetch(contig, start, end) == whole[contig][start:end]


def test_nothing_is_written_beside_the_file(indexed):
    assert [name for name in os.listdir(indexed.path.parent) if name.endswith(("fai", "gzi"))] == []


def test_a_folder_that_cannot_be_written_to_is_enough(tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir()
    (folder / "genome.fa").write_text(">a\nACGT\n")
    folder.chmod(0o555)
    with IndexedFasta(folder / "genome.fa") as file:
        assert file.fetch("a", 1, 3) == "CG"
    folder.chmod(0o755)


def test_the_index_has_the_layout_of_samtools(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(">a x\nACGTNN\nACgu\n>b\nAC\n")
    with pytest.warns(InputWarning, match="record 'a': has the letter U"):
        write_index(path)
    # Name, length, offset of the first base, bases per line, bytes per line (samtools faidx(5)).
    assert (tmp_path / "a.fa.fai").read_text() == "a\t10\t5\t6\t7\nb\t2\t20\t2\t3\n"


def test_an_index_beside_the_file_is_used_and_one_that_is_older_is_not(tmp_path, bgzip):
    path = tmp_path / "a.fa.gz"
    path.write_bytes(b"".join(bgzip(b">a\nACGT\n")))
    write_index(path)
    index = tmp_path / "a.fa.gz.fai"
    index.write_text("renamed\t4\t3\t4\t5\n")
    with IndexedFasta(path) as file:
        assert file.contigs == {"renamed": 4}
        assert file.fetch("renamed", 0, 4) == "ACGT"
    os.utime(index, (0, 0))
    with (
        pytest.warns(InputWarning, match=r"a\.fa\.gz\.fai: is older than a\.fa\.gz"),
        IndexedFasta(path) as file,
    ):
        assert file.contigs == {"a": 4}


def test_rna_is_read_as_dna_with_one_notice(tmp_path):
    path = tmp_path / "rna.fa"
    path.write_text(">a\nACGUacgu\n")
    (tmp_path / "rna.fa.fai").write_text("a\t8\t3\t8\t9\n")
    with IndexedFasta(path) as file:
        with pytest.warns(InputWarning, match="contig 'a': has the letter U") as notices:
            assert [file.fetch("a", 0, 8), file.fetch("a", 6, 8)] == ["ACGTacgt", "gt"]
        assert len(notices) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (
            gzip.compress(b">a\nACGT\n", mtime=0),
            "gzip, which cannot be read in places; unpack it, or pack it with bgzip",
        ),
        (b">a\nACGT\n>a\nAC\n", "line 3: a second record is named 'a'"),
        (b">a\nACQT\n", "record 'a', line 2: 'Q' is no IUPAC"),
        (b">a\nACGT\nAC\nACGT\n", "cannot be indexed; wrap the sequence"),
        (b">a\nACGT\n\nACGT\n", "cannot be indexed; wrap the sequence"),
        (b"ACGT\n", "FASTA header"),
    ],
)
def test_what_cannot_be_indexed_is_refused_in_one_sentence(tmp_path, capfd, data, message):
    path = tmp_path / "bad.fa"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        IndexedFasta(path)
    assert str(error.value).startswith(str(path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("", "an empty index beside it"),
        ("garbage\n", r"\.fai: is no index of a\.fa"),
        ("a\t999\t3\t60\t61\n", "bases 0 to 8: is no nucleotide sequence"),
        ("a\t8\t0\t8\t9\n", "bases 0 to 8: is no nucleotide sequence"),
        ("a\t8\t900\t8\t9\n", "bases 0 to 8: is no nucleotide sequence"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, capfd, index, message):
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n>b\nAC\n")
    (tmp_path / "a.fa.fai").write_text(index)
    with pytest.raises(UserError, match=message), IndexedFasta(path) as file:
        file.fetch("a", 0, 8)
    assert capfd.readouterr().err == ""


def test_places_that_are_not_in_the_file_are_refused(indexed):
    with pytest.raises(UserError, match="has no contig 'chr1'; the first that it has is 'one'"):
        indexed.fetch("chr1", 0, 1)
    for start, end in ((-1, 3), (5, 3), (0, 62), (70, 80)):
        with pytest.raises(UserError, match=f"contig 'two' has 61 bases, and {start} to {end} is asked"):
            indexed.fetch("two", start, end)


def test_a_missing_file_a_folder_and_standard_input_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.fa: cannot be read"):
        IndexedFasta(tmp_path / "nothing.fa")
    with pytest.raises(UserError, match="is a folder"):
        IndexedFasta(tmp_path)
    with pytest.raises(UserError, match="standard input: cannot be read in places"):
        IndexedFasta("-")
