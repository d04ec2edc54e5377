"""What the commands write opens in the programs that people go on with: pandas, NumPy, pysam, a browser."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pysam
import pytest
from flax import nnx
from html_pages import check_html
from pandas.api.types import is_float_dtype, is_integer_dtype, is_string_dtype

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

NAMES = ["plain", "a, b", 'the "best"', "µ"]
CLASSES = ("no", "a promoter")
VECTOR = [f"d{number}" for number in range(32)]
SCORES = ["score", "forward", "reverse", "difference", "tokens_ref", "tokens_alt"]


@pytest.fixture(scope="module")
def classifier(tiny_architecture, tiny_tokenizer, tmp_path_factory) -> Path:
    description = ModelDescription(tiny_architecture, CLASSES)
    _, parameters = split(description.build(nnx.Rngs(5)))
    folder = tmp_path_factory.mktemp("classifier") / "model"
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sequences(tiny_fasta) -> list[str]:
    with IndexedFasta(tiny_fasta) as fasta:
        contig = next(iter(fasta.contigs))
        return [fasta.fetch(contig, start, start + 40).upper() for start in range(100, 500, 100)]


@pytest.fixture(scope="module")
def folder(tiny_fasta, sequences, tmp_path_factory) -> Path:
    """Inputs, and where outputs go."""
    place = tmp_path_factory.mktemp("outputs")
    pandas.DataFrame({"name": NAMES, "sequence": sequences}).to_csv(place / "in.csv", index=False)
    with IndexedFasta(tiny_fasta) as fasta:
        contig, length = next(iter(fasta.contigs.items()))
        bases = fasta.fetch(contig, 0, 1_000).upper()
    rows = [(contig, 100, 140, "one", 0, "+"), (contig, 200, 240, "two", 0, "-")]
    pandas.DataFrame(rows).to_csv(place / "in.bed", sep="\t", header=False, index=False)
    other = str.maketrans("ACGT", "CGTA")
    records = [
        f"{contig}\t{at + 1}\t.\t{bases[at]}\t{alternative}\t.\tPASS\t{info}\n"
        for at, alternative, info in (
            (150, f"{bases[150].translate(other)},{bases[150]}TT", "DP=7"),
            (400, "<DEL>", "DP=7;END=420"),
            (401, ".", "DP=7"),
        )
    ]
    (place / "in.vcf").write_text(
        f"##fileformat=VCFv4.3\n##contig=<ID={contig},length={length}>\n"
        '##FILTER=<ID=PASS,Description="ok">\n##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">\n'
        '##INFO=<ID=END,Number=1,Type=Integer,Description="end">\n'
        '##ALT=<ID=DEL,Description="deletion">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(records)
    )
    return place


def run(*words: object) -> None:
    assert main([*map(str, words)]) == 0


def read_frame(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pandas.read_parquet(path)
    return pandas.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "npz"])
def test_vectors(tiny_model, folder, sequences, ending):
    output = folder / f"vectors.{ending}"
    run("embed", "--model", tiny_model, "--input", folder / "in.csv", "--output", output)
    if ending == "npz":
        with np.load(output, allow_pickle=False) as content:
            assert set(content) == {"name", "values", "columns"}
            names, values = content["name"].tolist(), content["values"]
            assert content["columns"].tolist() == VECTOR
    else:
        frame = read_frame(output)
        assert frame.columns.tolist() == ["name", *VECTOR]
        assert is_string_dtype(frame["name"])
        assert all(is_float_dtype(kind) for kind in frame[VECTOR].dtypes)
        names, values = frame["name"].tolist(), frame[VECTOR].to_numpy()
    if ending in ("parquet", "npz"):
        assert values.dtype == np.float32
    assert names == [name.replace('"', " ") if ending == "tsv" else name for name in NAMES]
    np.testing.assert_allclose(values, from_pretrained(tiny_model).embed(sequences), atol=5e-6)


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
@pytest.mark.parametrize("pooling", ["token", "nucleotide"])
def test_vectors_of_tokens_and_bases(tiny_model, folder, sequences, pooling, ending):
    output = folder / f"{pooling}.{ending}"
    words = ("--input", folder / "in.csv", "--output", output, "--pooling", pooling)
    run("embed", "--model", tiny_model, *words)
    letters, positions = ("token", ["start", "end"]) if pooling == "token" else ("base", ["position"])
    if ending == "npz":
        with np.load(output, allow_pickle=False) as content:
            assert set(content) == {"name", "values", "columns", "offsets", letters, *positions}
            frame: Any = pandas.DataFrame({name: content[name] for name in (letters, *positions)})
            frame["name"] = np.repeat(content["name"], np.diff(content["offsets"]))
            assert content["values"].shape == (len(frame), len(VECTOR))
    else:
        frame = read_frame(output)
        assert set(frame.columns) == {"name", letters, *positions, *VECTOR}
    assert all(is_integer_dtype(frame[position]) for position in positions)
    assert frame.groupby("name", sort=False)[letters].sum().to_dict() == dict(
        zip(NAMES, sequences, strict=True)
    )


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "npz", "bed"])
def test_predictions_of_regions(classifier, tiny_fasta, folder, ending):
    output = folder / f"classes.{ending}"
    words = ("--input", folder / "in.bed", "--genome", tiny_fasta, "--output", output)
    run("predict", "--model", classifier, *words)
    with pysam.FastaFile(str(tiny_fasta)) as fasta:
        contig = fasta.references[0]
    if ending == "npz":
        with np.load(output, allow_pickle=False) as content:
            columns = ("name", "contig", "start", "end", "strand")
            frame: Any = pandas.DataFrame({name: content[name] for name in columns})
            frame[content["columns"].tolist()] = content["values"]
    elif ending == "bed":
        frame = pandas.read_csv(output, sep="\t").rename(columns={"#contig": "contig"})
        assert frame["class"].isin([name.replace(" ", "_") for name in CLASSES]).all()
        assert is_integer_dtype(frame["score"])
        assert frame["score"].between(500, 1000).all()
        index = pysam.tabix_index(str(output), preset="bed", keep_original=True, force=True)
        with pysam.TabixFile(index) as tabix:
            (line,) = tabix.fetch(contig, 120, 130)
        assert str(line).split("\t")[6] == "one"
    else:
        frame = read_frame(output)
    assert frame["contig"].tolist() == [contig, contig]
    assert frame[["start", "end"]].to_numpy().tolist() == [[100, 140], [200, 240]]
    assert frame["strand"].tolist() == ["+", "-"]
    assert frame["name"].tolist() == ["one", "two"]
    np.testing.assert_allclose(frame[[*CLASSES]].to_numpy(float).sum(axis=1), 1, atol=1e-5)


def test_variants_in_tables(tiny_model, tiny_fasta, folder):
    frames = []
    for ending in ("parquet", "tsv"):
        output = folder / f"variants.{ending}"
        words = ("-I", folder / "in.vcf", "-O", output, "-R", tiny_fasta, "--model", tiny_model)
        run("variants", *words, "--window", "60")
        frame = read_frame(output)
        assert frame.columns.tolist() == ["chrom", "pos", "id", "ref", "alt", *SCORES, "reason"]
        assert is_integer_dtype(frame["pos"])
        assert all(is_float_dtype(kind) for kind in frame[SCORES].dtypes)
        assert frame["reason"].isna().tolist() == [True, True, False, False]
        assert frame["reason"].tolist()[2:] == ["symbolic_allele", "no_alternative"]
        assert frame["score"].isna().tolist() == [False, False, True, True]
        frames.append(frame)
    pandas.testing.assert_frame_equal(*frames, check_dtype=False, rtol=1e-5)


def test_variants_in_vcf(tiny_model, tiny_fasta, folder):
    output = folder / "variants.vcf.gz"
    words = ("-I", folder / "in.vcf", "-O", output, "-R", tiny_fasta, "--model", tiny_model)
    run("variants", *words, "--window", "60", "--bases")
    index = Path(pysam.tabix_index(str(output), preset="vcf", force=True) + ".tbi")
    assert index.exists()
    with pysam.VariantFile(str(output)) as file:
        contig = next(iter(file.header.contigs))
        records = list(file)
        (record,) = file.fetch(str(contig), 140, 160)
        assert file.header.info["DNABERT2"].number == "A"
    assert [entry.info["DP"] for entry in records] == [7, 7, 7]
    assert record.pos == 151
    assert [len(value.split("|")) for value in record.info["DNABERT2"]] == [10, 10]
    assert records[1].info["DNABERT2"] == ("symbolic_allele",)
    # pysam takes what it read for a file of its own, header and all.
    copy = str(folder / "copy.bcf")
    with pysam.VariantFile(str(output)) as file, pysam.VariantFile(copy, "wb", header=file.header) as out:
        for entry in file:
            out.write(entry)
    with pysam.VariantFile(copy) as file:
        assert [entry.info["DNABERT2"] for entry in file] == [entry.info["DNABERT2"] for entry in records]


def test_a_simulated_genome(tiny_fasta, tmp_path):
    genome = shutil.copy(tiny_fasta, tmp_path)
    with pysam.FastaFile(genome) as file, IndexedFasta(tiny_fasta) as ours:
        assert dict(zip(file.references, file.lengths, strict=True)) == ours.contigs
        contig = file.references[0]
        assert file.fetch(contig, 70, 190) == ours.fetch(contig, 70, 190)


@pytest.fixture(scope="module")
def pages(tiny_model, tiny_tokenizer, folder) -> list[Path]:
    """Pages of four commands."""
    tokens, cost, scores, bases = (folder / name for name in ("tokens.html", "cost", "scores", "bases"))
    run("tokenizer", "inspect", "--tokenizer", tiny_tokenizer, "--input", folder / "in.csv", "--html", tokens)
    run("experiment", "cost", "--output", cost)
    rows = "".join(f"<b>other,{task},{n % 2},{n % 3 % 2}\n" for task in ("tf/0", "tf/1") for n in range(60))
    (folder / "outside.csv").write_text(f"model,task,label,prediction\n{rows}")
    run("gue", "report", "--predictions", folder / "outside.csv", "--output", scores)
    words = ("--input", folder / "in.csv", "--output", bases, "--phases", "1", "--pictures", "1")
    run("explain", "--model", tiny_model, *words)
    return [tokens, *(place / "report.html" for place in (cost, scores, bases))]


def test_pages_are_valid_and_stand_by_themselves(pages):
    for page in pages:
        check_html(page.read_text(encoding="utf-8"))


def test_pages_in_a_browser(pages, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs chromium or google-chrome on PATH")
    for number, page in enumerate(pages):
        picture = tmp_path / f"{number}.png"
        # Whoever is root, as in a container, is refused a sandbox.
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--screenshot={picture}", "--dump-dom"]
        shown = subprocess.run(
            [browser, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        assert picture.read_bytes().startswith(b"\x89PNG")
        title = re.search("<title>(.*)</title>", page.read_text(encoding="utf-8"))
        assert title is not None
        assert title[1] in shown.stdout
        assert shown.stdout.count("<svg") == page.read_text(encoding="utf-8").count("<svg")
