"""From a file to a file: every kind of result, both strands, shards, long records, interrupts and resumes."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference import jobs, pretrained
from dnabert2_jax.inference.loading import from_pretrained

NAMES = [f"s{number}" for number in range(40)]


@pytest.fixture(scope="module")
def model(tiny_model):
    return from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    rng = np.random.default_rng(6)
    return ["".join(rng.choice(list("ACGT"), rng.integers(1, 300))) for _ in NAMES]


@pytest.fixture
def fasta(sequences, tmp_path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in zip(NAMES, sequences, strict=True)))
    return path


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    """Blocks of a few sequences, of which there are then more than ten."""
    monkeypatch.setattr(pretrained, "_BLOCK_BASES", 500)


def embed(model, source, output, *options) -> int:
    return main(["embed", "--model", str(model), "--input", str(source), "--output", str(output), *options])


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return dict(content)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("ending", ["npz", "parquet", "csv"])
def test_vectors_of_many_blocks(model, tiny_model, fasta, sequences, tmp_path, capsys, ending):
    output = tmp_path / f"out.{ending}"
    assert embed(tiny_model, fasta, output) == 0
    assert capsys.readouterr().out == f"{output}: 40 vectors of 32 numbers\n"
    if ending == "npz":
        content = load(output)
        names, values = content["name"].tolist(), content["values"]
    elif ending == "parquet":
        table = parquet.read_table(output)
        names, values = table["name"].to_pylist(), np.stack(table.drop(["name"]).columns, axis=1)
    else:
        rows = [line.split(",") for line in output.read_text().splitlines()[1:]]
        names, values = [row[0].strip('"') for row in rows], np.array([row[1:] for row in rows], float)
    assert names == NAMES
    np.testing.assert_allclose(values, model.embed(sequences), atol=5e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", output.name]


@pytest.mark.usefixtures("small_blocks")
def test_vectors_of_tokens(model, tiny_model, fasta, sequences, tmp_path):
    assert embed(tiny_model, fasta, tmp_path / "out.npz", "--pooling", "token") == 0
    content = load(tmp_path / "out.npz")
    for number, (sequence, vectors) in enumerate(
        zip(sequences, model.embed(sequences, "token"), strict=True)
    ):
        rows = slice(*content["offsets"][number : number + 2])
        np.testing.assert_allclose(content["values"][rows], vectors, atol=5e-6)
        for token, start, end in zip(
            content["token"][rows], content["start"][rows], content["end"][rows], strict=True
        ):
            assert sequence[start:end] == token


def test_vectors_of_bases_of_both_strands(model, tiny_model, fasta, sequences, tmp_path, capsys):
    options = ["--pooling", "nucleotide", "--reverse-complement"]
    assert embed(tiny_model, fasta, tmp_path / "out.parquet", *options) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names[:4] == ["name", "position", "base", "d0"]
    assert "".join(table["base"].to_pylist()) == "".join(sequences)
    assert table["position"].to_pylist() == [place for text in sequences for place in range(len(text))]
    values = np.stack(table.drop(["name", "position", "base"]).columns, axis=1)
    expected = model.embed(sequences, "nucleotide", reverse_complement=True)
    np.testing.assert_allclose(values, np.concatenate(expected), atol=5e-6)
    output = capsys.readouterr().out
    assert f"{len(values):,} vectors of 32 numbers, one for each nucleotide of 40 sequences" in output
    assert "strand consistency of 40 sequences: mean cosine distance" in output


@pytest.mark.usefixtures("small_blocks")
def test_shards_are_the_whole(tiny_model, fasta, tmp_path):
    assert embed(tiny_model, fasta, tmp_path / "whole.npz") == 0
    whole = load(tmp_path / "whole.npz")
    for shard in range(3):
        options = ["--shard", str(shard), "--num-shards", "3"]
        assert embed(tiny_model, fasta, tmp_path / f"{shard}.npz", *options) == 0
        content = load(tmp_path / f"{shard}.npz")
        assert content["name"].tolist() == NAMES[shard::3]
        np.testing.assert_allclose(content["values"], whole["values"][shard::3], atol=5e-6)


def test_a_shard_may_be_empty(tiny_model, tmp_path):
    (tmp_path / "one.fa").write_text(">a\nACGT\n")
    options = ["--shard", "1", "--num-shards", "2"]
    assert embed(tiny_model, tmp_path / "one.fa", tmp_path / "out.npz", *options) == 0
    assert load(tmp_path / "out.npz")["values"].shape == (0, 32)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--shard", "1"], "--shard and --num-shards go together"),
        (["--shard", "3", "--num-shards", "3"], "--shard is 3; of 3 it must be 0 to 2"),
        (["--window", "2"], "window is 2"),
        (["--overlap", "5000"], "(--overlap) is 5000"),
        (["--pooling", "token", "--reverse-complement"], "choose pooling 'nucleotide'"),
    ],
)
def test_bad_requests(tiny_model, fasta, tmp_path, capsys, options, complaint):
    assert embed(tiny_model, fasta, tmp_path / "out.npz", *options) == 2
    assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.fa"]


def test_the_input_is_not_overwritten(tiny_model, tmp_path, monkeypatch, capsys):
    table = tmp_path / "in.csv"
    table.write_text("sequence\nACGT\n")
    monkeypatch.chdir(tmp_path)
    assert embed(tiny_model, table, Path("in.csv")) == 2
    assert "in.csv: is the input, which it would overwrite" in capsys.readouterr().err
    assert table.read_text() == "sequence\nACGT\n"


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The names of the examples that are computed."""
    names: list[str] = []
    embed_blocks = pretrained.Pretrained.embed_blocks

    def watched(self, examples, *rest):
        def watch():
            for name, example in examples:
                names.append(name)
                yield name, example

        return embed_blocks(self, watch(), *rest)

    monkeypatch.setattr(pretrained.Pretrained, "embed_blocks", watched)
    return names


