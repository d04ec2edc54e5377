import gzip
import io
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert2_jax.data.sequences import read_sequences
from dnabert2_jax.errors import InputWarning, UserError

TABLE = "name,sequence,score\nfirst,ACGT,1\nsecond,ggnn,2\n"
EXPECTED = [("first", "ACGT"), ("second", "ggnn")]


def named(entries) -> list[tuple]:
    """Names and sequences."""
    return [entry[:2] for entry in entries]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fa", ">first x y\nAC\nGT\n>second\nggnn\n"),
        ("a.txt", "\n\n>first\nACGT\n>second\ngg\nnn"),
        ("a.csv", TABLE),
        ("a.tsv", TABLE.replace(",", "\t")),
        ("a.csv", "\ufeff" + TABLE.replace("\n", "\r\n")),
        ("a.csv", TABLE.replace("name", "id")),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_formats_are_told_by_what_the_file_holds(tmp_path, name, text, compress):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if compress else text.encode())
    assert named(read_sequences(path)) == EXPECTED


def test_rows_without_a_name_are_numbered(tmp_path):
    (tmp_path / "a.csv").write_text("sequence\nACGT\nGG\n")
    assert named(read_sequences(tmp_path / "a.csv")) == [("1", "ACGT"), ("2", "GG")]


@pytest.mark.parametrize("text", [TABLE, ">first\nACGT\n>second\nggnn\n"])
def test_a_dash_is_standard_input(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(text.encode(), mtime=0))))
    assert named(read_sequences("-")) == EXPECTED


@pytest.mark.parametrize("text", ["name,sequence\na,ACGT\nb,GGuU\nc,U\n", ">a\nACGT\n>b\nGGuU\n>c\nU\n"])
def test_rna_is_read_as_dna_with_one_notice(tmp_path, text):
    (tmp_path / "rna").write_text(text)
    with pytest.warns(InputWarning, match="rna: .*has the letter U of RNA") as notices:
        assert named(read_sequences(tmp_path / "rna")) == [("a", "ACGT"), ("b", "GGtT"), ("c", "T")]
    assert len(notices) == 1


def test_messages_say_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"sequence,name\n,x\n")))
    with pytest.raises(UserError, match=r"^standard input: line 2: the sequence is empty"):
        list(read_sequences("-"))


@pytest.mark.filterwarnings("ignore::dnabert2_jax.errors.InputWarning")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path, data):
    (tmp_path / "any").write_bytes(data)
    try:
        list(read_sequences(tmp_path / "any"))
    except UserError as error:
        assert str(tmp_path / "any") in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("ACGT\nACGT\n", "it must have 'sequence'"),
        ("sequence,name\n,x\n", "line 2: the sequence is empty"),
        (">a\nMELVIS\n", "no IUPAC nucleotide code"),
        (">a\nAC\n>b\n\n>c\nA\n", "a: record 'b': the sequence is empty; give one or remove the record"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a").write_text(text)
    with pytest.raises(UserError, match=message):
        list(read_sequences(tmp_path / "a"))


@pytest.mark.parametrize("data", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_called_empty_and_asked_for_no_header(tmp_path, data):
    (tmp_path / "a.fa").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.fa: is empty; give FASTA, or a table"):
        list(read_sequences(tmp_path / "a.fa"))


@pytest.mark.parametrize(
    ("field", "letter"),
    [("MKWVTFISLL", "F"), ("promoter", "p"), ("ACGTNNacgt-ACG", "-"), ("ACGT AC", " "), ("ACGÄ", "Ä")],
)
def test_other_letters_than_nucleotide_codes_are_refused(tmp_path, field, letter):
    (tmp_path / "a.csv").write_text(f"sequence\nACGT\n{field}\n")
    with pytest.raises(
        UserError, match=rf"a\.csv: line 3: the sequence .* is no DNA .*'{letter}' is no IUPAC"
    ):
        list(read_sequences(tmp_path / "a.csv"))


def test_every_nucleotide_code_is_read_in_either_case(tmp_path):
    letters = "ACGTRYSWKMBDHVN"
    (tmp_path / "a.csv").write_text(f"sequence\n  {letters}{letters.lower()} \n")
    assert named(read_sequences(tmp_path / "a.csv")) == [("1", letters + letters.lower())]


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        list(read_sequences(tmp_path / "nowhere"))
