"""What a fine-tuned model did on the test set, by problem: counts or values in, a section of a page out.

`scores` are the figures that tell how good it is: title → key in metrics.jsonl. `loss_unit` is what the loss
measures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dnabert2_jax.reports.formats import format_percent
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import agreement_plot, confusion_plot


@dataclass(frozen=True, eq=False)
class SingleLabelOutcome:
    """Every example has one class.

    Attributes:
      confusion: counts [C, C]; rows are true classes, columns predicted ones.
      class_names: C names.

    Raises:
      ValueError: the confusion matrix does not match the class names.
    """

    confusion: np.ndarray
    class_names: Sequence[str]

    scores: ClassVar[dict[str, str]] = {
        "Matthews correlation": "matthews_correlation",
        "macro F1": "macro_f1",
        "accuracy": "accuracy",
    }
    loss_unit: ClassVar[str] = "nats per example"

    def __post_init__(self) -> None:
        _check_shape(self.confusion, (len(self.class_names),) * 2, self.class_names)

    def warning(self) -> str:
        """What a reader must know first; may be empty."""
        predicted = np.flatnonzero(self.confusion.sum(axis=0))
        if len(self.class_names) < 2 or len(predicted) != 1:
            return ""
        return _collapsed(f"“{self.class_names[predicted[0]]}”")

    def add_to(self, page: Page) -> None:
        """Adds the section on the test set."""
        page.heading("Test set, class by class")
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        if true.sum():
            share = format_percent(float(true.max() / true.sum()))
            page.text(
                f"Always answering “{self.class_names[int(true.argmax())]}”, the most common class, would be "
                f"right in {share} of the test set, with a Matthews correlation of 0."
            )
        page.figure(
            confusion_plot(self.confusion, self.class_names),
            "Confusion matrix of the test set. Shades give a cell's share of its true class (row).",
        )
        rates = _columns(class_scores(np.diag(self.confusion), true, predicted))
        page.table(
            ["class", "precision", "recall", "F1", "examples", "predicted"],
            _rows(self.class_names, *rates, true.tolist(), predicted.tolist()),
        )


@dataclass(frozen=True, eq=False)
class MultiLabelOutcome:
    """An example has any number of labels.

    Attributes:
      confusions: counts [C, 2, 2] of each label by itself; rows are absent and present, columns predicted so.
      class_names: C names.

    Raises:
      ValueError: the counts do not match the names.
    """

    confusions: np.ndarray
    class_names: Sequence[str]

    scores: ClassVar[dict[str, str]] = {
        "mean Matthews correlation": "matthews_correlation",
        "macro F1": "macro_f1",
        "exact matches": "exact_match",
    }
    loss_unit: ClassVar[str] = "nats per label"

    def __post_init__(self) -> None:
        _check_shape(self.confusions, (len(self.class_names), 2, 2), self.class_names)

    def warning(self) -> str:
        """What a reader must know first; may be empty."""
        answers = self.confusions.sum(axis=1)
        if not answers.sum() or (answers > 0).all(axis=1).any():
            return ""
        return _collapsed("the same labels")

    def add_to(self, page: Page) -> None:
        """Adds the section on the test set."""
        page.heading("Test set, label by label")
        page.text(
            "A label is predicted where its probability is above one half. The Matthews correlation of a "
            "label that is always or never predicted is 0."
        )
        (misses, hits), false = self.confusions[:, 1].T, self.confusions[:, 0, 1]
        rates = _columns(class_scores(hits, hits + misses, hits + false))
        page.table(
            ["label", "precision", "recall", "F1", "Matthews correlation", "examples", "predicted"],
            _rows(
                self.class_names,
                *rates,
                [_matthews_correlation(counts) for counts in self.confusions],
                (hits + misses).tolist(),
                (hits + false).tolist(),
            ),
        )


@dataclass(frozen=True, eq=False)
class RegressionOutcome:
    """Every example has a number.

    Attributes:
      labels: the true numbers [n].
      predictions: the predicted ones [n].

    Raises:
      ValueError: there are not as many of one as of the other.
    """

    labels: np.ndarray
    predictions: np.ndarray

    scores: ClassVar[dict[str, str]] = {
        "Pearson correlation": "pearson_correlation",
        "Spearman correlation": "spearman_correlation",
        "R²": "r_squared",
    }
    loss_unit: ClassVar[str] = "mean squared error"

    def __post_init__(self) -> None:
        if self.labels.shape != self.predictions.shape:
            raise ValueError(f"{self.labels.shape} labels cannot have {self.predictions.shape} predictions")

    def warning(self) -> str:
        """What a reader must know first; may be empty."""
        spread, predicted = np.ptp(self.labels), np.ptp(self.predictions)
        return _collapsed("nearly the same number") if predicted < 0.01 * spread else ""

    def add_to(self, page: Page) -> None:
        """Adds the section on the test set."""
        page.heading("Test set, value by value")
        page.text(
            f"Always answering the mean, {self.labels.mean():.4g}, would leave a mean squared error of "
            f"{self.labels.var():.4g}, which is an R² of 0."
        )
        page.figure(
            agreement_plot(self.labels, self.predictions, "true value", "predicted value"),
            "Predicted against true values of the test set. On the line they are equal.",
        )


type Outcome = SingleLabelOutcome | MultiLabelOutcome | RegressionOutcome


def class_scores(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class [C], NaN where their denominator is 0.

    Args:
      hits: examples [C] of each class that are found.
      true: examples [C] of each class.
      predicted: examples [C] that each class is predicted for.
    """
    with np.errstate(invalid="ignore"):
        return hits / predicted, hits / true, 2 * hits / (true + predicted)


def _check_shape(counts: np.ndarray, shape: tuple[int, ...], names: Sequence[str]) -> None:
    if counts.shape != shape:
        raise ValueError(f"a confusion matrix of {len(names)} classes cannot have the shape {counts.shape}")


def _matthews_correlation(counts: np.ndarray) -> float:
    spread = math.prod(math.sqrt(total) for axis in (0, 1) for total in counts.sum(axis=axis))
    (true_negatives, false_positives), (false_negatives, hits) = counts.tolist()
    covariance = hits * true_negatives - false_positives * false_negatives
    return covariance / spread if spread else 0.0


def _columns(scores: Sequence[np.ndarray]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else float(value) for value in column] for column in scores]


def _rows(*columns: Sequence[Any]) -> list[list[Any]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _collapsed(answer: str) -> str:
    return (
        f"The model answers {answer} to every test example: training has collapsed. Try another seed, a "
        "longer warm-up or a lower learning rate."
    )
