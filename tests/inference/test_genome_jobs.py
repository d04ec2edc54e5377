"""From regions and windows of a genome to files: places, strands, BED out, the map of vectors."""

import csv
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from pyarrow import parquet

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference import jobs, pretrained
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

PLACES = [("I", 5, 65, "one", "+"), ("I", 40, 100, "two", "-"), ("II", 0, 30, "II:0-30", ".")]


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    rng = np.random.default_rng(8)
    return {name: "".join(rng.choice(list("ACGT"), size)) for name, size in (("I", 230), ("II", 30))}


@pytest.fixture
def files(contigs, tmp_path, monkeypatch) -> Path:
    (tmp_path / "genome.fa").write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    rows = [f"{c}\t{s}\t{e}\t{'.' if ':' in name else name}\t0\t{d}\n" for c, s, e, name, d in PLACES]
    (tmp_path / "windows.bed").write_text("".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sequences(contigs) -> list[str]:
    cut = [(contigs[contig][start:end], strand) for contig, start, end, _, strand in PLACES]
    return [reverse_complement(text) if strand == "-" else text for text, strand in cut]


@pytest.fixture(scope="module")
def classifier(tiny_architecture, tiny_tokenizer, tmp_path_factory) -> Path:
    description = ModelDescription(tiny_architecture, ("no", "a promoter", "name"))
    _, parameters = split(description.build(nnx.Rngs(5)))
    folder = tmp_path_factory.mktemp("classifier") / "model"
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained(folder)
    return folder


def run(command, model, *words) -> int:
    return main([command, "--model", str(model), *map(str, words)])


BED = ("--input", "windows.bed", "--genome", "genome.fa")


@pytest.mark.usefixtures("files")
def test_vectors_of_regions(tiny_model, sequences):
    assert run("embed", tiny_model, *BED, "--output", "out.parquet") == 0
    table = parquet.read_table("out.parquet")
    assert table.column_names[:6] == ["name", "contig", "start", "end", "strand", "d0"]
    found = list(
        zip(*(table[name].to_pylist() for name in ("contig", "start", "end", "name", "strand")), strict=True)
    )
    assert found == PLACES
    values = np.stack([column.to_numpy() for column in table.columns[5:]], axis=1)
    np.testing.assert_allclose(values, from_pretrained(tiny_model).embed(sequences), atol=5e-6)


@pytest.mark.usefixtures("files")
def test_vectors_of_tokens_and_bases_lie_on_the_contig(tiny_model, contigs, sequences):
    assert run("embed", tiny_model, *BED, "--output", "tokens.npz", "--pooling", "token") == 0
    with np.load("tokens.npz") as content:
        rows = list(
            zip(*(content[c].tolist() for c in ("contig", "strand", "token", "start", "end")), strict=True)
        )
        assert content["offsets"][-1] == len(rows) == len(content["values"])
    for contig, strand, token, start, end in rows:
        text = contigs[contig][start:end]
        assert token == (reverse_complement(text) if strand == "-" else text)
    assert sum(end - start for *_, start, end in rows) == sum(map(len, sequences))

    options = ["--pooling", "nucleotide", "--reverse-complement"]
    assert run("embed", tiny_model, *BED, "--output", "bases.npz", *options) == 0
    with np.load("bases.npz") as content:
        assert "".join(content["base"].tolist()) == "".join(sequences)
        for contig, strand, base, at in zip(
            *(content[c].tolist() for c in ("contig", "strand", "base", "position")), strict=True
        ):
            letter = contigs[contig][at]
            assert base == (reverse_complement(letter) if strand == "-" else letter)
        # Base i of a sequence is the last but i of its reverse complement.
        model = from_pretrained(tiny_model)
        of_each = [model.embed([text, reverse_complement(text)], "nucleotide") for text in sequences]
        expected = np.concatenate([(one + other[::-1]) / 2 for one, other in of_each])
        np.testing.assert_allclose(content["values"], expected, atol=5e-6)


@pytest.mark.usefixtures("files")
def test_classes_of_regions_as_bed(classifier, sequences, capsys):
    assert run("predict", classifier, *BED, "--output", "out.bed") == 0
    assert "3 rows of 3 class probabilities" in capsys.readouterr().out
    header, *lines = Path("out.bed").read_text().splitlines()
    assert header == "#contig\tstart\tend\tclass\tscore\tstrand\tname\tno\ta promoter\tname_"
    expected = from_pretrained(classifier).predict(sequences)
    for line, (contig, start, end, name, strand), probabilities in zip(lines, PLACES, expected, strict=True):
        fields = line.split("\t")
        best = int(probabilities.argmax())
        assert fields[:4] == [contig, str(start), str(end), ["no", "a_promoter", "name"][best]]
        assert int(fields[4]) == pytest.approx(1000 * probabilities[best], abs=0.51)
        assert fields[5:7] == [strand, name]
        np.testing.assert_allclose(np.array(fields[7:], float), probabilities, atol=1e-6)

    assert run("predict", classifier, *BED, "--output", "out.tsv") == 0
    with open("out.tsv", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows[0] == ["name", "contig", "start", "end", "strand", "no", "a promoter", "name_"]
    assert rows[1][:5] == ["one", "I", "5", "65", "+"]


@pytest.mark.usefixtures("files")
def test_windows_of_a_genome_go_on_where_they_stopped(tiny_model, contigs, monkeypatch):
    monkeypatch.setattr(pretrained, "_BLOCK_BASES", 100)
    command = ["--input", "genome.fa", "--windows", "50", "--step", "20"]
    assert run("embed", tiny_model, *command, "--output", "straight.npz") == 0
    add = jobs.Parts.add

    def add_and_stop(self, *rest):
        add(self, *rest)
        if self.sequences > 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.Parts, "add", add_and_stop)
        assert run("embed", tiny_model, *command, "--output", "out.npz") == 130
    assert run("embed", tiny_model, *command, "--output", "out.npz") == 0
    assert Path("out.npz").read_bytes() == Path("straight.npz").read_bytes()
    with np.load("out.npz") as content:
        places = list(
            zip(content["contig"].tolist(), content["start"].tolist(), content["end"].tolist(), strict=True)
        )
        values = content["values"]
    assert places == [("I", start, start + 50) for start in range(0, 181, 20)] + [("II", 0, 30)]
    expected = from_pretrained(tiny_model).embed(
        [contigs[contig][start:end] for contig, start, end in places]
    )
    np.testing.assert_allclose(values, expected, atol=5e-6)

    shard = [*command, "--shard", "1", "--num-shards", "3"]
    assert run("embed", tiny_model, *shard, "--output", "shard.npz") == 0
    with np.load("shard.npz") as content:
        assert content["start"].tolist() == [start for _, start, _ in places][1::3]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([*BED, "--windows", "9", "--output", "o.csv"], "--genome is for the regions of a BED file"),
        (["--input", "genome.fa", "--step", "9", "--output", "o.csv"], "--step is of --windows"),
        (["--input", "genome.fa", "--windows", "0", "--output", "o.csv"], "--windows"),
        (["--input", "windows.bed", "--windows", "9", "--output", "o.csv"], "windows.bed: line 1"),
        (
            ["--input", "genome.fa", "--genome", "genome.fa", "--output", "o.csv"],
            "genome.fa: line 1: has 1 col",
        ),
        ([*BED, "--output", "genome.fa"], "genome.fa: is the input"),
        ([*BED, "--output", "o.bed"], "o.bed: BED holds classes with a probability"),
        ([*BED, "--output", "o.csv", "--picture", "map.gif"], "map.gif: name a --picture that ends in .png"),
        (
            [*BED, "--output", "o.csv", "--picture", "m.png", "--pooling", "token"],
            "leave out --pooling token",
        ),
    ],
)
def test_requests_that_make_no_sense(tiny_model, files, words, complaint, capsys):
    before = sorted(path.name for path in files.iterdir())
    assert run("embed", tiny_model, *words) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in files.iterdir()) == before


