"""Training teaches: a text that repeats itself, and classes that are easy to tell apart."""

import msgspec
import numpy as np
import pytest

from dnabert2_jax.config import load_settings
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.settings import (
    FinetuneSettings,
    FinetuneTrainingSettings,
    OptimizerSettings,
    PretrainSettings,
)
from dnabert2_jax.training.finetune import finetune
from dnabert2_jax.training.pretrain import pretrain
from dnabert2_jax.training.run_log import read_rows
from dnabert2_jax.training.scores import classification_scores, confusion_matrix


@pytest.fixture(scope="module")
def learnt(tiny_tokenizer, tiny_config, tmp_path_factory):
    """A finished run on one phrase over and over, in which each token follows from its neighbours."""
    folder = tmp_path_factory.mktemp("learnt")
    phrase = "".join(np.random.default_rng(0).choice(list("ACGT"), 31))
    (folder / "phrase.fa").write_text(f">phrase\n{phrase * 1200}\n")
    corpus = folder / "corpus"
    build_corpus(
        [("phrase", folder / "phrase.fa")], tiny_tokenizer, corpus, validation_share=0.1, region_bases=2_000
    )
    changes = {
        "model.num_hidden_layers": 1,
        "model.hidden_size": 64,
        "model.hidden_dropout_prob": 0,
        "model.initializer_range": 0.1,
        "training.steps": 400,
        "training.batch_size": 16,
        "training.evaluate_every": 400,
        "training.checkpoint_every": 400,
        "optimizer.learning_rate": 5e-3,
    }
    words = [f"--{name}={value}" for name, value in changes.items()]
    settings = load_settings(PretrainSettings, str(tiny_config), words)
    return settings, corpus, pretrain(settings, corpus, folder / "run")


def test_pretraining_learns_what_token_frequencies_cannot_tell(learnt):
    _, _, run = learnt
    *_, last = read_rows(run.metrics)
    assert last["kind"] == "evaluation"
    assert last["masked_loss"] < 0.5 * last["unigram_loss"]
    assert last["masked_accuracy"] > 0.5


def test_the_model_that_a_run_leaves_is_the_one_it_measured(learnt):
    settings, _, run = learnt
    model = from_pretrained(run.model)
    assert model.description.architecture == settings.model
    assert sorted(path.name for path in run.path.iterdir()) == sorted(
        [
            ".lock",
            "checkpoints",
            "config.toml",
            "metrics.jsonl",
            "model",
            "report.html",
            "run.json",
            "tensorboard",
        ]
    )


def test_a_finished_run_says_so(learnt, capsys):
    settings, corpus, run = learnt
    before = run.metrics.read_bytes()
    pretrain(settings, corpus, run.path)
    assert "this run is finished" in capsys.readouterr().err
    assert run.metrics.read_bytes() == before


def test_a_run_that_was_killed_while_it_wrote_its_model_writes_it_again(learnt):
    settings, corpus, run = learnt
    weights, metrics = (run.model / "model.safetensors").read_bytes(), run.metrics.read_bytes()
    (run.model / "model.safetensors").write_bytes(b"of an earlier state")
    run.report.unlink()  # written last
    pretrain(settings, corpus, run.path)
    assert (run.model / "model.safetensors").read_bytes() == weights
    assert run.metrics.read_bytes() == metrics
    assert run.report.is_file()


def test_a_run_that_diverges_stops_and_names_the_step(tiny_corpus, tiny_config, tmp_path):
    words = ["--model.num_hidden_layers=1", "--training.steps=8", "--optimizer.warmup_steps=0"]
    words += ["--training.log_every=1", "--optimizer.learning_rate=1e30"]
    settings = load_settings(PretrainSettings, str(tiny_config), words)
    # The first step is taken from a good state; the second sees numbers whose squares overflow.
    with pytest.raises(UserError, match=r"run: step 2: loss or gradient is not finite"):
        pretrain(settings, tiny_corpus, tmp_path / "run")
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == [1]
    assert not (tmp_path / "run" / "model").exists()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Sequences that are rich in A and T, or in C and G."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    shares = {"0": [0.4, 0.1, 0.1, 0.4], "1": [0.1, 0.4, 0.4, 0.1]}
    for split, count in (("train", 80), ("dev", 30), ("test", 41)):
        rows = [
            f"{''.join(rng.choice(list('ACGT'), rng.integers(30, 60), p=shares[label]))},{label}"
            for label in rng.choice(["0", "1"], count)
        ]
        (folder / f"{split}.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    return folder


def test_finetuning_tells_easy_classes_apart(tiny_model, labelled, tmp_path):
    settings = FinetuneSettings(
        training=FinetuneTrainingSettings(epochs=5, batch_size=16, max_length=32, evaluate_every=5),
        optimizer=msgspec.structs.replace(OptimizerSettings(), learning_rate=3e-3, warmup_steps=5),
    )
    test = finetune(settings, tiny_model, labelled, tmp_path / "run")
    assert test["matthews_correlation"] > 0.9
    assert test["examples"] == 41

    rows = [line.split(",") for line in (labelled / "test.csv").read_text().splitlines()[1:]]
    model = from_pretrained(tmp_path / "run" / "model")
    probabilities = model.predict([sequence for sequence, _ in rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    labels = np.array([int(label) for _, label in rows])
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), 2)
    assert classification_scores(confusion)["accuracy"] == pytest.approx(test["accuracy"])
    assert model.class_names == ("0", "1")
