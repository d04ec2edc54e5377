"""The page at the end of the quickstart: what was done by which command, what came of it, what to do next.

In: the steps, the rows of the pre-training run, test figures and a map of embeddings. Out: one HTML file.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnabert2_jax.reports.formats import format_duration, format_percent
from dnabert2_jax.reports.metrics import metric, select_rows
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import scatter_plot
from dnabert2_jax.reports.pretraining import (
    EVALUATION_LOSS_CAPTION,
    evaluation_loss_plot,
    learning_verdict,
)


def write_quickstart_report(
    path: str | os.PathLike,
    *,
    steps: Sequence[Mapping[str, Any]],
    pretraining: Mapping[str, Any],
    test: Mapping[str, Any],
    embedding_points: Any,
    embedding_labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    next_steps: Sequence[tuple[str, str]],
) -> None:
    """Writes the report of the quickstart.

    Args:
      path: the HTML file.
      steps: title, command, seconds and summary (a sentence) of each; "link", where given, is the path of
        the step's own report, relative to `path`.
      pretraining: "rows" are those of the run's metrics.jsonl, as for `write_pretraining_report`.
      test: matthews_correlation, macro_f1, accuracy and examples of the fine-tuned classifier.
      embedding_points: [n, 2], a map of the test sequences' embeddings.
      embedding_labels: [n], each a place in `class_names`.
      class_names: the classes of the fine-tuning task.
      next_steps: (command, what it does).

    Raises:
      UserError: `path` cannot be written.
      ValueError: a link is not relative, or points and labels do not match.
    """
    seconds = sum(metric(step, "seconds") for step in steps)
    page = Page(
        "DNABERT-2 quickstart",
        f"From genomes to a classifier in {len(steps)} steps, {format_duration(seconds)} in all",
    )
    evaluations = select_rows(pretraining["rows"], "evaluation")
    page.headline(_headline(evaluations, test))
    page.text(
        "This run is small, to show the path; its figures say that everything works, not how good a model "
        "can be."
    )

    page.heading("What was done")
    for number, step in enumerate(steps, start=1):
        page.heading(f"{number}. {step['title']} · {format_duration(metric(step, 'seconds'))}", level=3)
        page.code(step["command"])
        page.text(step["summary"])
        if "link" in step:
            page.link("Open the report of this step", step["link"])

    page.heading("What came of it")
    if evaluations:
        page.remark(learning_verdict(evaluations[-1]))
    page.figure(evaluation_loss_plot(evaluations), EVALUATION_LOSS_CAPTION)
    page.figure(
        scatter_plot(embedding_points, embedding_labels, class_names),
        "Map of the sequences' embeddings, coloured by class. Near points are sequences that the model holds "
        "to be alike.",
    )

    page.heading("What to do next")
    for command, meaning in next_steps:
        page.text(meaning)
        page.code(command)
    page.write(path)


def _headline(evaluations: Sequence[Mapping[str, Any]], test: Mapping[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if evaluations:
        last = evaluations[-1]
        figures["masked loss, nats per token"] = f"{metric(last, 'masked_loss'):.3f}"
        figures["unigram loss, nats per token"] = f"{metric(last, 'unigram_loss'):.3f}"
    figures["test accuracy"] = format_percent(metric(test, "accuracy"))
    figures["test Matthews correlation"] = f"{metric(test, 'matthews_correlation'):.3f}".replace("-", "−")
    if "examples" in test:
        figures["test examples"] = test["examples"]
    return figures
