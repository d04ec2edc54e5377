"""The page of a pre-training run: what the model has learnt, its curves, and all that the run depends on.

In: the rows of metrics.jsonl and plain facts. Out: one HTML file. Losses are in nats per token.
"""

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dnabert2_jax.reports.formats import format_duration, format_percent, format_value
from dnabert2_jax.reports.metrics import Row, curve, metric, select_rows
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import LONGEST_PLAIN_CURVE, line_plot

# The evaluation windows are few; a smaller difference may be chance.
SMALLEST_SURE_DIFFERENCE = 0.05

_EVALUATION_COLUMNS = {
    "step": "step",
    "masked loss": "masked_loss",
    "unigram loss": "unigram_loss",
    "mixed loss": "mixed_loss",
    "masked accuracy": "masked_accuracy",
    "mixed accuracy": "mixed_accuracy",
    "masked bits/base": "masked_bits_per_base",
    "unigram bits/base": "unigram_bits_per_base",
    "mixed bits/base": "mixed_bits_per_base",
}


# Of the last training row's `time`, with what each means.
_TIMES = {
    "steps": "training",
    "input": "waiting for batches",
    "compilation": "compiling",
    "checkpoint": "waiting for checkpoints",
    "evaluation": "evaluating",
    "starts": "starts, time between them, and steps done again",
}


def write_pretraining_report(
    path: str | os.PathLike,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    corpus: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Row],
    environment: Mapping[str, str],
) -> None:
    """Writes the report of a pre-training run.

    Args:
      path: the HTML file.
      settings: section → key → value.
      corpus: species → measure → number, such as bases and tokens.
      rows: of metrics.jsonl, of kind "train" (one batch each: loss, accuracy, learning_rate, gradient_norm,
        tokens_per_second, seconds since the row before, and the other figures of `training/clock.py`),
        "evaluation" (held-out windows: masked_loss, mixed_loss, unigram_loss, with their accuracies and bits
        per base) and "rewind" (the run went back from_step → to_step).
      environment: what the run depended on besides its settings, such as versions.

    Raises:
      UserError: `path` cannot be written.
    """
    training = select_rows(rows, "train")
    evaluations = select_rows(rows, "evaluation")
    last_step = max((row["step"] for row in rows), default=0)
    planned = settings.get("training", {}).get("steps")
    progress = f"{last_step:,} steps" if planned is None else f"step {last_step:,} of {planned:,}"
    page = Page("Pre-training", f"Masked language model on DNA · {progress}")

    if evaluations:
        page.headline(_headline(evaluations[-1], training))
        page.remark(learning_verdict(evaluations[-1]))
    else:
        page.remark("There is no evaluation yet, so this page cannot say what the model has learnt.")
    page.heading("Curves")
    if len(training) > LONGEST_PLAIN_CURVE:
        page.text(
            "Curves of training are means over stretches of steps; their bands run from the smallest to the "
            "largest value."
        )
    _add_curves(page, training, evaluations)
    page.heading("Evaluations")
    page.text(*_explain_losses(evaluations))
    page.table(
        list(_EVALUATION_COLUMNS),
        [[row.get(key) for key in _EVALUATION_COLUMNS.values()] for row in evaluations],
    )
    _add_times(page, training, select_rows(rows, "rewind"))
    page.heading("Corpus")
    _add_corpus(page, corpus)
    page.heading("Settings")
    for section, values in settings.items():
        page.heading(section, level=3)
        page.facts(values)
    page.heading("Environment")
    page.facts(environment)
    page.write(path)


def learning_verdict(evaluation: Row) -> str:
    """A sentence on whether the model has learnt more than how often each token occurs."""
    masked, unigram = metric(evaluation, "masked_loss"), metric(evaluation, "unigram_loss")
    if not (math.isfinite(masked) and math.isfinite(unigram)):
        return "The last evaluation is not a number: the run has diverged, or its loss was not recorded."
    gain = unigram - masked
    losses = f"masked loss {masked:.3f} against {unigram:.3f} nats per token from token frequencies alone"
    if gain >= SMALLEST_SURE_DIFFERENCE:
        return f"The model has learnt more than token frequencies: {losses}, {gain:.3f} nats lower."
    if gain > 0:
        return f"The model has learnt hardly more than token frequencies: {losses}, {gain:.3f} nats lower."
    return f"The model has not learnt more than token frequencies yet: {losses}, {-gain:.3f} nats higher."


def evaluation_loss_plot(evaluations: Sequence[Row]) -> str:
    """The held-out losses over the steps as an `<svg>` element, the honest one first."""
    return line_plot(
        {
            "masked": curve(evaluations, "masked_loss"),
            "unigram": curve(evaluations, "unigram_loss"),
            "mixed": curve(evaluations, "mixed_loss"),
        },
        "step",
        "loss (nats per token)",
    )


EVALUATION_LOSS_CAPTION = (
    "Held-out losses. The model has learnt more than token frequencies where its masked loss lies below the "
    "unigram loss."
)


