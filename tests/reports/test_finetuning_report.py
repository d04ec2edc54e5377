import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from dnabert2_jax.reports.finetuning import write_finetuning_report
from dnabert2_jax.reports.outcomes import SingleLabelOutcome, class_scores

NAMES = ["none", "donor <GT>", "acceptor"]
TEST = {
    "matthews_correlation": -0.0123,
    "macro_f1": 0.6543,
    "accuracy": 0.7891,
    "loss": 0.4567,
    "examples": 4562,
}


def write(path, *, rows=(), confusion=((50, 5, 5), (4, 30, 6), (3, 7, 20)), class_names=NAMES, test=TEST):
    write_finetuning_report(
        path,
        task={"name": "splice/reconstructed", "training examples": 36496},
        settings={"learning_rate": 3e-5, "lora": {"rank": 8}},
        rows=rows,
        test=test,
        outcome=SingleLabelOutcome(np.array(confusion), class_names),
        environment={"jax": "0.11.2"},
    )


def evaluation(step, loss):
    scores = {"accuracy": 0.5, "matthews_correlation": 0.25, "macro_f1": 0.4}
    return {"kind": "evaluation", "step": step, "loss": loss, **scores}


def test_the_page_shows_the_figures_it_is_given(tmp_path, read_page):
    rows = [{"kind": "train", "step": step, "loss": 1.0} for step in (100, 200, 300)]
    rows += [evaluation(200, 0.9), evaluation(400, 0.7), evaluation(600, 0.8)]
    write(tmp_path / "report.html", rows=rows)
    page = read_page(tmp_path / "report.html")

    assert page.headings[0] == (1, "Fine-tuning: splice/reconstructed")
    for text in (
        "Matthews correlation −0.0123",
        "macro F1 0.6543",
        "accuracy 78.9 %",
        "loss, nats per example 0.4567",
        "test examples 4,562",
        "The chosen checkpoint, of step 400, has the lowest dev loss: 0.7000.",
        "learning_rate 3e-05",
        "rank 8",
        "training examples 36,496",
    ):
        assert text in page.text
    assert "“none”, the most common class, would be right in 46.2 %" in page.text
    scores, evaluations = page.tables
    assert scores[1] == ["none", "0.8772", "0.8333", "0.8547", "60", "57"]
    assert [row[:2] for row in evaluations[1:]] == [["200", "0.9000"], ["400", "0.7000"], ["600", "0.8000"]]


def test_class_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    counts = confusion_matrix(true, predicted)
    ours = class_scores(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))
    theirs = precision_recall_fscore_support(true, predicted)[:3]
    np.testing.assert_allclose(ours, np.array(theirs), rtol=1e-12)


def test_a_class_that_is_never_predicted_has_no_precision(tmp_path, read_page):
    write(tmp_path / "report.html", confusion=[[9, 1], [4, 0]], class_names=["a", "b"])
    assert read_page(tmp_path / "report.html").tables[0][2] == ["b", "0.0000", "0.0000", "0.0000", "4", "1"]
    precision, recall, f1 = class_scores(np.array([5, 0]), np.array([5, 0]), np.array([5, 0]))
    assert (precision[0], recall[0], f1[0]) == (1, 1, 1)
    assert np.isnan([precision[1], recall[1], f1[1]]).all()


def test_a_collapsed_model_is_called_one(tmp_path, read_page):
    write(tmp_path / "report.html", confusion=[[60, 0], [40, 0]], class_names=["a", "b"])
    page = read_page(tmp_path / "report.html")
    assert "The model answers “a” to every test example" in page.text
    assert page.tables[0][2] == ["b", "–", "0.000", "0.0000", "40", "0"]
    write(tmp_path / "healthy.html")
    assert "collapsed" not in read_page(tmp_path / "healthy.html").text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [evaluation(200, 0.9)],
        [evaluation(200, math.nan)],
        [{"kind": "train", "step": 1, "loss": math.nan}],
    ],
)
def test_runs_with_hardly_a_row(tmp_path, read_page, rows):
    write(tmp_path / "report.html", rows=rows)
    page = read_page(tmp_path / "report.html")
    assert ("The chosen checkpoint, of step 200" in page.text) == (rows == [evaluation(200, 0.9)])


def test_an_empty_test_set(tmp_path, read_page):
    write(tmp_path / "report.html", confusion=np.zeros((3, 3), int), test={"examples": 0})
    page = read_page(tmp_path / "report.html")
    assert "Matthews correlation nan" in page.text
    assert page.tables[0][1] == ["none", "–", "–", "–", "0", "0"]


def test_the_matrix_must_match_the_names(tmp_path):
    with pytest.raises(ValueError, match="confusion matrix of 2 classes"):
        write(tmp_path / "report.html", class_names=["a", "b"])
    assert list(tmp_path.iterdir()) == []
