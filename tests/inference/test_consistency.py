"""Figures of strand consistency, against their definitions."""

import numpy as np
import pytest

from dnabert2_jax.inference.consistency import compare_strands, summarise_strands


def test_vectors():
    answers = [
        [np.array([1.0, 0.0]), np.array([0.0, 1.0])],
        [np.array([2.0, 1.0]), np.array([2.0, 1.0])],
        [np.array([1.0, 1.0]), np.array([3.0, 3.0])],
    ]
    measures = compare_strands("vectors", answers)
    np.testing.assert_allclose(measures, [[1, np.sqrt(2)], [0, 0], [0, 1]], atol=1e-6)
    consistency = summarise_strands("vectors", measures)
    assert consistency.sequences == 3
    assert consistency.figures == pytest.approx(
        {
            "mean cosine distance": 1 / 3,
            "median cosine distance": 0,
            "mean relative difference": (np.sqrt(2) + 1) / 3,
            "median relative difference": 1,
        },
        abs=1e-6,
    )
    assert "strand consistency of 3 sequences: mean cosine distance 0.3333" in str(consistency)


def test_classes_labels_and_numbers():
    pairs = [[np.array([0.8, 0.2]), np.array([0.3, 0.7])], [np.array([0.9, 0.1]), np.array([0.7, 0.3])]]
    classes = summarise_strands("classes", compare_strands("classes", pairs)).figures
    assert classes == pytest.approx({"mean total variation": 0.35, "share of classes flipped": 0.5})
    labels = summarise_strands("labels", compare_strands("labels", pairs)).figures
    assert labels == pytest.approx({"mean difference in probability": 0.35, "share of labels flipped": 0.5})
    numbers = summarise_strands("numbers", compare_strands("numbers", pairs)).figures
    assert numbers == pytest.approx({"mean difference": 0.35})


def test_bases_are_averaged_in_their_sequence_and_an_empty_one_does_not_count():
    one = np.array([[1.0, 0.0], [1.0, 0.0]])
    other = np.array([[0.0, 1.0], [1.0, 0.0]])
    measures = compare_strands("vectors", [[one, other], [one[:0], one[:0]]])
    assert measures[0, 0] == pytest.approx(0.5)
    assert summarise_strands("vectors", measures).sequences == 1
    assert summarise_strands("vectors", np.empty((0, 2))).figures == {}
