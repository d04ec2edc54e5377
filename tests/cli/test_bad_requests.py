"""A request that is wrong ends with status 2, one line that helps, and nothing left behind."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from dnabert2_jax import __version__
from dnabert2_jax.cli import main as command_line
from dnabert2_jax.cli.main import main


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(here, tiny_model, tiny_corpus, tiny_tokenizer, tiny_config, tiny_fasta) -> dict[str, str]:
    """Good files and bad ones, by name."""
    (here / "protein.fa").write_text(">insulin\nMALWMRLLPLLALLALWGPDPAAAFVNQHLCG\n")
    (here / "empty.fa").write_text("")
    (here / "hollow.fa").write_text(">a\nACGT\n>b\n>c\nA\n")
    (here / "hollow.csv").write_text("name,sequence\na,ACGT\nb,\n")
    (here / "no_header.fa").write_text("ACGT\n")
    (here / "no_sequence.csv").write_text("name,dna\na,ACGT\n")
    (here / "unknown.toml").write_text("[training]\nbatchsize = 3\n")
    (here / "labels").mkdir()
    shutil.copytree(tiny_model, here / "headless")
    (here / "headless" / "model.safetensors").unlink()
    return {
        "model": str(tiny_model),
        "corpus": str(tiny_corpus),
        "tokenizer": str(tiny_tokenizer),
        "config": str(tiny_config),
        "fasta": str(tiny_fasta),
    }


@pytest.mark.parametrize(
    ("command", "complaints"),
    [
        ("", None),
        ("pretrian", ["there is no command 'pretrian'", "pretrain"]),
        ("pretrain", ["CONFIG"]),
        ("embed --model {model} --input none.fa --output out.npz", ["none.fa"]),
        ("embed --model {model} --input protein.fa --output out.npz", ["protein.fa", "line 2"]),
        ("embed --model {model} --input empty.fa --output out.npz", ["empty.fa"]),
        ("embed --model {model} --input hollow.fa --output out.npz", ["hollow.fa", "record 'b'", "empty"]),
        ("embed --model {model} --input hollow.csv --output out.npz", ["hollow.csv", "line 3", "empty"]),
        ("explain --model {model} --input hollow.fa --output out", ["hollow.fa", "record 'b'", "empty"]),
        ("embed --model {model} --input no_header.fa --output out.npz", ["no_header.fa", "line 1"]),
        ("embed --model {model} --input no_sequence.csv --output out.npz", ["no_sequence.csv", "sequence"]),
        ("embed --model {model} --input {fasta} --output out.txt", ["out.txt", ".parquet"]),
        ("embed --model none --input {fasta} --output out.npz", ["none", "no such model folder"]),
        ("embed --model headless --input {fasta} --output out.npz", ["headless", "model.safetensors"]),
        ("embed --model {model} --input {fasta} --output out.npz --batch-size 0", ["--batch-size"]),
        ("embed --model {model} --input {fasta} --output out.npz --polling cls", ["--polling"]),
        ("predict --model {model} --input {fasta} --output out.npz", ["not fine-tuned"]),
        ("tokenizer train --fasta none.fa --output out", ["none.fa"]),
        ("tokenizer train --fasta protein.fa --output out", ["protein.fa", "line 2"]),
        ("tokenizer train --fasta {fasta} --vocab-size 70000 --output out", ["70000"]),
        ("tokenizer train --fasta {fasta} --output headless", ["headless", "exists already"]),
        ("corpus build --fasta none.fa --tokenizer {tokenizer} --output out", ["none.fa"]),
        ("corpus build --fasta protein.fa --tokenizer {tokenizer} --output out", ["protein.fa", "line 2"]),
        ("corpus build --fasta {fasta} --tokenizer none --output out", ["none"]),
        ("corpus build --fasta {fasta} --tokenizer {tokenizer} --output headless", ["headless", "exists"]),
        ("corpus stats none", ["none"]),
        ("corpus verify headless", ["headless"]),
        ("pretrain nocfg --corpus {corpus} --output out", ["nocfg", "tiny"]),
        ("pretrain unknown.toml --corpus {corpus} --output out", ["unknown.toml", "training.batch_size"]),
        ("pretrain {config} --corpus none --output out", ["none"]),
        ("pretrain {config} --corpus {corpus} --output out --training.stesp 3", ["training.steps"]),
        ("pretrain {config} --corpus {corpus} --output out --model.vocab_size 128", ["64 tokens", "128"]),
        ("pretrain {config} --corpus {corpus} --output out --mesh.data 999", ["mesh.data is 999"]),
        ("pretrain {config} --corpus {corpus} --output headless", ["headless", "is not a run folder"]),
        ("pretrain {config} --corpus {corpus} --output protein.fa", ["protein.fa"]),
        ("finetune --model {model} --data none --output out", ["none"]),
        ("finetune --model {model} --data labels --output out", ["labels", "train"]),
        ("finetune --model {model} --data labels --output headless", ["headless", "exists already"]),
        ("finetune --model {model} --data labels --output out --training.epoch 3", ["training.epochs"]),
    ],
)
def test_bad_request(files, here, capfd, command, complaints):
    before = snapshot(here)
    status = main(command.format(**files).split())
    output, errors = capfd.readouterr()
    if complaints is None:
        assert status == 0
        assert "commands:" in output
        return
    assert (status, output) == (2, "")
    assert errors.startswith("dnabert2: ")
    assert errors.count("\n") == 1, errors
    for complaint in complaints:
        assert complaint in errors
    assert snapshot(here) == before


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder`, but for the lock of a folder that was refused, with its content."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


@pytest.mark.parametrize("pooling", ["mean", "token", "nucleotide"])
def test_sequences_of_less_than_a_token_have_vectors(files, here, pooling):
    (here / "short.csv").write_text("sequence\nA\nNNNN\nacN\n")
    words = ["--input", "short.csv", "--output", "out.npz", "--pooling", pooling]
    assert main(["embed", "--model", files["model"], *words]) == 0
    with np.load("out.npz") as content:
        counts = np.diff(content["offsets"]) if pooling != "mean" else np.ones(3)
        assert np.isfinite(content["values"]).all()
        assert len(content["values"]) == counts.sum()
    if pooling == "nucleotide":
        assert counts.tolist() == [1, 4, 3]


@pytest.mark.usefixtures("here")
def test_debug_shows_the_traceback(capsys):
    assert main(["embed", "--model", "none", "--input", "a.fa", "--output", "out.npz", "--debug"]) == 2
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("dnabert2: none")


def test_a_fault_of_ours_is_told_from_a_wrong_request(monkeypatch, capsys):
    def broken(_):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(command_line, "_dispatch", broken)
    assert main(["embed"]) == 1
    errors = capsys.readouterr().err
    assert "ZeroDivisionError: inside" in errors
    assert "fault of dnabert2_jax" in errors.splitlines()[-1]


def test_an_interruption_has_its_own_status(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_dispatch", interrupted)
    assert main(["embed"]) == 130
    assert capsys.readouterr().err == "dnabert2: interrupted\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dnabert2_jax {__version__}\n"


@pytest.mark.parametrize(
    "command", ["tokenizer train", "corpus build", "corpus stats", "pretrain", "finetune", "embed", "predict"]
)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    output = capsys.readouterr().out
    assert f"dnabert2 {command}" in output
    assert re.search("^examples?:", output, re.MULTILINE)
