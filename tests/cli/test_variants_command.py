"""`dnabert2 variants` as people use it: VCF in, VCF, TSV and Parquet out, and what it refuses."""

import gzip
import io
import os
import shutil
import sys

import numpy as np
import pyarrow.parquet
import pysam
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.variant_annotations import Annotator
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

_HEADER = """##fileformat=VCFv4.3
##contig=<ID={contig},length={length}>
##INFO=<ID=AC,Number=A,Type=Integer,Description="count">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


@pytest.fixture(scope="module")
def vcf(tiny_fasta):
    """A VCF of the tiny genome: two with two alleles, one of each reason, not sorted."""
    with IndexedFasta(tiny_fasta) as fasta:
        contig, length = next(iter(fasta.contigs.items()))
        at = {start: fasta.fetch(contig, start, start + 3).upper() for start in (500, 2_000, 900)}
    other = str.maketrans("ACGT", "CGTA")
    one = at[500][0]
    records = [
        (contig, 501, one, f"{one.translate(other)},{one}TT", "AC=1,2"),
        (contig, 2_001, at[2_000], f"{at[2_000][0]},*", "."),
        (contig, 901, at[900][0], at[900][0].translate(other), "AC=3"),
        (contig, 501, one.translate(other), one, "."),
        (contig, 901, at[900][0], "<DEL>", "."),
        (contig, 901, at[900][0], ".", "."),
        (contig, length + 1, "A", "C", "."),
        ("absent", 9, "A", "C", "."),
    ]
    lines = ["\t".join([c, str(p), ".", r, a, "9", "PASS", i]) for c, p, r, a, i in records]
    return _HEADER.format(contig=contig, length=length) + "\n".join(lines) + "\n"


@pytest.fixture
def run(tmp_path, tiny_fasta, tiny_model, vcf):
    """run(output, *words) → the exit status, on the VCF of this module."""
    (tmp_path / "in.vcf").write_text(vcf)

    def run(output, *words, source=tmp_path / "in.vcf", model=tiny_model):
        common = [
            "variants",
            "-I",
            source,
            "-O",
            output,
            "-R",
            tiny_fasta,
            "--model",
            model,
            "--window",
            "60",
        ]
        return main([*map(str, common), *words])

    return run


def test_vcf_out(run, tmp_path, vcf, capsys):
    assert run(tmp_path / "out.vcf.gz", "--bases", "--null", "3", "--embedding") == 0
    said = capsys.readouterr().err
    assert "8 records, 4 alleles annotated" in said
    for reason in ("missing_allele", "ref_mismatch", "symbolic_allele", "no_alternative", "outside_contig"):
        assert f"1 {reason}" in said
    written = gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).decode().splitlines()
    kept = [line for line in written if not line.startswith("##INFO=<ID=DNABERT2,")]
    assert len(kept) == len(written) - 1
    for line, before in zip(kept, vcf.splitlines(), strict=True):
        fields, expected = line.split("\t"), before.split("\t")
        assert fields[:7] == expected[:7]
        if not line.startswith("#"):
            assert fields[7].startswith("DNABERT2=" if expected[7] == "." else f"{expected[7]};DNABERT2=")
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        description = str(file.header.info["DNABERT2"].description)
        names = description.partition("ALT: ")[2].partition(" ")[0].split("|")
        values = [record.info["DNABERT2"] for record in file]
    assert names[:4] == ["score", "forward", "reverse", "difference"]
    assert names[6:] == ["p_A", "p_C", "p_G", "p_T", "z", "distance"]
    assert [len(value) for value in values] == [2, 2, 1, 1, 1, 1, 1, 1]
    snv, insertion = (dict(zip(names, value.split("|"), strict=True)) for value in values[0])
    assert float(snv["score"]) == pytest.approx((float(snv["forward"]) + float(snv["reverse"])) / 2, rel=1e-4)
    assert sum(float(snv[f"p_{base}"]) for base in "ACGT") == pytest.approx(1, abs=1e-5)
    assert snv["z"] == insertion["p_A"] == "."
    assert float(insertion["z"])
    assert values[3:] == [
        ("ref_mismatch",),
        ("symbolic_allele",),
        ("no_alternative",),
        ("outside_contig",),
        ("contig_absent",),
    ]
    assert values[1][1] == "missing_allele"


def test_tables_hold_the_numbers_of_the_vcf(run, tmp_path):
    for name in ("out.vcf", "out.tsv", "out.parquet"):
        assert run(tmp_path / name) == 0
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    lines = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as file:
        alleles = [
            (record.chrom, record.pos, value.split("|"))
            for record in file
            for value in record.info["DNABERT2"]
        ]
    assert len(table) == len(rows) == len(alleles) == 10
    for entry, row, (contig, position, value) in zip(table, rows, alleles, strict=True):
        assert (entry["chrom"], entry["pos"]) == (contig, position) == (row["chrom"], int(row["pos"]))
        assert (entry["ref"], entry["alt"]) == (row["ref"], row["alt"])
        if entry["reason"] is None:
            assert float(value[0]) == pytest.approx(entry["score"], rel=1e-5) == float(row["score"])
        else:
            assert value == [entry["reason"]] == [row["reason"]]
            assert entry["score"] is None
            assert row["score"] == ""


def test_blocks_of_any_size_give_the_same(run, tmp_path, monkeypatch):
    assert run(tmp_path / "one.parquet", "--null", "3") == 0
    monkeypatch.setattr("dnabert2_jax.inference.variant_jobs._BLOCK_RECORDS", 3)
    monkeypatch.setattr("dnabert2_jax.inference.variant_jobs._BLOCK_ALLELES", 2)
    assert run(tmp_path / "many.parquet", "--null", "3") == 0
    one, many = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("one", "many"))
    assert one.schema == many.schema
    for name in one.schema.names:
        if name in ("score", "forward", "reverse", "difference", "z"):
            found, expected = (table[name].to_numpy() for table in (many, one))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if name != "z" else 1e-3)
        else:
            assert one[name] == many[name]


def test_a_run_goes_on_where_it_stopped(run, tmp_path, monkeypatch, capsys):
    assert run(tmp_path / "straight.vcf", "--null", "3") == 0
    monkeypatch.setattr("dnabert2_jax.inference.variant_jobs._BLOCK_RECORDS", 2)
    annotate, asked = Annotator.annotate, []

    def counting(self, genome, changes):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(changes))
        return annotate(self, genome, changes)

    with monkeypatch.context() as patch:
        patch.setattr(Annotator, "annotate", counting)
        assert run(tmp_path / "out.vcf", "--null", "3") == 130
        assert "4 records are done and kept; the same command goes on" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *(".out.vcf.parts", "in.vcf", "straight.vcf"),
        ]
        asked[:] = [0]
        assert run(tmp_path / "out.vcf", "--null", "3", "--batch-size", "4") == 130  # one block more
    capsys.readouterr()
    assert run(tmp_path / "out.vcf", "--null", "3") == 0
    assert "8 records (6 were done before), 4 alleles annotated" in capsys.readouterr().err
    assert numbers_of(tmp_path / "out.vcf") == pytest.approx(numbers_of(tmp_path / "straight.vcf"), abs=1e-3)
    assert not (tmp_path / ".out.vcf.parts").exists()


def test_other_options_begin_anew(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dnabert2_jax.inference.variant_jobs._BLOCK_RECORDS", 1)
    annotate = Annotator.annotate

    def once(self, genome, changes):
        monkeypatch.setattr(Annotator, "annotate", stop)
        return annotate(self, genome, changes)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Annotator, "annotate", once)
    assert run(tmp_path / "out.vcf") == 130
    monkeypatch.setattr(Annotator, "annotate", annotate)
    capsys.readouterr()
    assert run(tmp_path / "out.vcf", "--bases") == 0
    assert "done with another input, model or options; it is begun anew" in capsys.readouterr().err
    assert len(numbers_of(tmp_path / "out.vcf")) == 4 * 10


def numbers_of(path):
    """All numbers of a VCF, in order; nothing where they do not apply."""
    with pysam.VariantFile(str(path)) as file:
        values = [value for record in file for value in record.info["DNABERT2"] if "|" in value]
    return [float(field) if field != "." else 0.0 for value in values for field in value.split("|")]


def test_from_a_pipe_to_a_pipe(run, tmp_path, vcf, monkeypatch):
    assert run(tmp_path / "out.vcf") == 0
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(vcf.encode()))))
    monkeypatch.setattr(sys, "stdout", out)
    assert run("-", source="-") == 0
    assert out.buffer.getvalue() == (tmp_path / "out.vcf").read_bytes()


def test_lines_that_end_as_on_windows(run, tmp_path, vcf):
    (tmp_path / "in.vcf").write_text(vcf)
    assert run(tmp_path / "unix.vcf") == 0
    (tmp_path / "in.vcf").write_bytes(vcf.replace("\n", "\r\n").encode())
    assert run(tmp_path / "out.vcf") == 0
    expected = (tmp_path / "unix.vcf").read_bytes().replace(b"\n", b"\r\n")
    assert (tmp_path / "out.vcf").read_bytes() == expected


def test_a_genome_without_an_index_in_a_folder_that_is_only_read(run, tmp_path, tiny_fasta):
    folder = tmp_path / "read_only"
    folder.mkdir()
    (folder / "genome.fa").write_bytes(tiny_fasta.read_bytes())
    folder.chmod(0o500)
    try:
        assert run(tmp_path / "out.vcf", "-R", str(folder / "genome.fa")) == 0
    finally:
        folder.chmod(0o700)
    assert os.listdir(folder) == ["genome.fa"]


def test_a_corpus_gives_the_unigram(run, tmp_path, tiny_corpus):
    assert run(tmp_path / "genome.parquet") == 0
    assert run(tmp_path / "corpus.parquet", "--corpus", str(tiny_corpus)) == 0
    one, other = (pyarrow.parquet.read_table(tmp_path / f"{n}.parquet") for n in ("genome", "corpus"))
    assert one["difference"] == other["difference"]
    assert one["score"] != other["score"]


def test_a_classifier(run, tmp_path, tiny_architecture, tiny_tokenizer, capsys):
    description = ModelDescription(tiny_architecture, ("no; donor", "donor"))
    _, parameters = split(description.build(nnx.Rngs(5)))
    model = tmp_path / "classifier"
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained(model)
    assert run(tmp_path / "out.vcf", model=model) == 0
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as file:
        assert "change_no__donor|change_donor (" in str(file.header.info["DNABERT2"].description)
        changes = np.array(next(file).info["DNABERT2"][0].split("|"), float)
    assert changes.sum() == pytest.approx(0, abs=1e-5)
    assert changes[0] != 0
    assert run(tmp_path / "no.vcf", "--full", model=model) == 2
    assert "which --full needs" in capsys.readouterr().err
    assert run(tmp_path / "no.vcf", "--corpus", "x", model=model) == 2
    assert not (tmp_path / "no.vcf").exists()


def test_bad_requests_are_refused_and_leave_nothing(run, tmp_path, tiny_fasta, vcf, capsys):
    def refusal(*words, output=tmp_path / "out.vcf", **options):
        assert run(output, *words, **options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "name an output that ends in .vcf" in refusal(output=tmp_path / "out.bcf")
    assert "is an input" in refusal(output=tmp_path / "in.vcf")
    assert "cannot be read" in refusal("-R", str(tmp_path / "none.fa"))
    assert "--window" in refusal("--window", "4")
    assert "--null" in refusal("--null", "1")
    (tmp_path / "bare.vcf").write_text(vcf[vcf.index("#CHROM") :])
    assert "has no header of VCF" in refusal(source=tmp_path / "bare.vcf")
    (tmp_path / "cut.vcf").write_text(vcf + "chr\t5")
    assert "has 2 columns and the header 8" in refusal(source=tmp_path / "cut.vcf")
    (tmp_path / "genome.fa.gz").write_bytes(gzip.compress(tiny_fasta.read_bytes()))
    assert "bgzip" in refusal("-R", str(tmp_path / "genome.fa.gz"))
    assert {path.name for path in tmp_path.iterdir()} == {"in.vcf", "bare.vcf", "cut.vcf", "genome.fa.gz"}


@pytest.mark.filterwarnings("ignore:.*lack the masked-language-model head")
def test_a_model_without_its_head_is_refused(run, tmp_path, tiny_model, capsys):
    folder = shutil.copytree(tiny_model, tmp_path / "headless")
    state = load_file(folder / "model.safetensors")
    kept = {key: array for key, array in state.items() if not key.startswith("cls.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    for output in (tmp_path / "out.vcf", "-"):
        assert run(output, model=folder) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "the weights of this model lack the masked-language-model head; name a model" in captured.err
    assert {path.name for path in tmp_path.iterdir()} == {"in.vcf", "headless"}


def test_help_states_the_limits(capsys):
    with pytest.raises(SystemExit):
        main(["variants", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "not: a prediction of disease" in said
    assert "Do not use it for clinical decisions" in said
