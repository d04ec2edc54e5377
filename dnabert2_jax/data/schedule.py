"""Whose turn it is: shares of several groups in, for any place of an endless row of draws its group out.

The row repeats a cycle of about a million places. In a cycle each group has a whole number of places, in
proportion to its share, and its i-th lies at random within the i-th of as many equal parts of the cycle. So
after any number of draws each group has had its share to within a few draws, and the group and the number
of any draw are looked up, whatever came before.
"""

import numpy as np

from dnabert2_jax.data.permutation import mix

CYCLE = 1 << 20


class Schedule:
    """An endless row of draws, each of one group.

    Args:
      shares: float64 [groups], not negative and not all 0; relative.
      seed: names the order of the draws.
    """

    def __init__(self, shares: np.ndarray, seed: int):
        self._places = whole_shares(shares, CYCLE)
        group = np.repeat(np.arange(shares.size), self._places)
        number = np.arange(CYCLE) - np.repeat(np.cumsum(self._places) - self._places, self._places)
        within = mix(seed, group, number) / 2.0**64
        order = np.argsort((number + within) / self._places[group], kind="stable")
        self._group = group[order].astype(np.int32)
        self._number = number[order].astype(np.int32)

    def look_up(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each draw (int64 [n], from 0) its group and how many draws of that group came before, int64 [n].

        A group's draws are numbered 0, 1, 2, … in the order of the row, without a gap.
        """
        cycle, place = np.divmod(draws, CYCLE)
        group = self._group[place].astype(np.int64)
        return group, cycle * self._places[group] + self._number[place]


def whole_shares(shares: np.ndarray, total: int) -> np.ndarray:
    """`total` places divided in proportion to `shares` [groups]: int64 [groups], by the largest remainder.

    A share above 0 gets at least one place, at the cost of the largest, and a share of 0 none.
    """
    exact = total * shares / shares.sum()
    places = np.maximum(np.floor(exact).astype(np.int64), shares > 0)
    left = total - places.sum()
    if left < 0:
        places[np.argmax(places)] += left
    else:
        places[np.argsort(places - exact, kind="stable")[:left]] += 1
    return places
