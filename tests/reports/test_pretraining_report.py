import math

import pytest

from dnabert2_jax.reports.pretraining import learning_verdict, write_pretraining_report

SETTINGS = {"training": {"steps": 2000, "batch_size": 4096}, "optimizer": {"learning_rate": 5e-4}}
CORPUS = {
    "Escherichia coli": {"bases": 4641652, "training tokens": 1780123},
    "yeast <S288C>": {"bases": 12157105, "training tokens": 4600000},
}
ENVIRONMENT = {"jax": "0.11.2", "device": "8 × TPU v5p"}


def write(path, rows, corpus=CORPUS):
    write_pretraining_report(path, settings=SETTINGS, corpus=corpus, rows=rows, environment=ENVIRONMENT)


def test_the_page_shows_the_figures_it_is_given(tmp_path, read_page, training_row, evaluation_row):
    rows = [training_row(step) for step in range(100, 1100, 100)]
    rows += [evaluation_row(500), evaluation_row(1000, masked_loss=5.432, masked_accuracy=0.1234)]
    write(tmp_path / "report.html", rows)
    page = read_page(tmp_path / "report.html")

    assert "step 1,000 of 2,000" in page.text
    assert "masked loss at step 1,000, nats per token 5.432" in page.text
    assert "below the unigram loss, nats per token 1.556" in page.text
    assert "masked accuracy 12.3 %" in page.text
    assert "real tokens per second, median 1,550" in page.text
    assert "in training steps 1 min 40 s" in page.text
    evaluations, corpus = page.tables
    assert evaluations[1][:3] == ["500", "6.123", "6.988"]
    assert evaluations[2][:3] == ["1,000", "5.432", "6.988"]
    assert evaluations[2][4:6] == ["0.1234", "0.1423"]
    assert corpus[1] == ["Escherichia coli", "4,641,652", "1,780,123"]
    assert "2 species, 16,798,757 bases, 6,380,123 training tokens." in page.text
    for text in ("batch_size 4,096", "learning_rate 0.0005", "jax 0.11.2", "device 8 × TPU v5p"):
        assert text in page.text
    assert len(page.figures) == 6


def test_the_page_tells_where_the_time_went(tmp_path, read_page, training_row, evaluation_row):
    time = {"began": "2026-01-01T00:00:00+00:00", "elapsed": 200.0, "goodput": 0.75, "steps": 150.0}
    time |= {"input": 1.0, "compilation": 20.0, "checkpoint": 4.0, "evaluation": 15.0, "starts": 10.0}
    rows = [
        training_row(10, mfu=0.4, real_token_share=0.98, skipped=2),
        {"kind": "rewind", "step": 11, "from_step": 25, "to_step": 10, "loss": 9.0},
        training_row(20, mfu=0.5, real_token_share=1.0, skipped=2, time=time),
        evaluation_row(20),
    ]
    write(tmp_path / "report.html", rows)
    page = read_page(tmp_path / "report.html")
    assert "model FLOP/s utilisation (MFU), median 45.0 %" in page.text
    assert "75.0 % of it was training that counts" in page.text
    times = {name: cells for name, *cells in page.tables[1]}
    assert times["compiling"] == ["20.0", "10.0 %"]
    assert sum(float(share.rstrip(" %")) for _, share in list(times.values())[1:]) == 100
    assert "99.0 % of the places in batches held tokens" in page.text
    assert "2 steps were skipped" in page.text
    assert "After step 25 the run went back to step 10" in page.text


def test_the_verdict_compares_the_masked_loss_with_token_frequencies(evaluation_row):
    def verdict(masked):
        return learning_verdict(evaluation_row(1, masked_loss=masked, unigram_loss=6.9))

    assert verdict(6.0).startswith("The model has learnt more than token frequencies: masked loss 6.000")
    assert verdict(6.89).startswith("The model has learnt hardly more")
    assert verdict(6.95).startswith("The model has not learnt more")
    assert "0.050 nats higher" in verdict(6.95)
    assert "not a number" in verdict(math.nan)


def test_the_mixed_loss_does_not_count_as_learning(evaluation_row):
    row = evaluation_row(1, masked_loss=6.99, unigram_loss=6.98, mixed_loss=6.4, mixed_accuracy=0.1)
    assert learning_verdict(row).startswith("The model has not learnt more")


def test_what_copying_is_worth_at_the_released_vocabulary(tmp_path, read_page, evaluation_row):
    # A model that learnt nothing but to copy gains 0.55 nats where the unigram loss is 6.9.
    write(tmp_path / "report.html", [evaluation_row(1, unigram_loss=6.9)])
    assert "worth about 0.55 nats" in read_page(tmp_path / "report.html").text


@pytest.mark.parametrize("kinds", [[], ["train"], ["evaluation"], ["train", "evaluation"], ["profile"]])
def test_runs_that_have_hardly_begun(tmp_path, read_page, training_row, evaluation_row, kinds):
    makers = {"train": training_row, "evaluation": evaluation_row}
    rows = [makers.get(kind, lambda step: {"kind": "profile", "step": step})(1) for kind in kinds]
    write(tmp_path / "report.html", rows, corpus={})
    page = read_page(tmp_path / "report.html")
    assert ("There is no evaluation yet" in page.text) == ("evaluation" not in kinds)


def test_a_run_that_diverged(tmp_path, read_page, training_row, evaluation_row):
    rows = [training_row(1), training_row(2, loss=math.nan, gradient_norm=math.inf)]
    rows.append(evaluation_row(2, masked_loss=math.nan, mixed_loss=None, masked_accuracy=math.nan))
    write(tmp_path / "report.html", rows)
    page = read_page(tmp_path / "report.html")
    assert "the run has diverged" in page.text
    assert page.tables[0][1][:4] == ["2", "NaN", "6.988", "–"]


def test_a_long_run_gives_a_small_page(tmp_path, read_page, training_row, evaluation_row):
    rows = [training_row(step) for step in range(100, 500_100, 100)]
    rows += [evaluation_row(step) for step in range(5000, 505_000, 5000)]
    write(tmp_path / "report.html", rows)
    assert (tmp_path / "report.html").stat().st_size < 400_000
    assert "means over stretches" in read_page(tmp_path / "report.html").text


def test_the_same_run_gives_the_same_page(tmp_path, training_row, evaluation_row):
    rows = [training_row(1), training_row(2), evaluation_row(2)]
    write(tmp_path / "one.html", rows)
    write(tmp_path / "two.html", rows)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
