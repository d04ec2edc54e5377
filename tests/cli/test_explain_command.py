"""`dnabert2 explain` as people use it: sequences and regions in, a folder out, and what it refuses."""

import numpy as np
import pandas
import pytest
from flax import nnx
from html_pages import check_html

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.alleles import AlleleWindows
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.base_probabilities import base_probabilities, read_bases
from dnabert2_jax.inference.explain_output import safe_name
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.mutagenesis import mutagenesis
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.unigram import genome_unigram
from dnabert2_jax.inference.variants import MaskedScorer
from dnabert2_jax.inference.views import Subject
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

BASES = list("ACGT")
SEQUENCES = {"one/1": "GATTACAGGCATNGATCCG", "one?1": "TTGACAGCTAGCTCAGTCC"}


@pytest.fixture(scope="module")
def classifier(tiny_architecture, tiny_tokenizer, tmp_path_factory):
    description = ModelDescription(tiny_architecture, ("none", "a donor"))
    _, parameters = split(description.build(nnx.Rngs(5)))
    folder = tmp_path_factory.mktemp("classifier") / "model"
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in SEQUENCES.items()))
    return path


@pytest.fixture
def bed(tmp_path, tiny_fasta):
    with IndexedFasta(tiny_fasta) as file:
        contig = next(iter(file.contigs))
    path = tmp_path / "in.bed"
    path.write_text(f"{contig}\t500\t520\tleft\t0\t+\n{contig}\t900\t931\tright\t0\t-\n")
    return path


def explain(model, output, *words):
    return main(["explain", "--model", str(model), "--output", str(output), *map(str, words)])


def load(path):
    with np.load(path, allow_pickle=False) as content:
        return dict(content)


def test_mutagenesis_of_a_classifier(classifier, fasta, tmp_path, capsys):
    output = tmp_path / "out"
    assert explain(classifier, output, "--input", fasta, "--phases", 2) == 0
    said = capsys.readouterr()
    assert "mutagenesis of 38 bases in 2 sequences, pictures of 2, and their mean" in said.out
    assert said.err == ""
    pictures = {
        f"{name}.{kind}.{end}"
        for name in ("one_1", "one_1-2", "average")
        for kind in ("logo", "map")
        for end in ("png", "svg")
    }
    arrays = {"one_1.npz", "one_1-2.npz", "average.npz"}
    assert {path.name for path in output.iterdir()} == pictures | arrays | {"table.tsv", "report.html"}
    model = from_pretrained(classifier)
    table = pandas.read_csv(output / "table.tsv", sep="\t")
    assert table.columns.tolist() == ["name", "position", "ref", *BASES]
    found = []
    for file, (name, sequence) in zip(("one_1", "one_1-2"), SEQUENCES.items(), strict=True):
        content = load(output / f"{file}.npz")
        expected = mutagenesis(model, sequence, phases=2)
        np.testing.assert_allclose(content["values"], expected, atol=1e-5)
        log_odds = mutagenesis(model, sequence, phases=2, scale="log_odds")
        np.testing.assert_allclose(content["log_odds"], log_odds, atol=1e-5)
        assert content["values"].dtype == np.float32
        assert content["bases"].tolist() == BASES
        assert (content["sequence"], content["name"], content["class_name"]) == (sequence, name, "a donor")
        assert content["quantity"] == "change in probability of a donor"
        rows = table[table["name"] == name]
        assert "".join(rows["ref"].tolist()) == sequence
        assert rows["position"].tolist() == list(range(1, len(sequence) + 1))
        np.testing.assert_allclose(rows[BASES], expected, atol=1e-5)
        found.append(expected)
    np.testing.assert_allclose(load(output / "average.npz")["values"], np.nanmean(found, axis=0), atol=1e-5)
    page = (output / "report.html").read_text()
    check_html(page)
    assert page.count("<figure>") == 6
    assert "a donor" in page


