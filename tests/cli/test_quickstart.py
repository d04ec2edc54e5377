"""The quickstart looks before it clears: what is not its own stays."""

import pytest

from dnabert2_jax.cli.main import main


@pytest.fixture
def former(tmp_path):
    """The folder of a former quickstart."""
    folder = tmp_path / "quick start"
    (folder / "genomes").mkdir(parents=True)
    (folder / ".quickstart").touch()
    (folder / "report.html").write_text("former")
    return folder


def refusal(capsys, *words) -> str:
    assert main(["quickstart", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_missing_genome_costs_nothing(former, capsys):
    assert "nosuch.fa" in refusal(capsys, "--output", former, "--fasta", "nosuch.fa")
    assert (former / "report.html").read_text() == "former"


def test_a_genome_in_the_output_folder_is_refused(former, capsys):
    genome = former / "genomes" / "mine.fa"
    genome.write_text(">a\nACGT\n")
    assert "clears" in refusal(capsys, "--output", former, "--fasta", genome)
    assert genome.exists()


def test_other_folders_and_files_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("")
    assert "is no former quickstart" in refusal(capsys, "--output", tmp_path)
    assert "cannot be made" in refusal(capsys, "--output", tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
