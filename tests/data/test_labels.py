"""Label columns of the three problems: what is written comes back, and what makes no sense is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert2_jax.data.labelled import LABELLED_SPLITS, load_labelled, write_labelled
from dnabert2_jax.errors import UserError

MULTI = "multi_label_classification"
names = st.sampled_from(["enhancer", "promoter", "αβ", "H3K4me3", "a, b", "-"])


def write_all(folder, rows):
    write_labelled(folder, dict.fromkeys(LABELLED_SPLITS, rows))


def write(folder, labels, split="train", others=("x", "y")):
    write_all(folder, [("ACGT", label) for label in others])
    write_labelled(folder, {split: [("ACGT", label) for label in labels]})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sets(names), min_size=1, max_size=20))
def test_several_labels(tmp_path, labels):
    if not any(labels):
        labels = [*labels, {"enhancer"}]
    rows = [("ACGT", " ; ".join(classes)) for classes in labels]
    write_all(tmp_path, rows)
    data = load_labelled(tmp_path, MULTI)
    assert data.problem == MULTI
    assert data.class_names == tuple(sorted(set().union(*labels)))
    assert data.test.labels.dtype == np.float32
    found = [
        {name for name, one in zip(data.class_names, row, strict=True) if one} for row in data.test.labels
    ]
    assert found == labels
    assert set(np.unique(data.test.labels)) <= {0, 1}


def test_several_labels_by_number(tmp_path):
    rows = [("ACGT", "10;2"), ("ACGT", ""), ("ACGT", ";".join(map(str, range(11))))]
    write_all(tmp_path, rows)
    data = load_labelled(tmp_path, MULTI)
    assert data.class_names == tuple(map(str, range(11)))
    assert np.flatnonzero(data.train.labels[0]).tolist() == [2, 10]
    assert data.train.labels.sum(axis=1).tolist() == [2, 0, 11]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers(tmp_path, labels):
    write_all(tmp_path, [("ACGT", label) for label in labels])
    data = load_labelled(tmp_path, "regression")
    assert data.class_names == ()
    np.testing.assert_array_equal(data.dev.labels, np.array(labels, np.float32))
    assert data.dev.labels.dtype == np.float32


@pytest.mark.parametrize("text", ["1", "-1.5", "+.5", "3.", "1e-3", "2E+4", "0"])
def test_ways_to_write_a_number(tmp_path, text):
    write(tmp_path, [text], others=[0])
    assert load_labelled(tmp_path, "regression").train.labels[0] == np.float32(text)


@pytest.mark.parametrize("labels", [[-1, 1], ["01", "02"], ["1", "enhancer"]])
def test_other_labels_are_names(tmp_path, labels):
    write_all(tmp_path, [("ACGT", label) for label in labels])
    data = load_labelled(tmp_path)
    assert data.class_names == tuple(map(str, labels))
    assert data.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("problem", "labels", "complaint"),
    [
        (
            "single_label_classification",
            ["0.5", "1"],
            "line 2: the label '0.5' is a number that is not whole",
        ),
        ("single_label_classification", ["x", "1e3"], "line 3: .* set training.problem to regression"),
        ("single_label_classification", ["x", ""], "line 3: has no label"),
        ("single_label_classification", ["x;y", "x;y"], "needs two classes"),
        (MULTI, ["x;0.5"], "line 2: the label '0.5' is a number that is not whole"),
        (MULTI, ["x", "x;;y"], "line 3: .* names a class twice or leaves one out"),
        (MULTI, ["x;"], "line 2: .* leaves one out"),
        (MULTI, ["x;y;x"], "line 2: .* names a class twice"),
        (MULTI, ["", ""], "no row names a class"),
        (MULTI, ["0;2"], "none is 1"),
        ("regression", ["1.0", ""], "line 3: has no label"),
        ("regression", ["high"], "line 2: the label 'high' is no number"),
        ("regression", ["nan"], "line 2: the label 'nan' is no number"),
        ("regression", ["-inf"], "is no number"),
        ("regression", ["1e39"], "is no number"),
        ("regression", ["1_000"], "is no number"),
        ("regression", ['"1,5"'], "is no number"),
        ("regression", ["٣"], "set training.problem to single_label_classification"),
    ],
)
def test_refusals(tmp_path, problem, labels, complaint):
    write(tmp_path, labels)
    with pytest.raises(UserError, match=complaint) as raised:
        load_labelled(tmp_path, problem)
    assert "train.csv" in str(raised.value)


@pytest.mark.parametrize("problem", ["single_label_classification", MULTI])
def test_a_class_that_train_has_not(tmp_path, problem):
    write(tmp_path, ["x", "z"], split="dev")
    with pytest.raises(UserError, match=r"dev.csv: line 3: the label 'z' .* train.csv \(x, y\); correct it"):
        load_labelled(tmp_path, problem)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["single_label_classification", MULTI, "regression"]), st.text(max_size=20))
def test_any_label_is_read_or_refused(tmp_path, problem, label):
    write(tmp_path, [label, "y"], others=["y", "y"])
    try:
        data = load_labelled(tmp_path, problem)
    except UserError as error:
        assert "train.csv" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(data.train.labels).all()


def test_rna_is_read_as_dna(tmp_path):
    write_all(tmp_path, [("ACGT", 0), ("ACGUu", 1)])
    with pytest.warns(UserWarning, match=r"line 3: has the letter U of RNA"):
        data = load_labelled(tmp_path)
    assert data.train.sequences == ["ACGT", "ACGTt"]
