"""Markov shuffles keep short-range statistics, and nothing else."""

import numpy as np
import pytest

from dnabert2_jax.genome.shuffle import markov_shuffle


def random_contig(length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # CG is rare, as in many genomes: a statistic of order 1 that a shuffle must keep.
    letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), length, p=[0.3, 0.2, 0.2, 0.3])
    letters[1:][(letters[:-1] == ord("C")) & (letters[1:] == ord("G")) & (rng.random(length - 1) < 0.8)] = (
        ord("T")
    )
    return letters


def shares(bases: np.ndarray, length: int) -> dict[bytes, float]:
    words, counts = np.unique(
        np.lib.stride_tricks.sliding_window_view(bases, length), axis=0, return_counts=True
    )
    return {word.tobytes(): count / counts.sum() for word, count in zip(words, counts, strict=True)}


@pytest.mark.parametrize("order", [1, 2, 3])
def test_words_of_one_base_more_than_the_order_keep_their_shares(order):
    bases = random_contig(400_000, seed=order)
    before, after = shares(bases, order + 1), shares(markov_shuffle(bases, order=order, seed=1), order + 1)
    # The standard error of a share is below 0.001 here; the chains' starts add less than that.
    assert max(abs(before[word] - after.get(word, 0)) for word in before) < 0.005


def test_longer_words_are_lost():
    period = np.frombuffer(b"ACGTTGCAATCCGATA", np.uint8)
    bases = np.tile(period, 10_000)
    shuffled = markov_shuffle(bases, order=1, seed=0)
    assert len(shares(bases, 12)) == 16
    assert len(shares(shuffled, 12)) > 1000


def test_gaps_stay_and_the_seed_decides():
    bases = random_contig(10_000, seed=0)
    bases[3000:3500] = ord("N")
    first = markov_shuffle(bases, order=2, seed=5)
    assert ((first == ord("N")) == (bases == ord("N"))).all()
    np.testing.assert_array_equal(first, markov_shuffle(bases, order=2, seed=5))
    assert (first != markov_shuffle(bases, order=2, seed=6)).any()


def test_a_contig_shorter_than_the_order_is_left_alone():
    bases = np.frombuffer(b"NACN", np.uint8)
    np.testing.assert_array_equal(markov_shuffle(bases, order=2, seed=0), bases)
