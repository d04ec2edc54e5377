"""The pages of the other two problems: several labels, and numbers."""

import numpy as np
import pytest
from sklearn import metrics

from dnabert2_jax.reports.finetuning import write_finetuning_report
from dnabert2_jax.reports.outcomes import MultiLabelOutcome, RegressionOutcome, SingleLabelOutcome


@pytest.fixture
def page_of(tmp_path, read_page):
    """Writes the report of an outcome and reads it."""

    def write(outcome, rows=(), **test):
        write_finetuning_report(
            tmp_path / "report.html",
            task={"name": "peaks"},
            settings={},
            rows=rows,
            test=test,
            outcome=outcome,
            environment={},
        )
        return read_page(tmp_path / "report.html")

    return write


def test_several_labels(page_of):
    rng = np.random.default_rng(0)
    labels, predictions = rng.random((2, 300, 3)) < 0.4
    outcome = MultiLabelOutcome(
        metrics.multilabel_confusion_matrix(labels, predictions), ["H3", "H4", "<H5>"]
    )
    rows = [{"kind": "evaluation", "step": 200, "loss": 0.5, "macro_f1": 0.25, "exact_match": 0.125}]
    page = page_of(
        outcome, rows, matthews_correlation=-0.0123, macro_f1=0.6543, exact_match=0.25, loss=0.5, examples=300
    )
    for text in (
        "mean Matthews correlation −0.0123",
        "macro F1 0.6543",
        "exact matches 25.0 %",
        "loss, nats per label 0.5000",
        "test examples 300",
        "The chosen checkpoint, of step 200",
    ):
        assert text in page.text
    assert "collapsed" not in page.text
    table, evaluations = page.tables
    for column, (name, *cells) in enumerate(table[1:]):
        true, found = labels[:, column], predictions[:, column]
        expected = [
            metrics.precision_score(true, found),
            metrics.recall_score(true, found),
            metrics.f1_score(true, found),
            metrics.matthews_corrcoef(true, found),
        ]
        assert name == outcome.class_names[column]
        assert [float(cell.replace("−", "-")) for cell in cells[:4]] == pytest.approx(expected, abs=6e-5)
        assert cells[4:] == [str(true.sum()), str(found.sum())]
    assert evaluations[1][:2] == ["200", "0.5000"]


def test_labels_that_never_vary(page_of):
    never = MultiLabelOutcome(np.array([[[6, 0], [4, 0]], [[0, 2], [0, 8]]]), ["a", "b"])
    page = page_of(never)
    assert "answers the same labels to every test example" in page.text
    assert page.tables[0][1] == ["a", "–", "0.000", "0.0000", "0.000", "4", "0"]
    one_varies = MultiLabelOutcome(np.array([[[5, 1], [4, 0]], [[0, 2], [0, 8]]]), ["a", "b"])
    assert one_varies.warning() == ""


def test_numbers(page_of):
    labels = np.linspace(-1, 3, 50)
    outcome = RegressionOutcome(labels, labels**2)
    scores = {"pearson_correlation": 0.75, "spearman_correlation": -0.5, "r_squared": -1.5}
    page = page_of(outcome, loss=2.5, examples=50, **scores)
    for text in (
        "Pearson correlation 0.7500",
        "Spearman correlation −0.5000",
        "R² −1.5000",
        "loss, mean squared error 2.5000",
        f"Always answering the mean, 1, would leave a mean squared error of {labels.var():.4g}",
    ):
        assert text in page.text
    assert "Predicted against true values of the test set. On the line they are equal." in page.figures
    assert "collapsed" not in page.text


def test_a_number_that_is_always_the_same(page_of):
    page = page_of(RegressionOutcome(np.arange(9.0), np.full(9, 4.0)))
    assert "answers nearly the same number to every test example" in page.text
    assert RegressionOutcome(np.full(9, 4.0), np.full(9, 4.0)).warning() == ""


def test_counts_must_match_the_names():
    with pytest.raises(ValueError, match="of 2 classes"):
        SingleLabelOutcome(np.zeros((3, 3), int), ["a", "b"])
    with pytest.raises(ValueError, match="of 2 classes"):
        MultiLabelOutcome(np.zeros((3, 2, 2), int), ["a", "b"])
    with pytest.raises(ValueError, match="labels cannot have"):
        RegressionOutcome(np.zeros(3), np.zeros(4))
