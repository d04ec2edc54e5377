"""Fine-tuning from a small random model: it learns each problem, and keeps and tests its best state."""

import json
import signal

import msgspec
import numpy as np
import pytest

from dnabert2_jax.data.labelled import LABELLED_SPLITS, load_labelled, write_labelled
from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.pretrained import from_pretrained
from dnabert2_jax.settings import FinetuneSettings, FinetuneTrainingSettings, OptimizerSettings
from dnabert2_jax.training import finetune as finetune_module
from dnabert2_jax.training.finetune import finetune

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
_SIZES = dict(zip(LABELLED_SPLITS, (128, 48, 48), strict=True))


def settings_for(problem, learning_rate=3e-3, **training):
    chosen = {"epochs": 8, "batch_size": 16, "evaluate_every": 16, "log_every": 4, "max_length": 64} | training
    return FinetuneSettings(
        training=FinetuneTrainingSettings(problem=problem, **chosen),
        optimizer=OptimizerSettings(
            learning_rate=learning_rate, warmup_steps=4, beta2=0.999, gradient_clip=1.0, weight_decay=0.01
        ),
    )


def write_data(folder, draw):
    """Writes rows that draw(rng) makes."""
    rng = np.random.default_rng(1)
    write_labelled(folder, {split: [draw(rng) for _ in range(n)] for split, n in _SIZES.items()})
    return folder


def sequence_of(rng, letters, weights=None):
    return "".join(rng.choice(list(letters), 24, p=weights))


def one_class(rng):
    name = str(rng.choice(["AT-rich", "GC-rich", "even"]))
    return sequence_of(rng, {"AT-rich": "AATTC", "GC-rich": "CCGGA", "even": "ACGT"}[name]), name


def several_labels(rng):
    present = rng.random(2) < 0.5
    letters = "TTT" + "AAAAAA" * present[0] + "CCCCCC" * present[1]
    return sequence_of(rng, letters), ";".join(np.array(["rich in A", "rich in C"])[present])


def share_of_gc(rng):
    share = rng.random()
    sequence = sequence_of(rng, "ACGT", np.array([1 - share, share, share, 1 - share]) / 2)
    return sequence, (sequence.count("G") + sequence.count("C")) / 24


def which_is_richer(rng):
    """The same two kinds of sequence either way round: only the order tells the class."""
    rich, poor = sequence_of(rng, "CCCG"), sequence_of(rng, "AAAT")
    return (rich, poor, "first") if rng.random() < 0.5 else (poor, rich, "second")


def examples_of(split):
    return split.sequences if split.seconds is None else list(zip(split.sequences, split.seconds, strict=True))


def predicted_loss(model, split):
    """The mean loss on a split, from what predict() gives, in float64."""
    found = model.predict(examples_of(split)).astype(np.float64)
    match model.description.problem:
        case "single_label_classification":
            return -np.log(found[np.arange(len(split)), split.labels]).mean()
        case "multi_label_classification":
            return -np.log(np.where(split.labels > 0, found, 1 - found)).mean()
        case "regression":
            return np.square(found[:, 0] - split.labels).mean()


@pytest.mark.parametrize(
    ("problem", "draw", "score", "at_least"),
    [
        (SINGLE, one_class, "matthews_correlation", 0.8),
        (MULTI, several_labels, "exact_match", 0.8),
        ("regression", share_of_gc, "r_squared", 0.8),
        (SINGLE, which_is_richer, "accuracy", 0.95),
    ],
    ids=["one class", "several labels", "regression", "pairs"],
)
def test_each_problem_is_learnt_and_what_is_saved_is_what_was_tested(
    tiny_model, tmp_path, problem, draw, score, at_least
):
    folder = write_data(tmp_path / "data", draw)
    scores = finetune(settings_for(problem), tiny_model, folder, tmp_path / "run")
    assert scores[score] >= at_least
    assert scores == json.loads((tmp_path / "run" / "test_scores.json").read_text())
    assert scores["examples"] == 48

    data = load_labelled(folder, problem)
    model = from_pretrained(tmp_path / "run" / "model")
    assert model.description.problem == problem
    assert model.class_names == (data.class_names or ("LABEL_0",))
    assert predicted_loss(model, data.test) == pytest.approx(scores["loss"], rel=1e-4)
    found = model.predict(examples_of(data.test))
    if problem == SINGLE:
        assert (found.argmax(axis=1) == data.test.labels).mean() == pytest.approx(scores["accuracy"])
    elif problem == MULTI:
        matches = ((found > 0.5) == data.test.labels).all(axis=1)
        assert matches.mean() == pytest.approx(scores["exact_match"])
    else:
        correlation = np.corrcoef(found[:, 0], data.test.labels)[0, 1]
        assert correlation == pytest.approx(scores["pearson_correlation"], rel=1e-5)
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {"config.toml", "metrics.jsonl", "model", "report.html", "test_scores.json"}


def test_the_state_of_the_lowest_dev_loss_is_kept(tiny_model, tmp_path):
    # Labels that nothing tells: the model learns the training rows by heart and gets worse on dev.
    folder = write_data(tmp_path / "data", lambda rng: (sequence_of(rng, "ACGT"), int(rng.integers(2))))
    finetune(settings_for(SINGLE, epochs=12), tiny_model, folder, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "evaluation"]
    assert losses[-1] > 1.2 * min(losses)
    model = from_pretrained(tmp_path / "run" / "model")
    assert predicted_loss(model, load_labelled(folder).dev) == pytest.approx(min(losses), rel=1e-4)


def test_the_same_seed_gives_the_same_model(tiny_model, tmp_path):
    folder = write_data(tmp_path / "data", one_class)
    settings = settings_for(SINGLE, epochs=1)
    for run in ("one", "two"):
        finetune(settings, tiny_model, folder, tmp_path / run)
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two")
    other = msgspec.structs.replace(settings, training=msgspec.structs.replace(settings.training, seed=1))
    finetune(other, tiny_model, folder, tmp_path / "three")
    assert weights_of(tmp_path / "three") != weights_of(tmp_path / "one")


def weights_of(run):
    return (run / "model" / "model.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, tmp_path):
    folder = write_data(tmp_path / "data", lambda rng: (sequence_of(rng, "ACGT"), rng.normal() * 1e30))
    with pytest.raises(UserError, match=r"^step 4: loss or gradient is not finite; lower optimizer"):
        finetune(settings_for("regression"), tiny_model, folder, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_interrupted_run_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    folder = write_data(tmp_path / "data", one_class)

    def interrupt(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(finetune_module, "write_finetuning_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings_for(SINGLE, epochs=1), tiny_model, folder, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_pairs_need_a_second_token_type(tiny_model, tmp_path):
    model = tmp_path / "model"
    one_type = from_pretrained(tiny_model)
    one_type.save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"type_vocab_size": 1}))
    state = one_type.parameters["encoder.embeddings.token_type"]
    assert state.shape[0] == 2
    folder = write_data(tmp_path / "data", which_is_richer)
    with pytest.raises(UserError):
        finetune(settings_for(SINGLE), model, folder, tmp_path / "run")