@pytest.mark.slow
def test_bases_of_regions_with_their_flanks(tiny_model, tiny_fasta, bed, tmp_path):
    output = tmp_path / "out"
    words = ("--input", bed, "--genome", tiny_fasta, "--window", 100, "--center", 24, "--pictures", 1)
    assert explain(tiny_model, output, *words) == 0
    model = from_pretrained(tiny_model)
    table = pandas.read_csv(output / "table.tsv", sep="\t")
    with IndexedFasta(tiny_fasta) as file:
        contig = next(iter(file.contigs))
        log_unigram = genome_unigram(file, model.tokenizer)
        for name, start in (("left", 498), ("right", 904)):
            end = start + 24
            parts = [
                file.fetch(contig, *place).upper()
                for place in ((start - 38, start), (start, end), (end, end + 38))
            ]
            if name == "right":
                parts = [reverse_complement(part) for part in parts[::-1]]
            content = load(output / f"{name}.npz")
            expected = read_bases(model, Subject(*parts), window=100, log_unigram=log_unigram)
            np.testing.assert_allclose(content["values"], expected.values, atol=1e-5)
            assert expected.background is not None
            np.testing.assert_allclose(content["background"], expected.background, atol=1e-6)
            assert (content["contig"], content["start"], content["end"]) == (contig, start, end)
            rows = table[table["name"] == name]
            np.testing.assert_allclose(rows[BASES], expected.values, atol=1e-5)
            for position, ref in zip(rows["genome_position"].tolist(), rows["ref"].tolist(), strict=True):
                there = file.fetch(contig, position - 1, position).upper()
                assert ref == (there if name == "left" else reverse_complement(there))
    assert (output / "left.logo.png").exists()
    assert not (output / "right.logo.png").exists()
    mean = load(output / "average.npz")
    np.testing.assert_allclose(mean["values"].sum(axis=1), 1, atol=1e-5)
    assert mean["sequences"] == 2


@pytest.mark.slow
def test_a_region_is_a_line_of_bed(tiny_model, tiny_fasta, bed, tmp_path):
    contig = bed.read_text().partition("\t")[0]
    common = ("--genome", tiny_fasta, "--window", 60, "--phases", 1, "--pictures", 0)
    assert explain(tiny_model, tmp_path / "bed", "--input", bed, *common) == 0
    assert explain(tiny_model, tmp_path / "region", "--region", f"{contig}:501-520", *common) == 0
    (name,) = (path.stem for path in (tmp_path / "region").glob("*.npz"))
    one, other = load(tmp_path / "bed" / "left.npz"), load(tmp_path / "region" / f"{name}.npz")
    np.testing.assert_allclose(one["values"], other["values"], atol=1e-6)
    assert not (tmp_path / "bed" / "average.npz").exists()
    assert "differ in length" in (tmp_path / "bed" / "report.html").read_text()


@pytest.mark.slow
def test_attention(tiny_model, fasta, tmp_path):
    output = tmp_path / "out"
    assert (
        explain(tiny_model, output, "--input", fasta, "--what", "attention", "--layers", "-1", "--center", 9)
        == 0
    )
    model = from_pretrained(tiny_model)
    sequence = SEQUENCES["one?1"]
    content = load(output / "one_1-2.npz")
    maps = np.asarray(model.attention_maps(model.tokenizer.encode(sequence)[None], layers=[1]))[:, 0]
    np.testing.assert_allclose(content["values"], maps, atol=1e-6)
    assert content["offset"] == 5
    # Places are counted from the first base that is explained.
    assert content["starts"][1] == -5
    assert content["ends"].max() == len(sequence) - 5
    both = [load(output / f"{name}.npz")["from_centre"] for name in ("one_1", "one_1-2")]
    assert both[0].shape == (1, 4, 9)
    np.testing.assert_allclose(load(output / "average.npz")["from_centre"], np.mean(both, axis=0), atol=1e-6)
    assert (output / "one_1.heads.svg").exists()
    check_html((output / "report.html").read_text())


