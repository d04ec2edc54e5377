"""Logos, heat maps and attention pictures: heights against closed forms, what is drawn against numbers."""

import numpy as np
import pytest
from scipy.stats import entropy

from dnabert2_jax.reports.attention import draw_distances, draw_heads
from dnabert2_jax.reports.logos import (
    LONGEST_SHOWN,
    draw_heat_map,
    draw_logo,
    effect_heights,
    information_heights,
)
from dnabert2_jax.reports.svg import figure_png, figure_svg

SEQUENCE = "GATTACANGGC" * 6


def array_of(image):
    """What an image shows, NaN where it is blank."""
    return np.ma.filled(np.ma.asarray(image.get_array()), np.nan)


@pytest.fixture(scope="module")
def probabilities():
    return np.random.default_rng(0).dirichlet(np.ones(4), size=len(SEQUENCE))


@pytest.fixture(scope="module")
def effects():
    values = np.random.default_rng(1).normal(size=(len(SEQUENCE), 4))
    for row, letter in zip(values, SEQUENCE, strict=True):
        row[:] = np.where(np.array(list("ACGT")) == letter, 0, row) if letter != "N" else np.nan
    return values


def test_information_is_two_bits_less_the_entropy(probabilities):
    heights = information_heights(probabilities)
    np.testing.assert_allclose(heights.sum(axis=1), 2 - entropy(probabilities, base=2, axis=1), atol=1e-12)
    np.testing.assert_allclose(heights / heights.sum(axis=1, keepdims=True), probabilities, atol=1e-9)
    np.testing.assert_array_equal(information_heights(np.array([[0, 1, 0, 0]])), [[0, 2, 0, 0]])


def test_information_against_a_background_is_the_relative_entropy(probabilities):
    backgrounds = np.array([0.31, 0.19, 0.19, 0.31]), np.roll(probabilities, 1, axis=0)
    for background in backgrounds:
        expected = entropy(probabilities, np.broadcast_to(background, probabilities.shape), base=2, axis=1)
        found = information_heights(probabilities, background).sum(axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not information_heights(probabilities, probabilities).any()
    impossible = information_heights(np.array([[0.5, 0.5, 0, 0]]), np.array([[0.5, 0.5, 0, 0]]))
    np.testing.assert_array_equal(impossible, np.zeros((1, 4)))


def test_the_base_that_is_there_has_minus_the_mean_effect(effects):
    heights = effect_heights(effects, SEQUENCE.lower())
    for row, height, letter in zip(effects, heights, SEQUENCE, strict=True):
        if letter == "N":
            assert np.isnan(height).all()
            continue
        place = "ACGT".index(letter)
        assert height[place] == pytest.approx(-np.delete(row, place).mean())
        assert not np.delete(height, place).any()


def test_letters_are_as_high_as_their_numbers(effects):
    heights = effect_heights(effects, SEQUENCE)
    figure = draw_logo(heights, title="effects", ylabel="change", first=1)
    assert len(figure.axes) == 2
    drawn = np.zeros(len(SEQUENCE))
    for axes in figure.axes:
        for patch in axes.patches:
            box = patch.get_path().get_extents()
            place = round((box.x0 + box.x1) / 2) - 1
            drawn[place] += box.height if box.y0 + box.y1 > 0 else -box.height
    np.testing.assert_allclose(drawn, np.nan_to_num(heights).sum(axis=1), atol=1e-6)


def test_a_map_shows_the_numbers_and_marks_the_bases(effects):
    figure = draw_heat_map(effects, sequence=SEQUENCE, first=-5)
    *lines, _ = figure.axes
    images = [axes.images[0] for axes in lines]
    shown = np.concatenate([array_of(image) for image in images], axis=1)
    np.testing.assert_array_equal(shown, effects.T)
    low, high = images[0].get_clim()
    assert -low == high == np.nanmax(np.abs(effects))
    dots = {
        (int(x), int(y))
        for axes in lines
        for line in axes.lines
        for x, y in np.asarray(line.get_xydata()).tolist()
    }
    expected = {(n - 5, "ACGT".index(letter)) for n, letter in enumerate(SEQUENCE) if letter != "N"}
    assert dots == expected
    with pytest.raises(ValueError, match="66 rows need as many letters, not 1"):
        draw_heat_map(effects, sequence="A")


def test_of_a_long_sequence_the_middle_is_drawn():
    values = np.zeros((LONGEST_SHOWN + 40, 4))
    values[20] = 1
    figure = draw_heat_map(values, centred=False)
    first = figure.axes[0].images[0]
    np.testing.assert_array_equal(array_of(first)[:, 0], np.ones(4))
    assert first.get_extent()[0] == 20.5
    assert "positions 21 to 320" in figure.get_suptitle()


@pytest.mark.parametrize("heights", [np.zeros((1, 4)), np.full((3, 4), np.nan)])
def test_pictures_of_nothing(heights):
    for figure in (draw_logo(heights), draw_heat_map(heights)):
        assert figure_svg(figure).startswith("<svg")
        assert figure_png(figure).startswith(b"\x89PNG")


def test_pictures_do_not_change_between_runs(probabilities):
    one, other = (figure_svg(draw_heat_map(probabilities, centred=False)) for _ in range(2))
    assert one == other


def test_attention_of_many_tokens_is_summed_and_averaged():
    weights = np.random.default_rng(0).dirichlet(np.ones(200), size=(2, 3, 200))
    figure = draw_heads(weights, [0, 5], title="heads")
    assert len(figure.axes) == 6
    shown = np.asarray(figure.axes[4].images[0].get_array())
    assert shown.shape == (96, 96)
    np.testing.assert_allclose(shown.sum(axis=1), 1)
    assert figure.axes[3].get_ylabel() == "layer 5"
    small = draw_heads(weights[:, :, :9, :9], [0, 5])
    np.testing.assert_array_equal(small.axes[4].images[0].get_array(), weights[1, 1, :9, :9])


def test_attention_by_distance():
    weights = np.random.default_rng(0).random((2, 3, 21))
    image = draw_distances(weights, [0, 1], first=-10).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), weights.reshape(6, 21))
    assert image.get_extent()[:2] == [-10.5, 10.5]
