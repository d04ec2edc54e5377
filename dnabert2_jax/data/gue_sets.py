"""The data sets of GUE, and any of your own, in a folder: where each lies, and its labelled sequences.

A folder of CSV files that is none of GUE's sets is a task of its own, named as the folder.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnabert2_jax.data.gue_tasks import TASKS, Group, Recipe, Task, choose_tasks, find_task
from dnabert2_jax.data.labelled import (
    LABELLED_SPLITS,
    LabelledData,
    LabelledSplit,
    find_split,
    read_splits,
    require_splits,
)
from dnabert2_jax.data.tables import Row, check_sequence
from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.genome.inputs import warn
from dnabert2_jax.genome.sequence import ACGT

USER_GROUP = Group("user", "your own", "user", (), is_stranded=True)
"""The group of all tasks that are not GUE's. Nobody knows whether their labels depend on the strand."""

_MOST_OTHERS = 0.1  # of a sequence's letters
_MOST_SHOWN = 8

# The archive's names for the sets of GUE+ are not published. Besides those that our table gives them, these
# are taken, from copies of the benchmark that are around.
_ALIASES = {
    "species/fungi": ("species/fungi_species_20", "fungi_species_20"),
    "species/virus": ("species/virus_species_40", "virus_species_40"),
    "EPI/HeLa-S3": ("EPI/HeLa",),
}
_FLAT_PREFIXES = {"EMP": "emp_", "tf": "human_tf_", "prom": "", "EPI": "EPI_"}


def task_folder(data: Path, name: str) -> Path | None:
    """The folder of a task, which holds at least one split; None where there is none.

    Args:
      data: holds EMP/, tf/ and so on, or a folder GUE… that holds them, or your own sets; or is a set itself.
      name: of the task. A folder of this very name goes before one of another name for the same set.
    """
    roots = [data, *sorted(path for path in data.glob("GUE*") if path.is_dir())]
    found = (root / place for place in (name, *_other_names(name)) for root in roots)
    folder = next((folder for folder in found if _has_split(folder)), None)
    if folder is None and data.resolve().name == name and _has_split(data):
        return data
    return folder


def present_tasks(data: Path) -> list[Task]:
    """The tasks in a folder: those of GUE in the order of the table, then your own by name.

    Args:
      data: as in `task_folder`. Your own sets are the folders in it that hold a split, or it is one.

    Raises:
      UserError: there is no such folder, or a set of your own cannot be read.
    """
    return [_task_of(name, folder) for name, folder in _present_folders(data).items()]


def choose_present(data: Path, words: Sequence[str] = (), *, whole: bool = False) -> list[Task]:
    """The tasks that are asked for and are there, in the order of `present_tasks`.

    Args:
      data: as in `task_folder`.
      words: as `choose_tasks` takes them, and names of your own sets; none means all. Of groups those sets
        are taken that are there.
      whole: leaves out sets that lack a split.

    Warns:
      InputWarning: names the sets that are left out.

    Raises:
      UserError: there are no sets, or a word asks for nothing that is there, or for nothing that is whole; a
        set of your own that is asked for cannot be read.
    """
    present = _present_folders(data)
    if not present:
        raise UserError(f"{data}: holds no data set; name the folder that holds EMP, tf and so on, or a set")
    usable = [
        name for name, folder in present.items() if not whole or len(_files(folder)) == len(LABELLED_SPLITS)
    ]
    own = {name for name in present if find_task(name) is None}
    chosen: set[str] = set()
    for word in words or ["all"]:
        asked = {word} if word in own else {task.name for task in choose_tasks([word])}
        found = (asked | own if word == "all" else asked).intersection(usable)
        lacking = [name for name in present if name in asked and name not in usable]
        if not found and lacking:
            first = present[lacking[0]]
            require_splits(first, {split: find_split(first, split) for split in LABELLED_SPLITS})
        if not found:
            shown = ", ".join(usable[:_MOST_SHOWN]) + (", …" if len(usable) > _MOST_SHOWN else "")
            raise UserError(f"{data}: has none of the sets that {word!r} asks for; it has {shown}")
        chosen |= found
        left_out = sorted(asked.intersection(present) - found)
        if left_out:
            warn(f"{data}: left out, as they lack a split: {', '.join(left_out)}")
    return [_task_of(name, folder) for name, folder in present.items() if name in chosen]