@pytest.mark.usefixtures("files")
def test_bed_needs_places(classifier, capsys):
    assert run("predict", classifier, "--input", "genome.fa", "--output", "o.bed") == 2
    assert "o.bed: BED holds places in a genome; give a BED file with --genome" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "beginning"), [("map.png", b"\x89PNG"), ("map.svg", b"<svg")])
def test_a_map_of_the_vectors(tiny_model, contigs, tmp_path, name, beginning, capsys):
    table = tmp_path / "in.csv"
    rows = [
        f"{contigs['I'][start : start + 40]},{label}\n"
        for start, label in zip(range(9), "xyz" * 3, strict=True)
    ]
    table.write_text("sequence,label\n" + "".join(rows))
    words = ["--input", table, "--output", tmp_path / "out.npz", "--picture", tmp_path / name]
    assert run("embed", tiny_model, *words) == 0
    assert f"{tmp_path / name}: a map of 9 vectors" in capsys.readouterr().out
    assert (tmp_path / name).read_bytes().startswith(beginning)
    if name.endswith("svg"):
        picture = (tmp_path / name).read_text()
        assert all(f">{label}</text>" in picture for label in "xyz")
        assert picture.count("<use") >= 9


def test_a_sample_is_spread_evenly_over_the_blocks(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_BLOCK_BASES", 30)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), 12)) for _ in range(23)]
    (tmp_path / "in.csv").write_text(
        "sequence,label\n" + "".join(f"{text},{place}\n" for place, text in enumerate(texts))
    )
    model = from_pretrained(tiny_model)
    files = jobs.Files(tmp_path / "in.csv", tmp_path / "out.npz")
    outcome = jobs.embed_file(model, files, "mean", jobs.Running(), lambda _: None, sample=8)
    assert outcome.sample is not None
    assert outcome.sample.labels == [str(place) for place in range(0, 23, 3)]
    np.testing.assert_allclose(outcome.sample.values, model.embed(texts[::3]), atol=5e-6)
