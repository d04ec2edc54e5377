"""Where the sets of GUE lie in a folder, what is checked of them, and folders of one's own."""

import csv
import gzip
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.data import gue_sets
from dnabert2_jax.data.gue_sets import (
    USER_GROUP,
    choose_present,
    load_splits,
    load_task,
    present_tasks,
    split_files,
    task_folder,
    user_task,
)
from dnabert2_jax.data.gue_tasks import TASKS, Task, choose_tasks, find_task
from dnabert2_jax.data.labelled import LABELLED_SPLITS, write_labelled
from dnabert2_jax.errors import InputWarning, UserError

ROWS = [("ACGTACGTAC", 0), ("TTTTTTTTTT", 1), ("GGGGGGGGGG", 0)]


def named(name: str) -> Task:
    task = find_task(name)
    assert task is not None
    return task


def small(name: str) -> Task:
    """A task as small as ROWS."""
    return replace(named(name), released_sizes=(3, 3, 3))


def write(folder: Path, rows: list | None = None, splits=LABELLED_SPLITS, **other: list) -> Path:
    write_labelled(folder, dict.fromkeys(splits, rows or ROWS) | other)
    return folder


@pytest.mark.parametrize("root", ["", "GUE", "GUE_plus"])
def test_finds_the_layout_of_the_archive(root: str, tmp_path: Path):
    folder = write(tmp_path / root / "EMP" / "H3")
    assert task_folder(tmp_path, "EMP/H3") == folder
    assert task_folder(tmp_path, "EMP/H4") is None


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("species/fungi", "GUE+/species/fungi_species_20"),
        ("species/virus", "virus_species_40"),
        ("EPI/K562", "EPI_K562"),
        ("tf/3", "human_tf_3"),
        ("prom/prom_core_all", "GUE/prom_core_all"),
        ("mouse/0", "mouse_0"),
    ],
)
def test_finds_sets_under_other_names(name: str, place: str, tmp_path: Path):
    folder = write(tmp_path / place, splits=("test",))
    assert task_folder(tmp_path, name) == folder
    # A folder of the very name goes first.
    own = write(tmp_path / "GUE" / name, splits=("test",))
    assert task_folder(tmp_path, name) == own


def test_a_folder_without_tables_is_no_set(tmp_path: Path):
    (tmp_path / "EMP" / "H3").mkdir(parents=True)
    assert task_folder(tmp_path, "EMP/H3") is None
    assert present_tasks(tmp_path) == []


def test_present_tasks_come_in_the_order_of_the_table_and_then_your_own(tmp_path: Path):
    write(tmp_path / "zebra")
    write(tmp_path / "ape")
    write(tmp_path / "GUE" / "tf" / "0")
    write(tmp_path / "emp_H3")
    assert [task.name for task in present_tasks(tmp_path)] == ["EMP/H3", "tf/0", "ape", "zebra"]


def test_sets_that_are_not_asked_for_are_not_read(tmp_path: Path):
    write(tmp_path / "mine")
    write(tmp_path / "tf" / "0")
    broken = write(tmp_path / "broken")
    (broken / "dev.csv").write_text("sequence,label\nnot a sequence,0\n")
    assert [task.name for task in choose_present(tmp_path, ["mine"])] == ["mine"]
    assert [task.name for task in choose_present(tmp_path, ["tf/0"], whole=True)] == ["tf/0"]
    for words in (["broken"], ["all"], []):
        with pytest.raises(UserError, match=r"broken/dev.csv: line 2"):
            choose_present(tmp_path, words)


def test_a_set_of_your_own_is_a_task(tmp_path: Path):
    folder = write(tmp_path / "enhancers", test=[("ACGTAACCGGTT", 1), ("AC", 0)])
    task = user_task(folder)
    assert (task.name, task.group, task.classes, task.length) == ("enhancers", USER_GROUP, 2, 12)
    assert task.size_of == {"train": 3, "dev": 3, "test": 2}
    assert (task.metric, task.is_pair) == ("matthews_correlation", False)
    assert (task.recipe.max_length, task.recipe.epochs) == (None, 3)
    assert not task.ours.average_strands
    # It is found from its own folder and from the one above.
    assert present_tasks(folder) == present_tasks(tmp_path) == [task]
    for data in (folder, tmp_path):
        assert load_task(data, task).test.sequences == ["ACGTAACCGGTT", "AC"]


def test_classes_of_your_own_have_names(tmp_path: Path):
    folder = write(tmp_path / "tissues", [("ACGT", "liver"), ("AAAA", "brain"), ("CCCC", "skin")])
    data = load_task(tmp_path, user_task(folder))
    assert data.class_names == ("brain", "liver", "skin")
    assert data.dev.labels.tolist() == [1, 0, 2]