def _headline(last: Row, training: Sequence[Row]) -> dict[str, str]:
    masked, unigram = metric(last, "masked_loss"), metric(last, "unigram_loss")
    figures = {
        f"masked loss at step {last['step']:,}, nats per token": f"{masked:.3f}",
        "unigram loss, nats per token": f"{unigram:.3f}",
        "below the unigram loss, nats per token": f"{unigram - masked:.3f}".replace("-", "−"),
        "masked accuracy": format_percent(metric(last, "masked_accuracy")),
    }
    if speeds := _finite(training, "tokens_per_second"):
        figures["real tokens per second, median"] = f"{statistics.median(speeds):,.0f}"
    if utilisation := _finite(training, "mfu"):
        figures["model FLOP/s utilisation (MFU), median"] = format_percent(statistics.median(utilisation))
    if seconds := _finite(training, "seconds"):
        figures["in training steps"] = format_duration(sum(seconds))
    return figures


def _finite(rows: Sequence[Row], name: str) -> list[float]:
    values = [metric(row, name) for row in rows]
    return [value for value in values if math.isfinite(value)]


def _add_times(page: Page, training: Sequence[Row], rewinds: Sequence[Row]) -> None:
    times = next((row["time"] for row in reversed(training) if "time" in row), None)
    if times is None:
        return
    page.heading("Where the time went")
    elapsed = times["elapsed"]
    page.text(
        f"{format_duration(elapsed)} from the first start to the last line of the log, over all starts; "
        f"{format_percent(times['goodput'])} of it was training that counts (goodput)."
    )
    shares = ((name, times[key]) for key, name in _TIMES.items())
    page.table(
        ["", "seconds", "share"],
        [[name, seconds, format_percent(seconds / elapsed if elapsed else 0.0)] for name, seconds in shares],
    )
    if real := _finite(training, "real_token_share"):
        page.text(f"{format_percent(statistics.mean(real))} of the places in batches held tokens.")
    if skipped := max((row.get("skipped", 0) for row in training), default=0):
        page.remark(f"{skipped:,} steps were skipped because loss or gradient was not finite.")
    for row in rewinds:
        page.remark(
            f"After step {row['from_step']:,} the run went back to step {row['to_step']:,} and on to other "
            "batches, because the loss had risen."
        )


def _add_curves(page: Page, training: Sequence[Row], evaluations: Sequence[Row]) -> None:
    page.figure(evaluation_loss_plot(evaluations), EVALUATION_LOSS_CAPTION)
    page.figure(
        line_plot({"training loss": curve(training, "loss")}, "step", "loss (nats per token)"),
        "Training loss of single batches, of the mixed kind.",
    )
    accuracies = {
        "masked": curve(evaluations, "masked_accuracy"),
        "mixed": curve(evaluations, "mixed_accuracy"),
        "training": curve(training, "accuracy"),
    }
    page.figure(
        line_plot(accuracies, "step", "accuracy"),
        "Share of hidden tokens that are the model's first guess; training batches are of the mixed kind.",
    )
    page.figure(
        line_plot({"learning rate": curve(training, "learning_rate")}, "step", "learning rate"),
        "Learning rate.",
    )
    page.figure(
        line_plot({"gradient norm": curve(training, "gradient_norm")}, "step", "gradient norm"),
        "Norm of the gradient before clipping. Spikes warn of a learning rate that is too high.",
    )
    page.figure(
        line_plot({"speed": curve(training, "tokens_per_second")}, "step", "tokens per second"),
        "Training speed, evaluations left out.",
    )


def _explain_losses(evaluations: Sequence[Row]) -> list[str]:
    unigram = metric(evaluations[-1], "unigram_loss") if evaluations else math.nan
    # Of the targets 10 % are kept and 10 % replaced at random. A model that gives a shown token even odds
    # saves unigram - ln 2 nats on each kept one and pays ln 2 on each replaced one.
    copying = 0.1 * unigram - 0.2 * math.log(2)
    worth = f" and is worth about {copying:.2f} nats here" if copying > 0 else ""
    return [
        "Masked: all targets are shown as [MASK]; judge the model by this loss. Unigram: the cross-entropy "
        "of the training token frequencies on the same targets; a model that knows only how common tokens "
        "are sits there.",
        "Mixed: the usual masking, with 80 % of the targets shown as [MASK], 10 % as a random token and 10 % "
        f"unchanged. Copying what is shown needs no knowledge of DNA, gets 10 % right{worth}, so the mixed "
        "loss compares only with other mixed losses.",
        "Bits per base divide a loss by the bases that its targets cover; where all four bases are equally "
        "likely, a base is 2 bits.",
    ]


def _add_corpus(page: Page, corpus: Mapping[str, Mapping[str, Any]]) -> None:
    measures = list(dict.fromkeys(name for values in corpus.values() for name in values))
    page.table(
        ["species", *measures],
        [[species, *(values.get(name) for name in measures)] for species, values in corpus.items()],
    )
    if len(corpus) > 1:
        counts = [name for name in measures if all(isinstance(v.get(name), int) for v in corpus.values())]
        totals = (f"{format_value(sum(v[name] for v in corpus.values()))} {name}" for name in counts)
        page.text(f"{len(corpus)} species" + "".join(f", {total}" for total in totals) + ".")
