"""The sections of a GUE report, in words, tables and plots: what `summary` found comes in, blocks go out."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from dnabert2_jax.data.gue_tasks import GROUPS, TASKS, Group, find_task
from dnabert2_jax.evaluation.report.cells import MISSING, interval, listed, number, score_cell
from dnabert2_jax.evaluation.report.columns import Board
from dnabert2_jax.evaluation.report.paper import PaperColumn, paper_columns, published
from dnabert2_jax.evaluation.report.results import FINE_TUNING
from dnabert2_jax.evaluation.report.statistics import RESAMPLES
from dnabert2_jax.evaluation.report.summary import (
    GUE_BY_GROUP,
    GUE_FLAT,
    Average,
    Findings,
    Grouping,
    SetScore,
    average,
    group_tasks,
    paper_average,
)
from dnabert2_jax.evaluation.report.verdicts import (
    collapse_blocks,
    comparison_blocks,
    cost_blocks,
    rank_blocks,
    run_blocks,
)
from dnabert2_jax.reports.metrics import curve
from dnabert2_jax.reports.sections import Bars, Block, Confusion, Curves, Heading, Remark, Table, Text

_METRIC_NAMES = {"matthews_correlation": "MCC", "macro_f1": "macro F1"}
_HOW_TO_READ = (
    "Scores are points: 100 × the score on the whole test set. MCC is the Matthews correlation between"
    " true and predicted classes: 100 where all are right, 0 for guessing and for always giving the same"
    " answer. Macro F1, which the paper reports for virus/covid, is the mean of the classes' F1.",
    "A cell reads: mean over seeds ± their standard deviation (number of seeds) [95 % interval]. The"
    f" interval is a bootstrap of {RESAMPLES:,} resamples over test items and seeds: where the mean might"
    " have come out with other test sequences of the same kind and other seeds, 95 times of 100; of three"
    " seeds or fewer it is rough. It does not cover the choice of the data set, wrong labels, or leaks"
    " between its splits, and test sequences that overlap one another make it too narrow.",
)
_HOW_TO_READ_PUBLISHED = (
    "Columns headed “paper” are the DNABERT-2 paper's, with the number of its table: means of three"
    " seeds, published without intervals. Their averages are computed here from the tables' entries: for"
    " NT-500M-1000g these average 57.79, not the 58.23 of the paper's Table 3. In a table of averages"
    " they are over the same sets as ours in their column.",
    "flat28 is the mean of the 28 sets of GUE; macro7 is the mean of the means of its 7 groups. They"
    " differ by several points.",
)
_DOUBTFUL = (
    "† Table 9's entries of DNABERT-2 on the transcription factors look like F1, while all else in the"
    " table looks like MCC and Table 6 gives MCC. They are shown and not compared with."
)


def report_blocks(findings: Findings) -> list[Block]:
    """The whole report."""
    return [
        *_warnings(findings),
        *_averages(findings),
        Heading("How to read this"),
        *map(Text, _HOW_TO_READ),
        *map(Text, _HOW_TO_READ_PUBLISHED if findings.board.has_published else ()),
        *(block for group in GROUPS for block in _group_section(findings, group)),
        *_other_sets(findings),
        *collapse_blocks(findings),
        *rank_blocks(findings),
        *comparison_blocks(findings),
        *cost_blocks(findings),
        *run_blocks(findings),
    ]


def _warnings(findings: Findings) -> Iterator[Block]:
    board = findings.board
    for name, run in board.runs.items():
        if run.unfinished:
            yield Remark(f"{name} is unfinished: {listed(run.unfinished)} have no result yet.")
    for column in board.columns:
        lacking = board.missing_seeds(column)
        if lacking:
            told = [f"{task} lacks {', '.join(map(str, seeds))}" for task, seeds in lacking.items()]
            yield Remark(f"{column.label} has not the same seeds for every set: {listed(told, '; ')}.")
        if not column.trials:
            yield Remark(
                f"Nobody ran the {column.label} that every table should have; dnabert2 gue run does it in"
                " seconds."
            )
    for column in board.main_columns:
        missing = [task for task in GUE_FLAT[0] if task not in column.trials]
        if 0 < len(missing) < len(GUE_FLAT[0]):
            yield Remark(
                f"{column.label} has no result for {len(missing)} of the 28 sets: {listed(missing)}."
            )
    for split, place, sizes in (("test", 2, _test_sizes(board)), ("train", 0, _train_sizes(board))):
        other = [
            f"{task} ({rows:,} of {known.released_sizes[place]:,} rows)"
            for task, rows in sizes.items()
            if (known := find_task(task)) and rows != known.released_sizes[place]
        ]
        if other:
            yield Remark(
                f"Not the released {split} sets, so that the paper's scores are of other data:"
                f" {listed(other)}."
            )


def _averages(findings: Findings) -> Iterator[Block]:
    if findings.board.sets.keys().isdisjoint(GUE_FLAT[0]):
        return
    yield Heading("Averages")
    for title, wanted in (
        ("flat28, the mean of the 28 sets of GUE", GUE_FLAT),
        ("macro7, the mean of the 7 groups of GUE", GUE_BY_GROUP),
    ):
        yield Heading(title, 3)
        yield from _average_table(findings, wanted, paper_columns(6, 9))


def _average_table(findings: Findings, wanted: Grouping, papers: Sequence[PaperColumn]) -> Iterator[Block]:
    found = {label: average(scores, wanted) for label, scores in findings.scores.items()}
    present = {label: mean for label, mean in found.items() if mean is not None}
    rows: dict[str, list[str | None]] = {
        "mean": [number(mean.estimate.mean) for mean in present.values()],
        "95 % interval": [interval(mean.estimate) for mean in present.values()],
    }
    if any(mean.without_collapsed for mean in present.values()):
        kept = [mean.without_collapsed or mean.estimate for mean in present.values()]
        rows["mean without collapsed seeds"] = [number(estimate.mean) for estimate in kept]
    rows["sets"] = [mean.label for mean in present.values()]
    for paper in papers:
        theirs = [paper_average(paper, mean.present) for mean in present.values()]
        if any(mean is not None for mean in theirs):
            rows[paper.label] = [*map(_two_decimals, theirs)]
    yield Table(["", *present], [[name, *cells] for name, cells in rows.items()])


def _group_section(findings: Findings, group: Group) -> Iterator[Block]:
    tasks = group_tasks(group.name)
    if not any(task in findings.board.sets for task in tasks):
        return
    yield Heading(f"{group.name}: {group.title} ({group.benchmark})")
    papers = paper_columns(5) if group.benchmark == "GUE+" else paper_columns(6, 9)
    yield from _set_blocks(findings, tasks, papers)


def _other_sets(findings: Findings) -> Iterator[Block]:
    known = {task.name for task in TASKS}
    others = [task for task in findings.board.sets if task not in known]
    if others:
        yield Heading("Other sets")
        yield Text("They are none of the paper's.")
        yield from _set_blocks(findings, others, ())


def _set_blocks(findings: Findings, tasks: Sequence[str], papers: Sequence[PaperColumn]) -> Iterator[Block]:
    board, scores = findings.board, findings.scores
    cells = [
        [
            task,
            _metric(board, task),
            *(score_cell(scores[c.label].get(task), c.trials.get(task, ())) for c in board.columns),
        ]
        for task in tasks
    ]
    if len(tasks) > 1:
        means = [average(scores[column.label], (tuple(tasks),)) for column in board.columns]
        cells.append(["mean", "", *map(_mean_cell, means)])
    yield Table(["set", "score", *(column.label for column in board.columns)], cells)
    if papers:
        yield Heading("Beside the paper's", 3)
        yield from _beside_paper(findings, tasks, papers)
    yield Heading("At a glance", 3)
    marks = {"paper: DNABERT-2": [published(task) for task in tasks]} if papers else {}
    yield Bars(
        "Means over seeds with 95 % intervals; the line across is the paper's DNABERT-2."
        if papers
        else "Means over seeds with 95 % intervals.",
        tasks,
        {label: [_bar(found.get(task)) for task in tasks] for label, found in scores.items() if found},
        marks,
        "points",
    )
    yield Heading("Set by set", 3)
    for task in tasks:
        if task in board.sets:
            yield from _set_plots(findings, task)


def _beside_paper(findings: Findings, tasks: Sequence[str], papers: Sequence[PaperColumn]) -> Iterator[Block]:
    papers = [paper for paper in papers if not paper.scores.keys().isdisjoint(tasks)]
    ours = [(label, found) for label, found in findings.scores.items() if not found.keys().isdisjoint(tasks)]
    rows = [[label, *(_points(found.get(task)) for task in tasks)] for label, found in ours]
    rows += [[paper.label, *(_paper_cell(paper, task) for task in tasks)] for paper in papers]
    columns = ["", *tasks]
    common = tuple(task for task in tasks if all(task in found for _, found in ours))
    if len(common) > 1:
        count = len(common)
        columns.append("mean" if count == len(tasks) else f"mean over the {count} that all of ours have")
        means = [fmean(found[task].estimate.mean for task in common) for _, found in ours]
        means += [paper_average(paper, (common,)) for paper in papers]
        rows = [[*row, _two_decimals(mean)] for row, mean in zip(rows, means, strict=True)]
    yield Table(columns, rows)
    if any(task in paper.doubtful for task in tasks for paper in papers):
        yield Text(_DOUBTFUL)


def _set_plots(findings: Findings, task: str) -> Iterator[Block]:
    names = _class_names(findings.board, task)
    for column in findings.board.columns:
        curves = {
            f"seed {trial.seed}": curve(trial.evaluations, "loss")
            for trial in column.trials.get(task, ())
            if trial.evaluations
        }
        if curves:
            yield Curves(f"{task}, {column.label}: dev loss in training.", curves, "step", "loss (nats)")
        if task in column.trials and column in findings.board.main_columns:
            yield Confusion(
                f"{task}, {column.label}: confusion matrix of the test set, summed over seeds. Shades give a"
                " cell's share of its true class (row).",
                findings.scores[column.label][task].confusion,
                names,
            )


def _test_sizes(board: Board) -> dict[str, int]:
    return {task: len(trials[0].labels) for column in board.columns for task, trials in column.trials.items()}


def _train_sizes(board: Board) -> dict[str, int]:
    return {
        task: trials[0].train_examples
        for column in board.columns
        if column.method == FINE_TUNING
        for task, trials in column.trials.items()
        if trials[0].train_examples is not None
    }


def _metric(board: Board, task: str) -> str:
    if task in board.sets:
        return _METRIC_NAMES[board.sets[task].metric]
    known = find_task(task)
    return _METRIC_NAMES[known.metric] if known else MISSING


def _mean_cell(mean: Average | None) -> str:
    if mean is None:
        return MISSING
    partial = "" if mean.is_whole else f" {mean.label}"
    return f"{number(mean.estimate.mean)}{partial} {interval(mean.estimate)}"


def _bar(score: SetScore | None) -> tuple[float, float, float] | None:
    return None if score is None else (score.estimate.mean, *score.estimate.interval)


def _class_names(board: Board, task: str) -> list[str]:
    """The classes by number, and by meaning where that is known."""
    names = board.sets[task].class_names
    known = find_task(task)
    if known is None or len(known.group.label_names) != len(names):
        return list(names)
    return [f"{name} {meaning}" for name, meaning in zip(names, known.group.label_names, strict=True)]


def _points(score: SetScore | None) -> str | None:
    return None if score is None else number(score.estimate.mean)


def _paper_cell(paper: PaperColumn, task: str) -> str | None:
    points = _two_decimals(paper.scores.get(task))
    return f"{points} †" if task in paper.doubtful else points


def _two_decimals(value: float | None) -> str | None:
    # A column of numbers that holds 100 would be left one.
    return None if value is None else number(value)