_KILLED = """
import os, sys
from dnabert2_jax.cli.main import main
from dnabert2_jax.inference import parts, pretrained
pretrained._BLOCK_BASES = 500
add = parts.Parts.add
def add_and_die(self, *rest):
    add(self, *rest)
    if self.sequences > 20:
        os._exit(9)
parts.Parts.add = add_and_die
main(sys.argv[1:])
"""


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tiny_model, fasta, tmp_path, start_python, computed, capsys
):
    assert embed(tiny_model, fasta, tmp_path / "straight.npz", "--reverse-complement") == 0
    expected = capsys.readouterr().out.splitlines()
    command = ["embed", "--model", tiny_model, "--input", fasta, "--output", tmp_path / "out.npz"]
    command.append("--reverse-complement")
    assert start_python(_KILLED, *command).wait(120) == 9
    assert not (tmp_path / "out.npz").exists()

    computed.clear()
    assert main([str(word) for word in command]) == 0
    assert len(computed) < 20
    assert computed == NAMES[-len(computed) :]
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "straight.npz").read_bytes()
    said = capsys.readouterr().out.splitlines()
    assert f"({40 - len(computed)} sequences were done before)" in said[0]
    assert said[1] == expected[1]  # the strands of all sequences
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "out.npz", "straight.npz"]


def interrupt_after(monkeypatch, sequences: int) -> None:
    add = jobs.Parts.add

    def add_and_stop(self, *rest):
        add(self, *rest)
        if self.sequences > sequences:
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs.Parts, "add", add_and_stop)


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupt_says_what_is_kept_and_other_options_begin_anew(
    tiny_model, fasta, tmp_path, computed, capsys
):
    output = tmp_path / "out.npz"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 10)
        assert embed(tiny_model, fasta, output) == 130
    assert "sequences are done and kept; the same command goes on" in capsys.readouterr().err
    kept = json.loads((tmp_path / ".out.npz.parts" / "plan.json").read_text())
    assert kept["task"] == "mean"

    computed.clear()
    assert embed(tiny_model, fasta, output, "--pooling", "max") == 0
    assert computed == NAMES
    assert "another input, model or options; it is begun anew" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "out.npz"]


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_block_is_done_again(tiny_model, fasta, tmp_path, computed):
    output = tmp_path / "out.npz"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 20)
        assert embed(tiny_model, fasta, output) == 130
    second = tmp_path / ".out.npz.parts" / "000001.npz"
    second.write_bytes(second.read_bytes()[:-30])
    computed.clear()
    assert embed(tiny_model, fasta, output) == 0
    assert 20 < len(computed) < 40
    assert load(output)["name"].tolist() == NAMES


@pytest.mark.usefixtures("small_blocks")
def test_nothing_of_a_pipe_is_kept(tiny_model, fasta, tmp_path, monkeypatch):
    with open(fasta) as file:
        monkeypatch.setattr("sys.stdin", file)
        interrupt_after(monkeypatch, 10)
        assert embed(tiny_model, "-", tmp_path / "out.npz") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.fa"]


def test_two_runs_of_one_output(tiny_model, fasta, tmp_path, capsys):
    with jobs.Parts(tmp_path / "out.npz", None):
        assert embed(tiny_model, fasta, tmp_path / "out.npz") == 2
        assert "another run is writing here" in capsys.readouterr().err
    assert embed(tiny_model, fasta, tmp_path / "out.npz") == 0


def test_ctrl_c_while_the_input_is_waited_for(tiny_model, tmp_path, start_python):
    code = "import sys; from dnabert2_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    os.mkfifo(tmp_path / "pipe")
    output = tmp_path / "out.npz"
    process = start_python(
        code, "embed", "--model", tiny_model, "--input", tmp_path / "pipe", "--output", output
    )
    with open(tmp_path / "pipe", "w") as pipe:
        pipe.write(">a\nACGT\n")
        pipe.flush()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_a_record_of_millions_of_bases(tiny_model, tmp_path, capsys, pooling):
    bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 5_000_000)
    (tmp_path / "in.fa").write_bytes(b">c\n" + bases.tobytes() + b"\n")
    options = ["--pooling", pooling, "--window", "512", "--overlap", "64"]
    assert embed(tiny_model, tmp_path / "in.fa", tmp_path / "out.npz", *options) == 0
    assert "1 of the sequences have more than 512 tokens" in capsys.readouterr().err
    content = load(tmp_path / "out.npz")
    assert np.isfinite(content["values"]).all()
    if pooling == "token":
        assert content["end"][-1] == 5_000_000


def test_the_strands_of_a_chosen_model(model, sequences):
    consistency = model.strand_consistency(sequences, batch_size=3)
    one = model.embed(sequences).astype(float)
    other = model.embed([reverse_complement(sequence) for sequence in sequences]).astype(float)
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert consistency.sequences == 40
    assert consistency.figures["mean cosine distance"] == pytest.approx(1 - cosines.mean(), abs=1e-5)
