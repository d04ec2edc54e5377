"""`gue report`: run folders and tables of predictions come in; a page, Markdown and CSV go out."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dnabert2_jax.data.gue_tasks import GROUPS
from dnabert2_jax.errors import UserError
from dnabert2_jax.evaluation.report.blocks import report_blocks
from dnabert2_jax.evaluation.report.cells import MISSING, mean_cell
from dnabert2_jax.evaluation.report.columns import UNITS, make_board
from dnabert2_jax.evaluation.report.paper import OWN_MODEL, paper_columns, published
from dnabert2_jax.evaluation.report.results import Run, read_predictions, read_run
from dnabert2_jax.evaluation.report.summary import (
    GUE_BY_GROUP,
    GUE_FLAT,
    Estimate,
    Findings,
    Grouping,
    average,
    group_tasks,
    paper_average,
    summarise,
)
from dnabert2_jax.files import atomic_file, check_writable
from dnabert2_jax.reports.sections import markdown_of, page_of

_TITLE = "GUE: scores on the test sets"
_COLUMNS = (
    "kind",
    "column",
    "method",
    "name",
    "metric",
    "sets",
    "sets_in_all",
    "seeds",
    "score",
    "sd",
    "low",
    "high",
    "collapsed_seeds",
    "score_without_collapsed",
    "seconds",
    "training_flops",
)


def report_gue(folders: Sequence[Path], tables: Sequence[Path], output: Path) -> list[str]:
    """Writes the three files of a report.

    Args:
      folders: runs of `gue run`; the first is the one that the others are compared with.
      tables: predictions of other programs.
      output: the folder to write into; files of an earlier report in it are replaced.

    Returns:
      The lines of a short table, for a terminal.

    Raises:
      UserError: nothing is named; something is missing or damaged, or was tested on other rows; `output`
        cannot be written.
    """
    if not folders and not tables:
        raise UserError(
            "there is nothing to report; name a folder that dnabert2 gue run wrote, or predictions"
        )
    check_writable(output / "report.html")
    runs: list[Run] = [read_run(folder) for folder in folders]
    known = {task: scored for run in reversed(runs) for task, scored in run.sets.items()}
    for table in tables:
        runs += read_predictions(table, known)
    board = make_board(runs)
    findings = summarise(board)
    blocks = report_blocks(findings)
    subtitle = " · ".join(board.runs)
    page_of(_TITLE, subtitle, blocks).write(output / "report.html")
    with atomic_file(output / "report.md", "w") as file:
        file.write(markdown_of(_TITLE, subtitle, blocks))
    with atomic_file(output / "report.csv", "w") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*_our_rows(findings), *(_paper_rows() if board.has_published else ())])
    return _short_table(findings)


def _averages() -> Iterator[tuple[str, str, Grouping]]:
    """Kind, name and sets of every average that is told."""
    for group in GROUPS:
        yield "group mean", group.name, (group_tasks(group.name),)
    yield "flat28", "GUE", GUE_FLAT
    yield "macro7", "GUE", GUE_BY_GROUP


def _our_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for column in findings.board.columns:
        scores = findings.scores[column.label]
        start = {"column": column.label, "method": column.method}
        for task, score in scores.items():
            trials = column.trials[task]
            yield (
                {"kind": "set", "name": task, "metric": findings.board.sets[task].metric}
                | start
                | {"sets": 1, "sets_in_all": 1, "seeds": len(trials), "sd": _written(score.sd)}
                | {"collapsed_seeds": len(score.collapsed)}
                | _estimate(score.estimate, score.without_collapsed)
                | {unit: _written(column.total(task, unit)) for unit in UNITS}
            )
        for kind, name, wanted in _averages():
            mean = average(scores, wanted)
            if mean is not None:
                counts = {"sets": sum(map(len, mean.present)), "sets_in_all": mean.of}
                yield (
                    {"kind": kind, "name": name}
                    | start
                    | counts
                    | _estimate(mean.estimate, mean.without_collapsed)
                )


def _paper_rows() -> Iterator[dict[str, Any]]:
    for column in paper_columns(5, 6, 9):
        start = {"column": column.label, "method": "paper"}
        for task, score in column.scores.items():
            metric = {"metric": "doubtful: looks like F1"} if task in column.doubtful else {}
            yield {"kind": "set", "name": task, "score": score, "sets": 1, "sets_in_all": 1} | start | metric
        for kind, name, wanted in _averages():
            mean = paper_average(column, wanted)
            if mean is not None:
                count = sum(map(len, wanted))
                yield (
                    {"kind": kind, "name": name, "score": _written(mean)}
                    | {"sets": count, "sets_in_all": count}
                    | start
                )


def _estimate(estimate: Estimate, without_collapsed: Estimate | None) -> dict[str, str | None]:
    low, high = estimate.interval
    found = {"score": _written(estimate.mean), "low": _written(low), "high": _written(high)}
    if without_collapsed is not None:
        found["score_without_collapsed"] = _written(without_collapsed.mean)
    return found


def _written(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _short_table(findings: Findings) -> list[str]:
    board = findings.board
    beside = ["paper: DNABERT-2"] if board.has_published else []
    rows = [["", *(column.label for column in board.columns), *beside]]
    for task in board.sets:
        cells = [
            mean_cell(findings.scores[column.label].get(task), column.trials.get(task, ()))
            for column in board.columns
        ]
        theirs = published(task)
        rows.append([task, *cells, *("–" if theirs is None else f"{theirs:.2f}" for _ in beside)])
    own = next(column for column in paper_columns(6) if column.model == OWN_MODEL)
    for kind, wanted in (("flat28", GUE_FLAT), ("macro7", GUE_BY_GROUP)):
        means = [average(findings.scores[column.label], wanted) for column in board.columns]
        if not any(means):
            continue
        cells = [MISSING if mean is None else f"{mean.estimate.mean:.2f} {mean.label}" for mean in means]
        first = next(mean for mean in means if mean is not None)
        theirs = paper_average(own, first.present)
        same = "" if first.is_whole else " on those of the first"
        rows.append([kind, *cells, f"{theirs:.2f}{same}"])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
