"""Scores of predictions over a whole data set, one set of them for each problem."""

import math

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C] int64: rows are true classes, columns predicted ones.

    Examples:
      >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), num_classes=2).tolist()
      [[1, 1], [0, 2]]
    """
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def classification_scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1, macro precision and recall, and Matthews correlation, defined as in scikit-learn.

    All are fractions. A class that is neither present nor predicted does not count in the macro averages;
    one that is never predicted has a precision of 0, one that is not present a recall of 0. The correlation
    is 0 where all predictions, or all labels, are of one class.

    Args:
      confusion: [C, C] counts over the whole set; averaging batches would give other numbers.

    Examples:
      >>> scores = classification_scores(np.array([[90, 0], [10, 0]]))
      >>> float(scores["accuracy"]), scores["matthews_correlation"]
      (0.9, 0.0)
    """
    counts = confusion.astype(np.float64)
    total, correct = counts.sum(), np.trace(counts)
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)
    seen = true + predicted > 0
    hits, true_seen, predicted_seen = np.diag(counts)[seen], true[seen], predicted[seen]
    # Where a count is 0, so are the hits.
    precision, recall = hits / np.maximum(predicted_seen, 1), hits / np.maximum(true_seen, 1)
    f1 = 2 * hits / (true_seen + predicted_seen)
    covariance = correct * total - true @ predicted
    spread = math.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
    return {
        "accuracy": correct / total,
        "macro_f1": float(f1.mean()),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "matthews_correlation": covariance / spread if spread else 0.0,
    }


def label_confusions(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts [C, 2, 2] int64 of each label by itself: rows are absent and present, columns predicted so.

    Args:
      labels, predictions: bool [n, C].
    """
    pairs = [(~labels, ~predictions), (~labels, predictions), (labels, ~predictions), (labels, predictions)]
    return np.stack([(one & other).sum(axis=0) for one, other in pairs], axis=1).reshape(-1, 2, 2)


def multi_label_scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Exact matches, macro F1 and the labels' mean Matthews correlation, as fractions.

    A label that is neither present nor predicted anywhere does not count in macro F1, which is 0 where none
    counts; its correlation is 0.

    Args:
      labels, predictions: bool [n, C].
    """
    confusions = label_confusions(labels, predictions)
    hits = confusions[:, 1, 1]
    mentions = confusions[:, 1].sum(axis=1) + confusions[:, :, 1].sum(axis=1)
    f1 = 2 * hits[mentions > 0] / mentions[mentions > 0]
    correlations = [classification_scores(counts)["matthews_correlation"] for counts in confusions]
    return {
        "exact_match": float((labels == predictions).all(axis=1).mean()),
        "macro_f1": float(f1.mean()) if len(f1) else 0.0,
        "matthews_correlation": float(np.mean(correlations)),
    }


def regression_scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation, the mean squared error and R², the explained share of variance.

    A correlation is 0 where all labels or all predictions are equal; so is R² where all labels are.

    Args:
      labels, predictions: [n].

    Examples:
      >>> scores = regression_scores(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 90.0]))
      >>> round(scores["pearson_correlation"], 3), round(scores["spearman_correlation"], 3)
      (0.918, 1.0)
    """
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    error = np.square(labels - predictions).mean()
    # Of equal numbers the mean may be rounded, and the variance not quite 0.
    variance = labels.var() if np.ptp(labels) else 0.0
    return {
        "pearson_correlation": _correlation(labels, predictions),
        "spearman_correlation": _correlation(_ranks(labels), _ranks(predictions)),
        "mean_squared_error": float(error),
        "r_squared": float(1 - error / variance) if variance else 0.0,
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if not np.ptp(x) or not np.ptp(y):
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y) / math.sqrt((x @ x) * (y @ y))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in order; equal values share the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]
