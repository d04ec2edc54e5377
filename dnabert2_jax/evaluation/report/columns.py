"""The columns of a report: runs on the same test rows in, what each model did by each method out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dnabert2_jax.data.gue_tasks import TASKS, find_task
from dnabert2_jax.errors import UserError
from dnabert2_jax.evaluation.report.results import (
    FINE_TUNING,
    OUTSIDE,
    Run,
    ScoredSet,
    Tested,
    check_same_rows,
    distinct_names,
)
from dnabert2_jax.evaluation.trials import METHODS, OF_A_MODEL, TITLES

KMER_REGRESSION = TITLES["kmer-regression"]
# Attributes of a trial that tell what it cost, and their names.
UNITS = {"seconds": "seconds", "training_flops": "training FLOPs"}

# They know nothing of the run's model, so that one column tells all.
_WITHOUT_MODEL = [TITLES[method] for method in METHODS if method not in OF_A_MODEL]
_FIRST = (FINE_TUNING, OUTSIDE)


@dataclass(frozen=True, eq=False)
class Column:
    """One model by one method.

    Attributes:
      label: what heads it.
      run: the run's name; None where the method knows nothing of a run's model.
      method: how the model was used.
      trials: by task, ordered by seed.
    """

    label: str
    run: str | None
    method: str
    trials: dict[str, list[Tested]]

    def total(self, task: str, unit: str) -> float | None:
        """What a task took over its seeds, in one of `UNITS`; None where one of them does not say."""
        amounts = [getattr(trial, unit) for trial in self.trials.get(task, ())]
        return sum(amounts) if amounts and None not in amounts else None


@dataclass(frozen=True, eq=False)
class Board:
    """All that a report is about.

    Attributes:
      runs: by distinct names, the first being the one that others are compared with.
      columns: those of each run, then those without a model. K-mer regression is always there, maybe empty.
      sets: what was scored, by task, in the order of the table of GUE's tasks, others behind.
    """

    runs: dict[str, Run]
    columns: tuple[Column, ...]
    sets: dict[str, ScoredSet]

    @property
    def has_published(self) -> bool:
        """Whether a set is one of the paper's, so that its scores and averages have something beside them."""
        return any(find_task(task) is not None for task in self.sets)

    @property
    def main_columns(self) -> list[Column]:
        """The first column of each run, fine-tuning where it was done; of baselines alone the first."""
        firsts: dict[str, Column] = {}
        for column in self.columns:
            if column.run is not None:
                firsts.setdefault(column.run, column)
        return list(firsts.values()) or [column for column in self.columns if column.trials][:1]

    def missing_seeds(self, column: Column) -> dict[str, list[int]]:
        """Seeds that a column has for other tasks and not for this one, by task."""
        seeds = {task: {trial.seed for trial in trials} for task, trials in column.trials.items()}
        everywhere = {seed for found in seeds.values() for seed in found if seed is not None}
        lacking = {task: sorted(everywhere - seeds[task]) for task in self.sets if task in seeds}
        return {task: missing for task, missing in lacking.items() if missing}


def make_board(runs: Sequence[Run]) -> Board:
    """Sorts runs into columns.

    Raises:
      UserError: two runs were tested on different rows of a task, or tell different things of it; a run is
        named twice.
    """
    named = dict(zip(distinct_names(runs), runs, strict=True))
    if len(named) < len(runs):
        raise UserError(f"{runs[-1].source}: is named twice, or two runs of one name lie there; name it once")
    sets: dict[str, ScoredSet] = {}
    tested: dict[str, Tested] = {}
    for run in runs:
        for task, scored in run.sets.items():
            if sets.setdefault(task, scored) != scored:
                raise UserError(
                    f"{run.source}: {task} has another group, score or classes than in the runs named before;"
                    " report them apart"
                )
        for task, trial in run.all_trials():
            check_same_rows(task, tested.setdefault(task, trial), trial)
    columns = [
        Column(name if method in _FIRST else f"{name}: {method}", name, method, run.trials[method])
        for name, run in named.items()
        for method in sorted(run.trials, key=lambda method: (method not in _FIRST, method))
        if method not in _WITHOUT_MODEL
    ]
    for method in _WITHOUT_MODEL:
        having = {name: run.trials[method] for name, run in named.items() if method in run.trials}
        if all(_same_predictions(one, other) for one, other in combinations(having.values(), 2)):
            merged = {task: tested for found in having.values() for task, tested in found.items()}
            if merged or method == KMER_REGRESSION:
                columns.append(Column(method, None, method, merged))
        else:
            columns += [Column(f"{name}: {method}", name, method, found) for name, found in having.items()]
    places = {task.name: place for place, task in enumerate(TASKS)}
    order = sorted(sets, key=lambda task: (places.get(task, len(places)), task))
    return Board(named, tuple(columns), {task: sets[task] for task in order})


def _same_predictions(one: dict[str, list[Tested]], other: dict[str, list[Tested]]) -> bool:
    """Whether the predictions are the same on all tasks that both have."""
    return all(
        [found.seed for found in one[task]] == [found.seed for found in other[task]]
        and all(
            np.array_equal(mine.predictions, theirs.predictions)
            for mine, theirs in zip(one[task], other[task], strict=True)
        )
        for task in one.keys() & other.keys()
    )


def pairs_to_compare(board: Board) -> list[tuple[Column, Column]]:
    """The first column with all others, and the first run with the others method by method."""
    columns = [column for column in board.columns if column.trials]
    first = columns[0]
    pairs = [(first, other) for other in columns[1:]]
    for one in columns[1:]:
        if one.run == first.run:
            pairs += [
                (one, other)
                for other in columns
                if other.method == one.method and other.run not in (one.run, None)
            ]
    return pairs


def joint_predictions(trials: Sequence[Tested]) -> np.ndarray | None:
    """The classes [n] that the seeds predict together, by the mean of their probabilities.

    None where there are several seeds without probabilities, or one that is not a number.
    """
    if len(trials) == 1:
        return trials[0].predictions
    known = [trial.probabilities for trial in trials if trial.probabilities is not None]
    if len(known) < len(trials):
        return None
    mean = np.mean(known, axis=0, dtype=np.float64)
    return mean.argmax(axis=1) if np.isfinite(mean).all() else None
