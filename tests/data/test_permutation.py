import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.data.permutation import mix, permute

MASK = 2**64 - 1


def splitmix64_finaliser(word: int) -> int:
    """Steele, Lea and Flood 2014, in plain integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=4))
def test_mix_is_splitmix64_chained(words):
    state = 0x9E3779B97F4A7C15
    for word in words:
        state = splitmix64_finaliser(state ^ splitmix64_finaliser((word + 0x9E3779B97F4A7C15) & MASK))
    assert int(mix(*words)) == state


def test_mix_broadcasts():
    table = mix(7, np.arange(3)[:, None], np.arange(4))
    assert table.shape == (3, 4)
    assert table[2, 1] == mix(7, 2, 1)
    assert np.unique(table).size == 12


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size, key):
    np.testing.assert_array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.data())
def test_permute_stays_inside_and_keeps_distinct_what_is_distinct(size, key, data):
    index = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True)))
    places = permute(index, size, key)
    assert places.min() >= 0
    assert places.max() < size
    assert np.unique(places).size == index.size


def test_each_index_may_have_its_own_key():
    index, keys = np.array([0, 0, 5, 5]), np.array([1, 2, 1, 2], np.uint64)
    expected = [int(permute(i, 100, int(key))) for i, key in zip(index, keys, strict=True)]
    assert permute(index, 100, keys).tolist() == expected


def test_permutations_look_random():
    # Over many keys each index lands everywhere equally often: chi-squared with 49 degrees of freedom.
    size, keys = 50, 20_000
    places = permute(np.arange(size)[:, None], size, np.arange(keys))
    for index in (0, 1, 24, 49):
        counts = np.bincount(places[index], minlength=size)
        assert ((counts - keys / size) ** 2 / (keys / size)).sum() < 100  # p < 3e-5
    # Neighbours do not stay neighbours: correlation of successive places within one permutation.
    one = permute(np.arange(100_000), 100_000, 3).astype(float)
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.015  # 5 standard errors


def test_indices_outside_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 10\)"):
        permute([3, 10], 10, 1)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(0, 2**40))
def test_sizes_may_differ_between_indices(sizes, key):
    index = np.concatenate([np.arange(size) for size in sizes])
    together = permute(index, np.repeat(sizes, sizes), key)
    apart = np.concatenate([permute(np.arange(size), size, key) for size in sizes])
    np.testing.assert_array_equal(together, apart)
