from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert2_jax.data.genome_table import OPTIONAL, REQUIRED, read_genome_table
from dnabert2_jax.data.inputs import CorpusInput
from dnabert2_jax.errors import UserError

CORPORA = Path(__file__).resolve().parents[2] / "configs" / "corpora"

here = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with three genomes, of which only the names matter here."""
    (tmp_path / "mouse").mkdir()
    for name in ("yeast.fa", "mouse/chr1.fa", "mouse/chr2.fa", "regions.bed"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "table.tsv"
    path.write_text(text)
    return path


def test_a_table_of_two_species(folder):
    table = write(
        folder,
        "# A comment.\n"
        "path\tspecies\tsplit\tweight\texpected_bases\tdrop_bed\n"
        "\n"
        "yeast.fa\tSaccharomyces cerevisiae\tvalidation\n"
        "# Mammals\n"
        "mouse/chr1.fa\tMus musculus\t\t2.5\t1e9\tregions.bed\r\n"
        f"{folder}/mouse/chr2.fa\tMus musculus\tauto\t2.5\t1000000000\t\n",
    )
    assert read_genome_table(table) == [
        CorpusInput(
            species="Saccharomyces cerevisiae", path=folder / "yeast.fa", kind="fasta", split="validation"
        ),
        CorpusInput(
            species="Mus musculus",
            path=folder / "mouse/chr1.fa",
            weight=2.5,
            expected_bases=10**9,
            drop_bed=folder / "regions.bed",
        ),
        CorpusInput(species="Mus musculus", path=folder / "mouse/chr2.fa", weight=2.5, expected_bases=10**9),
    ]


def test_the_columns_come_in_any_order(folder):
    table = write(folder, "weight\tspecies\tpath\n3\tyeast\tyeast.fa\n")
    assert read_genome_table(table) == [CorpusInput(species="yeast", path=folder / "yeast.fa", weight=3.0)]


HEADER = "path\tspecies\tsplit\tweight\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("# nothing\n", "has no rows"),
        (HEADER, "has no rows"),
        ("path species\nyeast.fa yeast\n", r"line 1: the header has no column 'path'"),
        ("path\tspecies\tweigth\n", r"line 1: the header has the column 'weigth'"),
        ("path\tspecies\tpath\n", "line 1: the header names a column twice"),
        (HEADER + "yeast.fa\tyeast\t\t1\textra\n", "line 2: has 5 fields and the header 4"),
        (HEADER + "missing.fa\tyeast\n", r"line 2: the path 'missing.fa' is no file"),
        (HEADER + "mouse\tyeast\n", r"line 2: the path 'mouse' is no file"),
        (HEADER + "\tyeast\n\tmouse\n", r"line 2: the path of 'yeast' is empty \(and that of 1 other rows\)"),
        (HEADER + "yeast.fa\t\n", "line 2: the species is empty"),
        (HEADER + "yeast.fa\tyeast\ttest\n", "line 2: the split 'test' is none"),
        (HEADER + "yeast.fa\tyeast\t\tmuch\n", "line 2: the weight 'much' is no number above 0"),
        (HEADER + "yeast.fa\tyeast\t\t0\n", "line 2: the weight '0' is no number above 0"),
        (HEADER + "yeast.fa\tyeast\t\tinf\n", "line 2: the weight 'inf' is no number above 0"),
        (HEADER + "yeast.fa\tyeast\nyeast.fa\tyeast\n", "is given already, for 'yeast'"),
        (HEADER + "yeast.fa\ta\nmouse/../yeast.fa\tb\n", "is given already, for 'a'"),
        (
            HEADER + "yeast.fa\ta\ttrain\nmouse/chr1.fa\ta\tvalidation\n",
            "its split is 'validation', and that of .*yeast.fa, of the same species 'a', is 'train'",
        ),
        (HEADER + "yeast.fa\ta\t\t2\nmouse/chr1.fa\tb\n", "'b' has no weight and others have one"),
    ],
)
def test_what_is_wrong_is_named(folder, text, message):
    table = write(folder, text)
    with pytest.raises(UserError, match=message) as error:
        read_genome_table(table)
    assert str(table) in str(error.value)


def test_a_species_that_is_held_out_needs_no_weight(folder):
    inputs = read_genome_table(write(folder, HEADER + "yeast.fa\ta\t\t2\nmouse/chr1.fa\tb\tvalidation\n"))
    assert [given.weight for given in inputs] == [2.0, None]


def test_a_table_that_cannot_be_read(folder):
    with pytest.raises(UserError, match="cannot be read"):
        read_genome_table(folder / "nowhere.tsv")
    with pytest.raises(UserError, match="is a folder"):
        read_genome_table(folder)
    (folder / "latin.tsv").write_bytes(b"path\tspecies\nyeast.fa\tna\xefve\n")
    with pytest.raises(UserError, match="line 2: is not UTF-8"):
        read_genome_table(folder / "latin.tsv")


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1).filter(
    lambda name: name == name.strip() and not name.startswith("#")
)


@here
@given(
    st.lists(names, min_size=1, max_size=3, unique=True),
    st.sampled_from(["train", "auto"]),
    st.floats(1e-300, 1e300),
)
def test_what_is_written_is_read(folder, species, split, weight):
    files = ["yeast.fa", "mouse/chr1.fa", "mouse/chr2.fa"]
    rows = "".join(
        f"{file}\t{name}\t{split}\t{weight!r}\n" for file, name in zip(files, species, strict=False)
    )
    inputs = read_genome_table(write(folder, HEADER + rows))
    assert [(given.species, given.split, given.weight) for given in inputs] == [
        (name, split, weight) for name in species
    ]


cells = st.sampled_from(["", "yeast.fa", "mouse", "#", "train", "-1", "1e999", "nan", "\0", '"', "ä", " "])
lines = st.lists(st.one_of(cells, st.sampled_from([*REQUIRED, *OPTIONAL])), max_size=6).map("\t".join)


@here
@given(st.one_of(st.binary(max_size=80), st.lists(lines, max_size=5).map(lambda x: "\n".join(x).encode())))
def test_any_bytes_are_read_or_refused(folder, content):
    path = folder / "any.tsv"
    path.write_bytes(content)
    try:
        inputs = read_genome_table(path)
    except UserError as error:
        message = str(error)
    else:
        message = "any.tsv" if all(given.path.is_file() and given.species for given in inputs) else ""
    assert "any.tsv" in message
    assert "\n" not in message


class TestTablesOfThePaper:
    def rows(self, name: str) -> list[list[str]]:
        lines = (CORPORA / name).read_text().splitlines()
        return [line.split("\t") for line in lines if not line.startswith("#")][1:]

    def test_the_135_species_add_up_to_the_corpus(self):
        rows = self.rows("dnabert2_paper.tsv")
        assert len({row[1] for row in rows}) == len(rows) == 135
        assert sum(int(row[4]) for row in rows) == pytest.approx(32.49e9, rel=1e-3)

    def test_they_are_those_of_table_11(self, shared):
        table = (shared / "tables" / "table11_pretraining_species.csv").read_text().splitlines()[1:]
        printed = {row.split(",")[1]: float(row.split(",")[3]) for row in table}
        ours = {row[1]: int(row[4]) / 1e6 for row in self.rows("dnabert2_paper.tsv")}
        assert ours == pytest.approx(printed)

    @pytest.mark.parametrize("name", ["dnabert2_paper.tsv", "human.tsv"])
    def test_they_want_to_be_filled(self, name, tmp_path):
        with pytest.raises(UserError, match=r"the path of '.*' is empty.*fill in its FASTA file"):
            read_genome_table(CORPORA / name)
        (tmp_path / "g.fa").touch()
        header, rows = (CORPORA / name).read_text().split("expected_bases\n", 1)
        first = next(line for line in rows.splitlines() if not line.startswith("#"))
        (tmp_path / name).write_text(f"{header}expected_bases\ng.fa{first}\n")
        (given,) = read_genome_table(tmp_path / name)
        assert given.expected_bases
        assert given.expected_bases > 10**6