def user_task(folder: Path) -> Task:
    """The task that a folder of your own is: named as it, with the score MCC and both strands left apart.

    Sizes, classes and length, that of the longest example, are those found.

    Raises:
      UserError: it holds no split, or one that cannot be read.
    """
    with warnings.catch_warnings():
        # Whoever loads the set is told.
        warnings.simplefilter("ignore", InputWarning)
        splits, class_names = _read(folder)
    sizes = tuple(len(splits[name]) if name in splits else 0 for name in LABELLED_SPLITS)
    is_pair = any(split.seconds is not None for split in splits.values())
    return Task(
        name=folder.resolve().name,
        group=USER_GROUP,
        classes=len(class_names),
        length=max(_longest(split) for split in splits.values()),
        sizes=(sizes[0], sizes[1], sizes[2]),
        released_sizes=(sizes[0], sizes[1], sizes[2]),
        metric="matthews_correlation",
        recipe=Recipe(max_length=None, epochs=3),
        is_pair=is_pair,
    )


def load_task(data: Path, task: Task) -> LabelledData:
    """Loads train, dev and test of a task.

    Letters other than A, C, G and T stay as they are, for the tokenizer to read as it reads them.

    Args:
      data: as in `task_folder`.
      task: one of `present_tasks`.

    Warns:
      InputWarning: once for a file that has other letters, or RNA, or another number of rows than it should.

    Raises:
      UserError: the folder or a split is missing; the splits differ in their columns or labels; the classes
        are not those of the task; a file cannot be read, or has a sequence of which more than a tenth is no
        base.
    """
    folder = _folder(data, task)
    require_splits(folder, {split: find_split(folder, split) for split in LABELLED_SPLITS})
    splits, class_names = _checked(folder, task)
    return LabelledData(**splits, problem="single_label_classification", class_names=class_names)


def load_splits(data: Path, task: Task) -> dict[str, LabelledSplit]:
    """Loads those splits of a task that are there, by name, in the order train, dev, test.

    Arguments, warnings and errors are those of `load_task`, but that splits may be missing.
    """
    return _checked(_folder(data, task), task)[0]


def split_files(data: Path, task: Task) -> dict[str, Path]:
    """The files of those splits of a task that are there, in the order train, dev, test.

    Raises:
      UserError: the task is not there.
    """
    return _files(_folder(data, task))


def _present_folders(data: Path) -> dict[str, Path]:
    """The folders of the tasks that are there, by name, in the order of `present_tasks`; nothing is read."""
    if not data.is_dir():
        raise UserError(
            f"{data}: no such folder; name the one that holds the data sets, or get GUE's by"
            " dnabert2 gue download"
        )
    if _has_split(data):
        return {data.resolve().name: data}
    folders = {task.name: folder for task in TASKS if (folder := task_folder(data, task.name)) is not None}
    taken = set(folders.values())
    own: dict[str, Path] = {}
    for folder in sorted(data.iterdir()):
        if folder in taken or not _has_split(folder):
            continue
        name = folder.resolve().name
        if name in own:
            raise UserError(f"{own[name]} and {folder}: both lead to a folder called {name}; rename one")
        own[name] = folder
    return folders | own


def _task_of(name: str, folder: Path) -> Task:
    return find_task(name) or user_task(folder)


def _folder(data: Path, task: Task) -> Path:
    folder = task_folder(data, task.name)
    if folder is None:
        raise UserError(
            f"{data}: has no folder {task.name} with train.csv, dev.csv and test.csv; name the folder that"
            " holds it, or get it with dnabert2 gue download"
        )
    return folder


def _files(folder: Path) -> dict[str, Path]:
    found = {split: find_split(folder, split) for split in LABELLED_SPLITS}
    return {split: path for split, path in found.items() if path is not None}


def _has_split(folder: Path) -> bool:
    return any((folder / f"{split}.csv{end}").is_file() for split in LABELLED_SPLITS for end in ("", ".gz"))