def test_pairs_of_your_own(tmp_path: Path):
    folder = write(tmp_path / "loops", [("ACGT", "AA", 0), ("CCC", "GGGGG", 1)])
    task = user_task(folder)
    assert (task.is_pair, task.length) == (True, 8)
    assert load_task(tmp_path, task).train.seconds == ["AA", "GGGGG"]


def test_loads_what_is_there(tmp_path: Path):
    write(tmp_path / "tf" / "0", splits=("dev", "test"))
    splits = load_splits(tmp_path, small("tf/0"))
    assert list(splits) == ["dev", "test"]
    assert splits["dev"].labels.tolist() == [0, 1, 0]
    assert list(split_files(tmp_path, small("tf/0"))) == ["dev", "test"]
    with pytest.raises(UserError, match=r"has no train.csv or train.csv.gz; add the train split"):
        load_task(tmp_path, small("tf/0"))


def test_a_missing_set_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"has no folder tf/0 with train.csv.*gue download"):
        load_task(tmp_path, named("tf/0"))
    with pytest.raises(UserError, match="no such folder"):
        present_tasks(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has neither train.csv"):
        user_task(tmp_path)


def test_other_sizes_give_a_warning_with_both_numbers(tmp_path: Path):
    write(tmp_path / "virus" / "covid", [("ACGT", label) for label in range(9)], splits=("train", "test"))
    with pytest.warns(InputWarning) as caught:
        load_splits(tmp_path, named("virus/covid"))
    # Those of the archive, and not those of the paper, 77,669 and 7,000.
    assert [str(warning.message).split("; ")[0].split(": ", 1)[1] for warning in caught] == [
        "has 9 rows, and the released file 73,335",
        "has 9 rows, and the released file 9,168",
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            {"train": [("ACGT", 0), ("AAAA", 1), ("CCCC", 2)]},
            r"train.csv: has the labels 0, 1, 2.*from 0 to 1",
        ),
        (
            {split: [("ACGT", "no"), ("AAAA", "yes")] for split in LABELLED_SPLITS},
            r"train.csv: has the labels no, yes",
        ),
        (
            {"dev": [("ACGT", 0), ("AAAA", 2)]},
            r"dev.csv: line 3: the label '2' is not among those of train.csv",
        ),
        ({"test": [("ACGT", 0), ("AAAA", 0)]}, r"test.csv: no row has the label 1, which train.csv has"),
        ({"dev": [("ACGT", "A", 0), ("AAAA", "C", 1)]}, r"dev.csv: train.csv has single sequences"),
        (
            {split: [("ACGT", "A", 0), ("A", "C", 1)] for split in LABELLED_SPLITS},
            r"train.csv: examples of tf/0 are",
        ),
        ({"test": [("ACGT", 0), ("", 1)]}, r"test.csv: line 3: the sequence is empty"),
        ({"test": [("ACGT", 0), ("AC-T", 1)]}, r"test.csv: line 3: .*'-' is no IUPAC"),
        ({"test": [("ACGT", 0), ("ACéT", 1)]}, r"test.csv: line 3: .*'é' is no IUPAC"),
    ],
)
def test_bad_sets_are_refused_in_one_sentence(rows: dict, says: str, tmp_path: Path):
    write(tmp_path / "tf" / "0", **rows)
    with pytest.raises(UserError, match=says) as caught:
        load_task(tmp_path, named("tf/0"))
    assert "\n" not in str(caught.value)


def test_other_letters_are_counted_once_for_a_file(tmp_path: Path):
    rows = [("ACGTACGTAC", 0), ("ACGTNCGTACacgtacgtac", 1), ("XCGTACGTACGTACGTACGR", 0)]
    write(tmp_path / "tf" / "0", dev=rows)
    with pytest.warns(InputWarning) as caught:
        data = load_task(tmp_path, small("tf/0"))
    (warning,) = caught
    assert "dev.csv: letters other than A, C, G and T: 3 in 2 of 3 sequences, the first on line 3" in str(
        warning.message
    )
    assert data.dev.sequences == [sequence for sequence, _ in rows]


def test_both_sequences_of_a_pair_are_counted(tmp_path: Path):
    rows = [("A" * 20, "C" * 19 + "N", 0), ("N" + "A" * 19, "C" * 20, 1)]
    folder = write(tmp_path / "pairs", rows, splits=("train",))
    with pytest.warns(InputWarning, match=r": 2 in 2 of 2 sequences") as caught:
        load_splits(tmp_path, user_task(folder))
    assert len(caught) == 1


