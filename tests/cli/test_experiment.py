"""`dnabert2 experiment`: a sweep over sizes as typed, and requests that are refused in a sentence."""

import csv
import json

import pytest

from dnabert2_jax.cli.main import main
from dnabert2_jax.data.labelled import write_labelled


def test_a_sweep_and_more_sizes_later(tiny_fasta, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["experiment", "vocabulary", "--fasta", str(tiny_fasta), "--output", str(output)]
    words += ["--sample-bases", "60000", "--sizes"]
    assert main([*words, "32,64"]) == 0
    assert "2 vocabularies; 64 tokens make text" in capsys.readouterr().out
    assert main([*words, "32,64,128"]) == 0
    with open(output / "vocabulary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["vocab_size"] for row in rows] == ["32", "64", "128"]
    content = json.loads((output / "vocabulary.json").read_text())
    assert [f"{row['relative_flops']}" for row in content["sizes"]] == [row["relative_flops"] for row in rows]
    assert content["models"] == []
    assert (output / "report.html").read_text().count("<figure>") == 3
    assert main([*words, "32", "--seed", "7"]) == 2
    assert "was begun with another seed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_that_trains_a_model_of_each_size(tiny_fasta, tiny_config, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["experiment", "vocabulary", "--fasta", str(tiny_fasta), "--output", str(output)]
    words += ["--sample-bases", "60000", "--sizes", "32,64", "--pretrain", str(tiny_config)]
    words += ["--training.steps", "2", "--training.evaluate_every", "1", "--optimizer.warmup_steps", "1"]
    assert main(words) == 0
    models = json.loads((output / "vocabulary.json").read_text())["models"]
    assert [model["name"] for model in models] == ["BPE 32", "BPE 64"]
    assert [model["vocab_size"] for model in models] == [32, 64]
    assert models[0]["bases_per_window"] < models[1]["bases_per_window"]
    assert (output / "report.html").read_text().count("<figure>") == 4
    capsys.readouterr()
    assert main([*words, "--training.seed", "1"]) == 2
    assert "another training.seed" in capsys.readouterr().err


def test_the_cost_table_is_written_beside_the_published_figures(tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["experiment", "cost", "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith((output / "cost.md").read_text().partition("\n\n")[0])
    with open(output / "cost.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    for row in rows:
        assert float(row["parameters, M"]) == pytest.approx(float(row["published, M"]), rel=0.05)
        assert float(row["fitted relative"]) == pytest.approx(float(row["published relative"]), rel=0.05)
    assert "does not say what it counted" in (output / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        ("", ["action"]),
        ("table11", ["table11"]),
        ("vocabulary --fasta {fasta} --output {out} --sizes 256,many", ["--sizes", "many"]),
        ("vocabulary --fasta {fasta} --output {out} --sizes 4", ["size is 4"]),
        ("vocabulary --fasta {fasta} --output {out} --sizes 60000", ["60000", "choose at most"]),
        ("vocabulary --fasta none.fa --output {out} --sizes 16", ["none.fa"]),
        ("vocabulary --fasta {fasta} --output {out} --training.steps 3", ["--training.steps", "--pretrain"]),
        ("vocabulary --fasta {fasta} --output {out} --data sets", ["--data", "--pretrain"]),
        ("vocabulary --fasta {fasta} --output {out} --pretrain nocfg", ["nocfg", "tiny"]),
        ("tokenizers nocfg --fasta {fasta} --output {out}", ["nocfg"]),
        ("tokenizers tiny --fasta {fasta} --output {out} --arms bpe unigram", ["'unigram'", "equal-bases"]),
        ("tokenizers tiny --fasta {fasta} --output {out} --k 9", ["k is 9"]),
        ("tokenizers tiny --fasta {fasta} --output {out} --data none", ["none", "no such folder"]),
        ("further-pretraining --model none --data x --output {out}", ["none", "no such model folder"]),
        ("further-pretraining --model {model} --data none --output {out}", ["none: no such folder"]),
        ("cost --output {out} --training.steps 3", ["takes no settings", "--training.steps"]),
        ("cost --output {full}", ["full", "exists already"]),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    words, complaints, tiny_fasta, tiny_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    places = {"fasta": tiny_fasta, "model": tiny_model, "out": tmp_path / "out", "full": tmp_path / "full"}
    assert main(["experiment", *words.format(**places).split()]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert all(complaint in captured.err for complaint in complaints), captured.err


@pytest.mark.parametrize(
    "words",
    [
        "further-pretraining --model {model} --data {sets} --mesh.data 999",
        "tokenizers tiny --fasta {fasta} --mesh.data 999",
        "vocabulary --fasta {fasta} --pretrain tiny --mesh.data 999",
    ],
)
def test_settings_are_checked_before_the_folder_is_made(words, tiny_fasta, tiny_model, tmp_path, capsys):
    write_labelled(tmp_path / "sets" / "mine", {"train": [("ACGTTGCA", 0), ("ACGGTGCA", 1)]})
    places = {"fasta": tiny_fasta, "model": tiny_model, "sets": tmp_path / "sets"}
    output = tmp_path / "out"
    assert main(["experiment", *words.format(**places).split(), "--output", str(output)]) == 2
    assert "mesh.data is 999" in capsys.readouterr().err
    assert not output.exists()
