"""Scores of a classifier over a whole data set, all from the confusion matrix."""

import math

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C] int64: rows are true classes, columns predicted ones."""
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def classification_scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 and Matthews correlation, as fractions, defined as in scikit-learn.

    A class that is neither present nor predicted does not count in macro F1; the correlation is 0 where
    all predictions, or all labels, are of one class.

    Args:
      confusion: [C, C] counts over the whole set; averaging batches would give other numbers.
    """
    counts = confusion.astype(np.float64)
    total, correct = counts.sum(), np.trace(counts)
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)
    seen = true + predicted > 0
    f1 = 2 * np.diag(counts)[seen] / (true + predicted)[seen]
    covariance = correct * total - true @ predicted
    spread = math.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
    return {
        "accuracy": correct / total,
        "macro_f1": float(f1.mean()),
        "matthews_correlation": covariance / spread if spread else 0.0,
    }
