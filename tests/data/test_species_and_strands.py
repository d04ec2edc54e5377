"""The ways in which WindowSource draws species, strands and windows."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.species_weights import species_shares
from dnabert2_jax.data.windows import WindowSource
from dnabert2_jax.errors import UserError

LENGTH = 500

type Place = tuple[int, int]
"""A record and a token in it."""


def draws(corpus: Corpus, number: int, batch_size: int = 64, **settings: Any) -> list[Place]:
    """The first draws of a run: their records and where in them the window begins."""
    steps = -(-number // batch_size)
    defaults: dict[str, Any] = {"batch_size": batch_size, "length": LENGTH, "seed": 3, "steps": steps}
    source = WindowSource(corpus, **(defaults | settings))
    places = where_tokens_are(corpus)
    found = []
    for step in range(steps):
        batch = source[step]
        for row, mask in zip(batch["input_ids"], batch["segment_ids"], strict=True):
            found.append(places[tuple(row[1 : mask.sum() - 1][:20].tolist())])
    return found[:number]


def where_tokens_are(corpus: Corpus) -> dict[tuple[int, ...], Place]:
    """For any twenty tokens, or a shorter end, the place they are at; in random genomes there is only one."""
    return {
        tuple(record.tokens[start : start + 20].tolist()): (number, start)
        for number, record in enumerate(corpus.records("train"))
        for start in range(record.tokens.size)
    }


def windows_of(corpus: Corpus, *, step: int = 1) -> list[int]:
    """Windows of each record, by the rule."""
    return [max(1, int(tokens) // (LENGTH - 2)) for tokens in corpus.indices["train"].tokens[::step]]


@pytest.mark.parametrize("weights", ["corpus", "equal", 0.3])
def test_species_get_their_shares(corpus, weights):
    species = corpus.indices["train"].species
    drawn = Counter(int(species[record]) for record, _ in draws(corpus, 6400, species_weights=weights))
    shares = species_shares(corpus.metadata, weights)
    assert [drawn[0] / 6400, drawn[1] / 6400] == pytest.approx(shares, abs=5e-4)


@pytest.mark.parametrize("strand", ["both", "forward", "random"])
def test_a_pass_over_a_species_has_every_window_once(corpus, strand):
    species = corpus.indices["train"].species
    drawn = draws(corpus, 3000, species_weights="equal", strand=strand)
    step = 1 if strand == "both" else 2
    windows = windows_of(corpus, step=step)
    for kind in (0, 1):
        records = [record for record in range(0, len(species), step) if species[record] == kind]
        expected = Counter({record: windows[record // step] for record in records})
        of_kind = [record for record, _ in drawn if species[record] == kind]
        if strand == "random":
            of_kind = [record - record % 2 for record in of_kind]
        assert len(of_kind) > 2 * expected.total()
        for chunk in range(2):
            one_pass = of_kind[chunk * expected.total() : (chunk + 1) * expected.total()]
            assert Counter(one_pass) == expected


def test_hosts_and_steps_play_no_part(corpus):
    settings: dict[str, Any] = {
        "length": 66,
        "seed": 1,
        "steps": 100,
        "species_weights": "corpus",
        "strand": "random",
        "soft_mask": True,
    }
    whole = WindowSource(corpus, batch_size=12, **settings)[9]
    hosts = [
        WindowSource(corpus, batch_size=12, rows=rows, **settings)[9] for rows in (range(5), range(5, 12))
    ]
    smaller = [WindowSource(corpus, batch_size=4, **settings)[step] for step in (27, 28, 29)]
    for parts in (hosts, smaller):
        for name, array in whole.items():
            np.testing.assert_array_equal(array, np.concatenate([part[name] for part in parts]))


def test_the_forward_strand_alone(corpus):
    strand = corpus.indices["train"].strand
    assert {int(strand[record]) for record, _ in draws(corpus, 500, strand="forward")} == {0}


class TestRandomStrand:
    def test_half_of_the_draws_are_of_either(self, corpus):
        strand = corpus.indices["train"].strand
        drawn = [int(strand[record]) for record, _ in draws(corpus, 3200, strand="random")]
        assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)

    def test_a_place_changes_its_strand_between_passes(self, corpus):
        strand = corpus.indices["train"].strand
        number = sum(windows_of(corpus, step=2))
        drawn = draws(corpus, 2 * number, strand="random")
        first, second = ({} for _ in range(2))
        for one_pass, places in ((first, drawn[:number]), (second, drawn[number:])):
            for record, _ in places:
                one_pass.setdefault(record // 2, []).append(int(strand[record]))
        single = [place for place, strands in first.items() if len(strands) == 1]
        changed = np.mean([first[place] != second[place] for place in single])
        assert len(single) >= 10
        assert 0.2 < changed < 0.8

    def test_the_other_strand_is_read_at_the_same_place(self, corpus):
        """The bases of a reverse window lie where those of the forward one would, to within the slack."""
        lengths = corpus.tokenizer().token_lengths
        records = list(corpus.records("train"))
        forward = draws(corpus, 1000, strand="forward")
        drawn = draws(corpus, 1000, strand="random")
        compared = 0
        for (record, start), (other, other_start) in zip(forward, drawn, strict=True):
            assert other // 2 == record // 2
            if other == record:
                assert start == other_start
                continue
            middle, other_middle = (
                np.cumsum(lengths[records[number].tokens])[min(begin + 249, records[number].tokens.size - 1)]
                for number, begin in ((record, start), (other, other_start))
            )
            place = records[record].start + middle
            other_place = records[other].start + records[other].bases - other_middle
            if records[record].tokens.size > LENGTH and records[other].tokens.size > LENGTH:
                assert abs(int(place) - int(other_place)) < 150
                compared += 1
        assert compared > 100


class TestFirstWindows:
    def test_each_record_gives_its_beginning_once(self, corpus):
        number = len(corpus.indices["train"])
        drawn = draws(corpus, 2 * number, windows="first")
        for half in (drawn[:number], drawn[number:]):
            assert sorted(half) == [(record, 0) for record in range(number)]

    def test_of_either_strand(self, corpus):
        number = len(corpus.indices["train"]) // 2
        drawn = draws(corpus, number, windows="first", strand="random")
        assert [start for _, start in drawn] == [0] * number
        assert sorted(record // 2 for record, _ in drawn) == list(range(number))


def test_orders_of_different_settings_differ(corpus):
    orders = [
        draws(corpus, 64, species_weights=weights, seed=seed)
        for weights, seed in [("proportional", 0), ("corpus", 0), ("corpus", 1)]
    ]
    for first, second in itertools.combinations(orders, 2):
        assert sum(a == b for a, b in zip(first, second, strict=True)) < 10


def test_other_choices_are_refused(corpus):
    with pytest.raises(UserError, match="strand is 'reverse'; choose both, forward or random"):
        draws(corpus, 1, strand="reverse")
    with pytest.raises(UserError, match="windows is 'last'; choose dense or first"):
        draws(corpus, 1, windows="last")
    with pytest.raises(UserError, match="species weights are 'some'"):
        draws(corpus, 1, species_weights="some")
    with pytest.raises(ValueError, match="training split"):
        draws(corpus, 1, split="validation", species_weights="equal")