def _other_names(name: str) -> Sequence[str]:
    kind, slash, rest = name.partition("/")
    flat = (_FLAT_PREFIXES.get(kind, f"{kind}_") + rest,) if slash else ()
    return (*_ALIASES.get(name, ()), *flat)


def _read(folder: Path) -> tuple[dict[str, LabelledSplit], tuple[str, ...]]:
    files = _files(folder)
    if not files:
        raise UserError(f"{folder}: has neither train.csv, dev.csv nor test.csv; name a folder that has them")
    return read_splits(files, "single_label_classification", check_letters)


def _checked(folder: Path, task: Task) -> tuple[dict[str, LabelledSplit], tuple[str, ...]]:
    splits, class_names = _read(folder)
    if task.group == USER_GROUP:
        return splits, class_names
    files = _files(folder)
    first = next(iter(files.values()))
    if class_names != tuple(map(str, range(task.classes))):
        shown = ", ".join(class_names[:8]) + (", …" if len(class_names) > 8 else "")
        raise UserError(
            f"{first}: has the labels {shown}, and those of {task.name} are the numbers from 0 to"
            f" {task.classes - 1}; put the released file there, or rename the folder if it is a task of yours"
        )
    for name, split in splits.items():
        if (split.seconds is not None) != task.is_pair:
            wanted = "pairs, sequence1 and sequence2" if task.is_pair else "single sequences"
            raise UserError(
                f"{files[name]}: examples of {task.name} are {wanted}; put the released file there"
            )
        missing = set(range(task.classes)).difference(split.labels.tolist())
        if missing:
            raise UserError(
                f"{files[name]}: no row has the label {min(missing)}, which {first.name} has; put the"
                " released file there"
            )
    for name, split in splits.items():
        if len(split) != task.size_of[name]:
            warn(
                f"{files[name]}: has {len(split):,} rows, and the released file {task.size_of[name]:,};"
                " scores cannot be compared with published ones"
            )
    return splits, class_names


def check_letters(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Counts the letters other than A, C, G, T and U in a file's sequences, and refuses what is no sequence.

    Warns:
      InputWarning: there are some; the first line is named.

    Raises:
      UserError: a field is empty, holds something other than letters, or more than a tenth of it is others.
    """
    others = np.zeros(len(rows), np.int64)
    for column in columns:
        counts = _count_others([row.fields[column] for row in rows])
        for place in np.flatnonzero(counts).tolist():
            row, count = rows[place], int(counts[place])
            sequence = row.fields[column]
            if not (sequence.isascii() and sequence.isalpha()):
                check_sequence(path, row, column)
            if count > _MOST_OTHERS * len(sequence):
                raise UserError(
                    f"{path}: line {row.line}: {count} of the {len(sequence)} letters of the {column} are not"
                    " A, C, G or T; correct or remove the line"
                )
        others += counts
    places = np.flatnonzero(others)
    if places.size:
        warn(
            f"{path}: letters other than A, C, G and T: {others.sum():,} in {places.size:,} of {len(rows):,}"
            f" sequences, the first on line {rows[places[0]].line}; they are tokenised as they stand"
        )


def _count_others(sequences: Sequence[str]) -> np.ndarray:
    """How many letters of each sequence are none of A, C, G, T, U; 1 for an empty one."""
    lengths = np.array([len(sequence) for sequence in sequences])
    # Letters outside of ASCII become "?", one each.
    letters = np.frombuffer("".join(sequences).encode("ascii", "replace"), np.uint8)
    is_other = ~(ACGT[letters] | (letters == ord("U")) | (letters == ord("u")))
    counts = np.zeros(lengths.size, np.int64)
    if is_other.any():
        owners = np.repeat(np.arange(lengths.size), lengths)
        counts = np.bincount(owners[is_other], minlength=lengths.size)
    counts[lengths == 0] = 1
    return counts


def _longest(split: LabelledSplit) -> int:
    seconds = split.seconds or [""] * len(split)
    return max(len(first) + len(second) for first, second in zip(split.sequences, seconds, strict=True))
