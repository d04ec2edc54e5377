"""The page of a fine-tuning run: how well the classifier does on the test set, class by class.

In: the rows of metrics.jsonl, the test figures and the confusion matrix. Out: one HTML file.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnabert2_jax.reports.formats import format_percent
from dnabert2_jax.reports.metrics import Row, curve, metric, select_rows
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import confusion_plot, line_plot

_EVALUATION_COLUMNS = {
    "step": "step",
    "dev loss": "loss",
    "accuracy": "accuracy",
    "Matthews correlation": "matthews_correlation",
    "macro F1": "macro_f1",
}


def write_finetuning_report(
    path: str | os.PathLike,
    *,
    task: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    test: Mapping[str, Any],
    confusion: Any,
    class_names: Sequence[str],
    environment: Mapping[str, str],
) -> None:
    """Writes the report of a fine-tuning run.

    The checkpoint that was kept is the one of the lowest dev loss, the earliest of equals.

    Args:
      path: the HTML file.
      task: what was learnt, such as name, data folder and numbers of examples.
      settings: key → value, or section → key → value.
      rows: of metrics.jsonl, of kind "train" (step, loss) and "evaluation" (on the dev set: step, loss,
        accuracy, matthews_correlation, macro_f1).
      test: matthews_correlation, macro_f1, accuracy, loss (nats per example) and examples of the test set.
      confusion: counts [classes, classes] on the test set; rows are true classes, columns predicted ones.
      class_names: [classes].
      environment: what the run depended on besides its settings, such as versions.

    Raises:
      UserError: `path` cannot be written.
      ValueError: the confusion matrix does not match the class names.
    """
    counts = np.asarray(confusion)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"a confusion matrix of {classes} classes cannot have the shape {counts.shape}")
    training = select_rows(rows, "train")
    evaluations = select_rows(rows, "evaluation")
    chosen = _lowest_loss(evaluations)
    page = Page(
        f"Fine-tuning: {task['name']}" if "name" in task else "Fine-tuning", "Results on the test set"
    )

    page.headline(
        {
            "Matthews correlation": f"{metric(test, 'matthews_correlation'):.4f}".replace("-", "−"),
            "macro F1": f"{metric(test, 'macro_f1'):.4f}",
            "accuracy": format_percent(metric(test, "accuracy")),
            "loss, nats per example": f"{metric(test, 'loss'):.4f}",
            "test examples": test.get("examples"),
        }
    )
    warning = _collapse_warning(counts, class_names)
    if warning:
        page.remark(warning)

    page.heading("Test set, class by class")
    page.text(*_describe_baseline(counts, class_names))
    page.figure(
        confusion_plot(counts, class_names),
        "Confusion matrix of the test set. Shades give a cell's share of its true class (row).",
    )
    page.table(
        ["class", "precision", "recall", "F1", "examples", "predicted"], _class_rows(counts, class_names)
    )

    page.heading("Training")
    page.figure(_loss_plot(training, evaluations, chosen), _loss_caption(chosen))
    scores = {
        "Matthews correlation": curve(evaluations, "matthews_correlation"),
        "macro F1": curve(evaluations, "macro_f1"),
        "accuracy": curve(evaluations, "accuracy"),
    }
    page.figure(line_plot(scores, "step", "score"), "Scores on the dev set.")
    page.table(
        list(_EVALUATION_COLUMNS),
        [[row.get(key) for key in _EVALUATION_COLUMNS.values()] for row in evaluations],
    )

    page.heading("Task")
    page.facts(task)
    page.heading("Settings")
    _add_settings(page, settings)
    page.heading("Environment")
    page.facts(environment)
    page.write(path)


def class_scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class [classes], NaN where their denominator is 0.

    Args:
      confusion: counts [classes, classes]; rows are true classes, columns predicted ones.
    """
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return hits / predicted, hits / true, 2 * hits / (true + predicted)


def _class_rows(counts: np.ndarray, class_names: Sequence[str]) -> list[list[Any]]:
    columns = [
        [None if math.isnan(score) else float(score) for score in scores] for scores in class_scores(counts)
    ]
    examples, predicted = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    return [list(row) for row in zip(class_names, *columns, examples, predicted, strict=True)]


def _collapse_warning(counts: np.ndarray, class_names: Sequence[str]) -> str:
    predicted = np.flatnonzero(counts.sum(axis=0))
    if len(class_names) < 2 or len(predicted) != 1:
        return ""
    return (
        f"The model answers “{class_names[predicted[0]]}” to every test example: training has collapsed. Try "
        "another seed, a longer warm-up or a lower learning rate."
    )


def _describe_baseline(counts: np.ndarray, class_names: Sequence[str]) -> list[str]:
    if not counts.sum():
        return []
    true = counts.sum(axis=1)
    share = format_percent(float(true.max() / true.sum()))
    return [
        f"Always answering “{class_names[int(true.argmax())]}”, the most common class, would be right in "
        f"{share} of the test set, with a Matthews correlation of 0."
    ]


def _lowest_loss(evaluations: Sequence[Row]) -> Row | None:
    known = [row for row in evaluations if math.isfinite(metric(row, "loss"))]
    return min(known, key=lambda row: metric(row, "loss"), default=None)


def _loss_plot(training: Sequence[Row], evaluations: Sequence[Row], chosen: Row | None) -> str:
    series = {"dev": curve(evaluations, "loss"), "training": curve(training, "loss")}
    if chosen is not None:
        series["chosen checkpoint"] = curve([chosen], "loss")
    return line_plot(series, "step", "loss (nats per example)")


def _loss_caption(chosen: Row | None) -> str:
    caption = "Loss on the dev set and on single training batches."
    if chosen is None:
        return caption
    loss = metric(chosen, "loss")
    return (
        f"{caption} The chosen checkpoint, of step {chosen['step']:,}, has the lowest dev loss: {loss:.4f}."
    )


def _add_settings(page: Page, settings: Mapping[str, Any]) -> None:
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    if plain:
        page.facts(plain)
    for section, values in settings.items():
        if isinstance(values, Mapping):
            page.heading(section, level=3)
            page.facts(values)
