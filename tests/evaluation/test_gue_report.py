"""The report as a person gets it: three files and a short table, and what is said of what is missing."""

import csv
import itertools
import re

import numpy as np
import pytest
from run_folders import labels_of, write_run, write_trial

from dnabert2_jax.cli.gue_report import main
from dnabert2_jax.errors import UserError

FILES = ["report.csv", "report.html", "report.md"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run with a collapsed seed, one that lacks a set, and an outside model; and the report of them."""
    folder = tmp_path_factory.mktemp("reported")
    for name, share in (("pre-trained", 0.85), ("random", 0.75)):
        run = write_run(folder / name, name)
        for task in ("EMP/H3", "tf/0", "virus/covid"):
            if name == "random" and task == "virus/covid":
                continue
            for seed in range(3):
                write_trial(run, task, f"seed-{seed}", share)
            write_trial(run, task, "linear-probe", 0.7)
            write_trial(run, task, "kmer-regression", labels_of(task, 200))
    run = folder / "pre-trained"
    write_trial(run, "tf/1", "seed-0", 0.85)
    write_trial(run, "tf/1", "seed-1", np.zeros(200, int))
    (run / "tasks/tf/1/seed-2").mkdir()
    write_trial(run, "mine", "seed-0", 0.9)
    rows = (f"other|x,tf/0,{label},{label}\n" for label in labels_of("tf/0", 200))
    (folder / "outside.csv").write_text("model,task,label,prediction\n" + "".join(rows))
    main([str(run), str(folder / "random"), "--predictions", str(folder / "outside.csv")])
    return run / "report"


@pytest.fixture(scope="module")
def markdown(reported):
    return (reported / "report.md").read_text()


def table_under(markdown, heading):
    """The first table below a heading, as rows of cells."""
    lines = iter(markdown[markdown.index(f"# {heading}\n") :].splitlines())
    rows = itertools.takewhile(
        lambda line: line.startswith("|"), itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    )
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_there_are_three_files(reported):
    assert sorted(path.name for path in reported.iterdir()) == FILES


def test_every_set_stands_in_the_table_of_its_group(markdown):
    rows = table_under(markdown, "TF-H: transcription factors, human (GUE)")
    assert rows[0] == [
        *("set", "score", "pre-trained", "pre-trained: linear probe", "random", "random: linear probe"),
        *("other\\|x", "k-mer regression"),
    ]
    first = next(row for row in rows if row[0] == "tf/0")
    assert first[1] == "MCC"
    assert re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d \(3\) \[\d\d\.\d\d, \d\d\.\d\d\]", first[2])
    assert re.fullmatch(r"\d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\]", first[3])
    assert first[-1] == first[-2] == "100.00 [100.00, 100.00]"
    assert next(row for row in rows if row[0] == "tf/2")[2:] == ["missing"] * 6
    assert rows[-1][0] == "mean"
    assert "over the 2 of 5 present" in rows[-1][2]
    assert table_under(markdown, "CVC: covid variants (GUE)")[2][:2] == ["virus/covid", "macro F1"]
    assert table_under(markdown, "Other sets")[2][0] == "mine"


def test_the_papers_scores_are_the_papers(markdown):
    part = markdown[markdown.index("## TF-H") :]
    rows = {row[0]: row[1:] for row in table_under(part, "Beside the paper's")}
    assert rows["paper T6: DNABERT-2"][:2] == ["71.99", "76.06"]
    assert rows["paper T9: CNN"][:2] == ["53.95", "63.20"]
    assert rows["paper T9: DNABERT-2"][0] == "84.38 †"
    assert "look like F1" in part


def test_averages_are_labelled_and_stand_beside_the_same_of_the_paper(markdown):
    rows = {row[0]: row[1:] for row in table_under(markdown, "flat28, the mean of the 28 sets of GUE")}
    assert [label.split()[2] for label in rows["sets"]] == ["4", "3", "2", "2", "1", "3"]
    assert rows["sets"][0] == "over the 4 of 28 present"
    four = [78.27 + 71.99 + 76.06 + 71.02, 4]
    expected = {"4": four, "3": [78.27 + 71.99 + 71.02, 3], "2": [78.27 + 71.99, 2], "1": [71.99, 1]}
    for label, mean in zip(rows["sets"], rows["paper T6: DNABERT-2"], strict=True):
        total, count = expected[label.split()[2]]
        assert float(mean) == pytest.approx(total / count, abs=0.006)
    assert "mean without collapsed seeds" in rows


def test_what_is_missing_is_said(markdown):
    assert "pre-trained is unfinished: tf/1/seed-2 have no result yet." in markdown
    assert "pre-trained has not the same seeds for every set: tf/1 lacks 2; mine lacks 1, 2." in markdown
    assert "random has no result for 26 of the 28 sets" in markdown
    assert "Not the released test sets" in markdown
    assert "tf/0 (200 of 1,000 rows)" in markdown


def test_a_collapsed_seed_is_in_a_table_of_its_own(markdown):
    rows = table_under(markdown, "Collapsed seeds")
    assert len(rows) == 3
    label, task, seeds, by_seed, mean, without, _ = rows[2]
    assert (label, task, seeds) == ("pre-trained", "tf/1", "1")
    scores = [float(score) for score in by_seed.split(", ")]
    assert scores[1] == 0
    assert float(mean) == pytest.approx(scores[0] / 2, abs=0.006)
    assert float(without) == scores[0]
    assert " ‡ [" in markdown


def test_runs_are_compared_pair_by_pair(markdown):
    rows = table_under(markdown, "pre-trained against random")
    assert [row[0] for row in rows[2:]] == ["EMP/H3", "tf/0"]
    assert all(row[1].startswith("+") for row in rows[2:])
    # One seed is not joined with three.
    assert table_under(markdown, "pre-trained against other\\|x")[2][-1] == "–"
    assert "Wilcoxon's signed-rank test over the sets: p 0.5000" in markdown


def test_cost_is_added_up(markdown):
    rows = table_under(markdown, "Cost")
    assert rows[0][:3] == ["set", "pre-trained, seconds", "pre-trained, training FLOPs"]
    assert rows[-1][:3] == ["total", "1,200", "1.2e+16"]


def test_the_csv_says_the_same_as_the_tables(reported, markdown):
    with open(reported / "report.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {(row["kind"], row["column"], row["name"]): row for row in rows}
    score = found["set", "pre-trained", "tf/0"]
    cell = next(
        row for row in table_under(markdown, "TF-H: transcription factors, human (GUE)") if row[0] == "tf/0"
    )[2]
    mean, _, sd, seeds, low, high = re.findall(r"[^ \[\],()]+", cell)
    assert float(score["score"]) == pytest.approx(float(mean), abs=0.006)
    assert float(score["sd"]) == pytest.approx(float(sd), abs=0.006)
    assert float(score["low"]) == pytest.approx(float(low), abs=0.006)
    assert float(score["high"]) == pytest.approx(float(high), abs=0.006)
    assert score["seeds"] == seeds
    assert found["set", "pre-trained", "tf/1"]["collapsed_seeds"] == "1"
    assert found["flat28", "pre-trained", "GUE"]["sets"] == "4"
    assert found["flat28", "paper T6: DNABERT-2", "GUE"]["score"] == "66.805"
    assert found["set", "paper T9: DNABERT-2", "tf/0"]["metric"].startswith("doubtful")


def test_the_page_has_the_plots(reported):
    page = (reported / "report.html").read_text()
    assert page.count('aria-label="Means over seeds with 95 % intervals') == 4
    assert "EMP/H3, pre-trained: dev loss in training." in page
    assert "tf/0, random: confusion matrix of the test set" in page
    assert "bound" in page
    assert "<script" not in page


def test_the_same_is_reported_twice(reported, tmp_path):
    run = reported.parent
    others = [run.parent / "random", "--predictions", run.parent / "outside.csv", "--output", tmp_path]
    main([str(run), *map(str, others)])
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (reported / name).read_bytes()


def test_the_short_table(tmp_path, capsys):
    run = write_run(tmp_path / "run", "small")
    write_trial(run, "tf/0", "seed-0", labels_of("tf/0", 200))
    main([str(run)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["small", "k-mer", "regression", "paper:", "DNABERT-2"]
    assert lines[1].split() == ["tf/0", "100.00", "(1)", "missing", "71.99"]
    assert " ".join(lines[2].split()) == (
        "flat28 100.00 over the 1 of 28 present missing 71.99 on those of the first"
    )
    assert lines[-1].startswith(str(run / "report" / "report.html"))
    assert "Nobody ran the k-mer regression" in (run / "report" / "report.md").read_text()


def test_your_own_sets_stand_alone(tmp_path, capsys):
    run = write_run(tmp_path / "run", "small")
    write_trial(run, "mine", "seed-0", labels_of("mine", 200))
    main([str(run)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["small", "k-mer", "regression"],
        ["mine", "100.00", "(1)", "missing"],
    ]
    assert len(lines) == 3
    for name in FILES:
        text = (run / "report" / name).read_text()
        assert not re.search(r"paper T\d|paper’s|flat28|macro7|of the 28 sets", text)
    assert "Other sets" in (run / "report" / "report.md").read_text()


def test_predictions_alone(tmp_path, capsys):
    path = tmp_path / "outside.csv"
    path.write_text("task,label,prediction\n" + "species/fungi,3,3\nspecies/fungi,4,4\n" * 10)
    with pytest.raises(UserError, match="--output"):
        main(["--predictions", str(path)])
    main(["--predictions", str(path), "--output", str(tmp_path / "out")])
    assert "species/fungi  100.00   missing           93.04" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Averages" not in text
    assert "paper T5: DNABERT-2" in text


def test_an_output_that_cannot_be_written(tmp_path):
    run = write_run(tmp_path / "run", "small")
    write_trial(run, "tf/0", "seed-0", 0.8)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        main([str(run), "--output", str(tmp_path / "file")])


def test_nothing_is_written_where_something_is_refused(tmp_path):
    runs = [write_run(tmp_path / name, name) for name in ("one", "two")]
    write_trial(runs[0], "tf/0", "seed-0", 0.8)
    write_trial(runs[1], "tf/0", "seed-0", 0.8, labels=1 - labels_of("tf/0", 200))
    with pytest.raises(UserError, match=r"two/.*: tf/0 was tested on other rows than in .*one/"):
        main([*map(str, runs), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
