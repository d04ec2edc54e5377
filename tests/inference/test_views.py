"""What a model is shown: every base once or evenly, with context, and the same from either strand."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.views import Subject, cut_views, opposite, subject

BASES = st.text("ACGT", min_size=1, max_size=120)


def mirrored(shown):
    return Subject(*(reverse_complement(part) for part in (shown.right, shown.bases, shown.left)))


@given(
    left=st.text("ACGTN", max_size=60),
    bases=BASES,
    right=st.text("ACGT", max_size=60),
    window=st.integers(16, 80),
)
def test_every_base_is_read_with_context(left, bases, right, window):
    shown = Subject(left, bases, right)
    views = cut_views(shown, window, 1)
    read = np.concatenate([view.targets for view in views])
    assert set(read.tolist()) == set(range(len(bases)))
    for view in views:
        assert len(view.text) <= window
        letters = "".join(view.text[site] for site in view.sites)
        assert letters == "".join(bases[target] for target in view.targets)
        for site, target in zip(view.sites.tolist(), view.targets.tolist(), strict=True):
            place = len(left) + target
            # A quarter of a window, less the rounding, unless the text ends before.
            assert site >= min(place, window // 4 - 2)
            assert len(view.text) - 1 - site >= min(len(shown.text) - 1 - place, window // 4 - 2)


@given(bases=BASES, flank=BASES, window=st.integers(16, 80), phases=st.integers(1, 4))
def test_the_views_of_the_other_strand_are_the_views_mirrored(bases, flank, window, phases):
    shown = Subject(flank, bases, "")

    def said(views, turn):
        return sorted(
            (view.text, site, len(bases) - 1 - target if turn else target)
            for view in views
            for site, target in zip(view.sites.tolist(), view.targets.tolist(), strict=True)
        )

    expected = [opposite(view) for view in cut_views(shown, window, phases)]
    assert said(cut_views(mirrored(shown), window, phases), False) == said(expected, True)


def test_phases_lack_bases_at_both_ends():
    views = cut_views(subject("GATTACAT"), None, 3)
    assert [view.text for view in views] == ["GATTACAT", "ATTACA", "TTAC"]
    assert [view.targets.tolist() for view in views] == [list(range(8)), list(range(1, 7)), list(range(2, 6))]
    assert [view.text for view in cut_views(subject("GA"), None, 9)] == ["GA"]


def test_mutants_are_all_changes_of_one_base():
    (view,) = cut_views(subject(" gaN\nt"), None, 1)
    assert view.text == "GANT"
    assert view.sites.tolist() == [0, 1, 3]
    mutants = list(view.mutants())
    assert len(mutants) == len({text for *_, text in mutants}) == 9
    for number, base, text in mutants:
        site = view.sites[number]
        assert text[site] == "ACGT"[base]
        assert text[:site] + text[site + 1 :] == view.text[:site] + view.text[site + 1 :]


def test_bad_numbers_are_refused():
    for window, phases, complaint in ((15, 1, "--window"), (None, 0, "--phases")):
        with pytest.raises(UserError, match=complaint):
            cut_views(subject("ACGT"), window, phases)


def test_a_base_is_read_off_the_windows_whose_middles_are_nearest():
    shown = subject("ACGT" * 100)
    views = cut_views(shown, 31, 1)
    starts = [shown.text.index(view.text, view.targets[0] - view.sites[0]) for view in views]
    middles = np.array([2 * start + len(view.text) for start, view in zip(starts, views, strict=True)])
    distances = np.abs(2 * np.arange(400) + 1 - middles[:, None])
    for view, near in zip(views, distances == distances.min(axis=0), strict=True):
        assert view.targets.tolist() == np.flatnonzero(near).tolist()


def test_views_of_a_long_text_take_memory_of_its_size():
    tracemalloc.start()
    views = cut_views(subject("ACGT" * 50_000), 512, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(view.sites) for view in views) >= 200_000
    assert peak < 40_000_000