@pytest.mark.slow
def test_one_strand_and_mutants_of_a_masked_model(tiny_model, tiny_fasta, tmp_path):
    model = from_pretrained(tiny_model)
    with IndexedFasta(tiny_fasta) as file:
        contig = next(iter(file.contigs))
        log_unigram = genome_unigram(file, model.tokenizer)
        left, bases, right = (file.fetch(contig, *part) for part in ((476, 500), (500, 512), (512, 536)))
    words = ("--region", f"{contig}:501-512", "--genome", tiny_fasta, "--what", "mutagenesis", "--window", 60)
    output = tmp_path / "out"
    assert explain(tiny_model, output, *words, "--one-strand", "--phases", 1, "--pictures", 0) == 0
    how = {"left": left, "right": right, "window": 60, "log_unigram": log_unigram}
    expected = mutagenesis(model, bases, reverse_complement=False, phases=1, **how)
    (found,) = output.glob("*.npz")
    np.testing.assert_allclose(load(found)["values"], expected, atol=1e-5)
    scorer = MaskedScorer(model, log_unigram)
    other = "C" if bases[0] != "C" else "A"
    mutant = AlleleWindows(left + bases + right, left + other + bases[1:] + right, 24)
    (score,) = scorer.score([mutant], [False])
    np.testing.assert_allclose(expected[0, "ACGT".index(other)], score.forward, atol=1e-5)


def test_a_table_and_a_sequence_without_bases(tiny_model, tmp_path):
    (tmp_path / "in.csv").write_text("name,sequence\nnothing,NNNN\naverage,gattacag\n")
    assert explain(tiny_model, tmp_path / "out", "--input", tmp_path / "in.csv") == 0
    assert np.isnan(load(tmp_path / "out" / "nothing.npz")["values"]).all()
    found = load(tmp_path / "out" / "average-2.npz")["values"]
    np.testing.assert_allclose(found, base_probabilities(from_pretrained(tiny_model), "GATTACAG"), atol=1e-5)


def test_names_are_safe_and_differ():
    taken = {"average": 1}
    names = ["a b", "a/b", "A_B", "../../etc", "", "µ", "average", "x" * 300, "a b"]
    found = [safe_name(name, taken) for name in names]
    assert found == ["a_b", "a_b-2", "A_B-3", "etc", "sequence", "sequence-2", "average-2", "x" * 80, "a_b-4"]
    assert len({name.lower() for name in found}) == len(names)


def test_bad_requests_are_refused_and_leave_nothing(
    tiny_model, classifier, fasta, tiny_fasta, bed, tmp_path, capsys
):
    (tmp_path / "pairs.csv").write_text("sequence1,sequence2\nACGT,ACGT\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    good = ("--input", fasta)
    for model, words, complaint in [
        (tiny_model, (), "name either an --input, or a --region"),
        (tiny_model, (*good, "--region", "a:1-2"), "name either an --input, or a --region"),
        (tiny_model, ("--region", "a:1-2"), "name its FASTA file too (--genome)"),
        (tiny_model, ("--region", "a:1-2", "--genome", tiny_fasta), "has no contig 'a'"),
        (tiny_model, (*good, "--class", "x"), "--class is for mutagenesis"),
        (tiny_model, (*good, "--layers", "0"), "--layers is for --what attention"),
        (tiny_model, (*good, "--what", "attention", "--layers", "9"), "there is no layer 9"),
        (tiny_model, (*good, "--what", "attention", "--layers", "x"), "--layers is x"),
        (
            tiny_model,
            (*good, "--what", "attention", "--phases", "2"),
            "--phases and --one-strand are not",
        ),
        (tiny_model, (*good, "--what", "attention", "--window", "16"), "has 19 bases and --window is 16"),
        (tiny_model, (*good, "--what", "mutagenesis"), "relative to token frequencies; name the --corpus"),
        (tiny_model, (*good, "--window", "5"), "--window"),
        (tiny_model, (*good, "--center", "30"), "one/1: has 19 bases, and --center asks for 30"),
        (tiny_model, ("--input", tmp_path / "pairs.csv"), "is a pair"),
        (tiny_model, ("--input", tmp_path / "none.fa"), "none.fa"),
        (tiny_model, ("--input", bed, "--genome", tmp_path / "none.fa"), "none.fa"),
        (tiny_model, (*good, "--corpus", tmp_path / "none"), "none"),
        (classifier, (*good, "--what", "bases"), "no masked-language-model head"),
        (classifier, (*good, "--class", "acceptor"), "no class 'acceptor'; it has none, a donor"),
        (classifier, (*good, "--corpus", "x"), "--corpus is for masked-language models"),
    ]:
        assert explain(model, tmp_path / "out", *words) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
    assert explain(tiny_model, tmp_path / "taken", *good) == 2
    assert "exists already" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_help_has_examples_and_limits(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "dnabert2 explain --model classifier/model --input promoters.fa" in said
    assert "What this is not" in said