def test_a_tenth_of_other_letters_is_the_most(tmp_path: Path):
    task = small("tf/0")
    write(tmp_path / "tf" / "0", test=[*ROWS[:2], ("ACGTACGTAN", 0)])
    with pytest.warns(InputWarning, match="1 in 1 of 3"):
        load_task(tmp_path, task)
    write(tmp_path / "tf" / "0", test=[*ROWS[:2], ("ACGTACGNAN", 0)])
    with pytest.raises(UserError, match=r"test.csv: line 4: 2 of the 10 letters of the sequence are not"):
        load_task(tmp_path, task)


def test_rna_is_read_as_dna(tmp_path: Path):
    write(tmp_path / "tf" / "0", dev=[("ACGUACGU", 0), ("uuuu", 1), ("AC", 1)])
    with pytest.warns(InputWarning, match="RNA"):
        data = load_task(tmp_path, small("tf/0"))
    assert data.dev.sequences == ["ACGTACGT", "tttt", "AC"]


@given(
    st.lists(st.text(st.sampled_from("ACGTacgtUuNRXé-"), min_size=1, max_size=12), min_size=1, max_size=20)
)
def test_counts_equal_those_of_a_loop(sequences: list[str]):
    expected = [sum(letter.upper() not in "ACGTU" for letter in sequence) for sequence in sequences]
    assert gue_sets._count_others(sequences).tolist() == expected


def test_every_task_is_found_where_the_archive_has_it(tmp_path: Path):
    for task in TASKS:
        write(tmp_path / task.name, splits=("test",))
    assert present_tasks(tmp_path) == list(TASKS)


@pytest.mark.filterwarnings("error")
def test_real_sets(shared: Path):
    """Beside a count with the standard library: rows, labels and letters, of every file."""
    data = shared / "gue"
    tasks = present_tasks(data)
    assert len(tasks) == 23
    total = 0
    for task in tasks:
        with warnings.catch_warnings():
            # Its one N is told of, and nothing else is.
            if task.name == "prom/prom_300_all":
                warnings.filterwarnings(
                    "ignore", r".*dev.csv.gz: letters other .* 1 in 1 of 5,920 .* line 4844;"
                )
            splits = load_splits(data, task)
        for name, split in splits.items():
            total += len(split)
            with gzip.open(data / task.name / f"{name}.csv.gz", "rt") as file:
                rows = list(csv.DictReader(file))
            assert len(split) == task.size_of[name] == len(rows)
            assert split.sequences == [row["sequence"] for row in rows]
            assert Counter(split.labels.tolist()) == Counter(int(row["label"]) for row in rows)
            assert task.length == np.median([len(sequence) for sequence in split.sequences])
    assert total == 337_448
    complete = {task.name for task in tasks if len(split_files(data, task)) == 3}
    assert complete == {task.name for task in choose_tasks(["prom/prom_core_*"])} | {
        *("tf/0", "tf/2", "tf/3", "tf/4", "mouse/0", "mouse/2", "mouse/3")
    }
    assert load_task(data, named("mouse/3")).class_names == ("0", "1")


def test_what_labels_mean_by_the_sequences(shared: Path):
    """The shares that docs/gue-data.md and the task table lean on."""
    data = shared / "gue"

    def share(name: str, split: str, label: int, holds: Callable[[str], float]) -> float:
        examples = load_splits(data, named(name))[split]
        chosen = np.flatnonzero(examples.labels == label)
        return float(np.mean([holds(examples.sequences[place]) for place in chosen]))

    splice = ("splice/reconstructed", "test")
    acceptor = [share(*splice, label, lambda bases: bases[198:200] == "AG") for label in range(3)]
    donor = [share(*splice, label, lambda bases: bases[200:202] == "GT") for label in range(3)]
    assert [acceptor[0], acceptor[2]] == pytest.approx([0.995, 0.389], abs=5e-4)
    assert donor[1:] == pytest.approx([0.985, 0.262], abs=5e-4)
    tata = [share("prom/prom_core_tata", "train", label, lambda bases: "TATAAA" in bases) for label in (0, 1)]
    assert tata == pytest.approx([0.130, 0.257], abs=5e-4)
    with pytest.warns(InputWarning, match="prom_300_all"):
        rich = [
            share("prom/prom_300_all", "test", label, lambda bases: sum(map(bases.count, "GC")) / len(bases))
            for label in (0, 1)
        ]
    assert rich == pytest.approx([0.545, 0.611], abs=5e-4)


def test_two_own_sets_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "sets").mkdir()
    for name in ("one", "two"):
        (tmp_path / "sets" / name).symlink_to(write(tmp_path / name / "data"))
    with pytest.raises(UserError, match="both lead to a folder called data; rename one"):
        present_tasks(tmp_path / "sets")
