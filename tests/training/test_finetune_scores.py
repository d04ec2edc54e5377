"""Scores of several labels and of numbers against scikit-learn and SciPy, the degenerate cases included."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics

from dnabert2_jax.training.scores import label_confusions, multi_label_scores, regression_scores

tables = st.tuples(st.integers(1, 30), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape))
)
# Few different values, so that ties are common.
values = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[arrays.arrays(np.float32, n, elements=st.integers(-5, 5))] * 2)
)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_several_labels_as_in_scikit_learn(table):
    labels, predictions = table
    scores = multi_label_scores(labels, predictions)
    np.testing.assert_array_equal(
        label_confusions(labels, predictions),
        [_confusion(*c) for c in zip(labels.T, predictions.T, strict=True)],
    )
    assert scores["exact_match"] == pytest.approx((labels == predictions).all(axis=1).mean(), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, where a label is constant
        correlations = [metrics.matthews_corrcoef(*c) for c in zip(labels.T, predictions.T, strict=True)]
        f1 = [metrics.f1_score(*c) for c in zip(labels.T, predictions.T, strict=True) if np.any(c)]
    assert scores["matthews_correlation"] == pytest.approx(np.mean(correlations), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(np.mean(f1) if f1 else 0, abs=1e-12)


def test_macro_f1_of_several_labels_as_in_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predictions = rng.random((2, 200, 7)) < 0.3
    expected = metrics.f1_score(labels, predictions, average="macro")
    assert multi_label_scores(labels, predictions)["macro_f1"] == pytest.approx(expected, abs=1e-12)
    assert multi_label_scores(labels, predictions)["exact_match"] == metrics.accuracy_score(
        labels, predictions
    )


@settings(max_examples=200, deadline=None)
@given(values)
def test_regression_as_in_scipy_and_scikit_learn(pair):
    labels, predictions = pair
    scores = regression_scores(labels, predictions)
    exact = labels.astype(np.float64), predictions.astype(np.float64)
    assert scores["mean_squared_error"] == pytest.approx(metrics.mean_squared_error(*exact), abs=1e-12)
    if np.ptp(labels) == 0:
        assert scores["r_squared"] == 0
    else:
        assert scores["r_squared"] == pytest.approx(metrics.r2_score(*exact), abs=1e-12)
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        assert scores["pearson_correlation"] == scores["spearman_correlation"] == 0
    else:
        assert scores["pearson_correlation"] == pytest.approx(stats.pearsonr(*exact)[0], abs=1e-12)
        assert scores["spearman_correlation"] == pytest.approx(stats.spearmanr(*exact)[0], abs=1e-12)


def test_values_far_from_zero_keep_their_correlation():
    labels = np.float32(1e6) + np.arange(8, dtype=np.float32)
    assert regression_scores(labels, labels)["pearson_correlation"] == pytest.approx(1, abs=1e-12)


def test_equal_numbers_have_no_correlation_although_their_mean_is_rounded():
    # In float64 the mean of three times 0.1 is not 0.1.
    scores = regression_scores(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1))
    assert scores["pearson_correlation"] == scores["spearman_correlation"] == 0
    assert regression_scores(np.full(3, 0.1), np.array([1.0, 2.0, 3.0]))["r_squared"] == 0


def _confusion(labels, predictions):
    return metrics.confusion_matrix(labels, predictions, labels=[False, True])
