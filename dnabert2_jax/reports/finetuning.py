"""The page of a fine-tuning run: how well the model does on the test set, and how it came there.

In: the rows of metrics.jsonl, the test figures and what was predicted. Out: one HTML file.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from dnabert2_jax.reports.formats import format_percent
from dnabert2_jax.reports.metrics import Row, curve, metric, select_rows
from dnabert2_jax.reports.outcomes import Outcome
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import line_plot

_SHARES = ("accuracy", "exact_match")


def write_finetuning_report(
    path: str | os.PathLike,
    *,
    task: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    test: Mapping[str, Any],
    outcome: Outcome,
    environment: Mapping[str, str],
) -> None:
    """Writes the report of a fine-tuning run.

    The checkpoint that was kept is the one of the lowest dev loss, the earliest of equals.

    Args:
      path: the HTML file.
      task: what was learnt, such as name, data folder and numbers of examples.
      settings: key → value, or section → key → value.
      rows: of metrics.jsonl, of kind "train" (step, loss) and "evaluation" (on the dev set: step, loss, and
        the scores that the outcome names).
      test: loss, scores and examples of the test set.
      outcome: what was predicted for the test set.
      environment: what the run depended on besides its settings, such as versions.

    Raises:
      UserError: `path` cannot be written.
    """
    training = select_rows(rows, "train")
    evaluations = select_rows(rows, "evaluation")
    chosen = _lowest_loss(evaluations)
    page = Page(
        f"Fine-tuning: {task['name']}" if "name" in task else "Fine-tuning", "Results on the test set"
    )

    page.headline(_headline(test, outcome))
    warning = outcome.warning()
    if warning:
        page.remark(warning)
    outcome.add_to(page)

    page.heading("Training")
    page.figure(_loss_plot(training, evaluations, chosen, outcome.loss_unit), _loss_caption(chosen))
    scores = {title: curve(evaluations, key) for title, key in outcome.scores.items()}
    page.figure(line_plot(scores, "step", "score"), "Scores on the dev set.")
    columns = {"step": "step", "dev loss": "loss", **outcome.scores}
    page.table(list(columns), [[row.get(key) for key in columns.values()] for row in evaluations])

    page.heading("Task")
    page.facts(task)
    page.heading("Settings")
    _add_settings(page, settings)
    page.heading("Environment")
    page.facts(environment)
    page.write(path)


def _headline(test: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for title, key in outcome.scores.items():
        score = metric(test, key)
        figures[title] = format_percent(score) if key in _SHARES else f"{score:.4f}".replace("-", "−")
    figures[f"loss, {outcome.loss_unit}"] = f"{metric(test, 'loss'):.4f}"
    figures["test examples"] = test.get("examples")
    return figures


def _lowest_loss(evaluations: Sequence[Row]) -> Row | None:
    known = [row for row in evaluations if math.isfinite(metric(row, "loss"))]
    return min(known, key=lambda row: metric(row, "loss"), default=None)


def _loss_plot(
    training: Sequence[Row], evaluations: Sequence[Row], chosen: Row | None, loss_unit: str
) -> str:
    series = {"dev": curve(evaluations, "loss"), "training": curve(training, "loss")}
    if chosen is not None:
        series["chosen checkpoint"] = curve([chosen], "loss")
    return line_plot(series, "step", f"loss ({loss_unit})")


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
