"""`dnabert2 tokenizer`: what it writes, says and refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dnabert2_jax.cli.main import main
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.training import train_from_fasta


@pytest.fixture
def fasta(random_dna: Callable[[int, int], str], tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(f">contig\n{random_dna(20_000, 7)}\n")
    return path


def run(*words: str | Path) -> int:
    return main(["tokenizer", *map(str, words)])


def test_train(fasta: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tokenizer"
    assert run("train", "--fasta", fasta, "--vocab-size", "64", "--output", folder) == 0
    tokenizer, _ = train_from_fasta([fasta], 64, sample_bases=100_000_000, seed=0)
    assert load_tokenizer(folder) == tokenizer
    out, err = capfd.readouterr()
    assert out.startswith(f"{folder}: 64 tokens learnt from 20,000 of 20,000 bases, both strands; ")
    assert err == ""


def test_kmers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("kmers", "--k", "5", "--output", tmp_path / "a") == 0
    assert run("kmers", "--overlapping", "--output", tmp_path / "b") == 0
    assert load_tokenizer(tmp_path / "a") == KmerTokenizer(5, overlapping=False)
    assert load_tokenizer(tmp_path / "b") == KmerTokenizer(6, overlapping=True)
    assert capfd.readouterr().out == (
        f"{tmp_path / 'a'}: 1033 tokens for words of 5 letters, not overlapping\n"
        f"{tmp_path / 'b'}: 4101 tokens for words of 6 letters, overlapping\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--fasta", "missing.fa", "--output", "new"], "missing.fa: "),
        (["train", "--fasta", "genome.fa", "--vocab-size", "60000", "--output", "new"], "too little for a"),
        (["train", "--fasta", "genome.fa", "--vocab-size", "8", "--output", "new"], "choose one from 9 to"),
        (["train", "--fasta", "genome.fa", "--output", "full"], "full: exists already"),
        (["kmers", "--k", "9", "--output", "new"], "k is 9; choose 3 to 8"),
        (["kmers", "--output", "full"], "full: exists already"),
        (["kmers"], "required: --output"),
    ],
)
def test_bad_requests_end_in_a_sentence(
    words: list[str],
    sentence: str,
    fasta: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(fasta.parent)
    Path("full").mkdir()
    Path("full", "file").touch()
    before = sorted(Path().iterdir())
    assert run(*words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before
