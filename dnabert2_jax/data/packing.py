"""Sequences of many lengths in rows of few: which lie in one row, and how long rows then are.

In: lengths in tokens. Out: places of sequences. What lies in one row has segments of its own, so that packing
changes no result but to rounding, and saves what padding would cost.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

# A sequence's place in a row that has fewer than others.
NOBODY = -1

# Row lengths are multiples of this: hardware pads them so itself.
_STEP = 8


def deal(lengths: np.ndarray, rows: int, per_row: int) -> np.ndarray:
    """Deals sequences out to rows, as many to each, so that the rows come out about equally long.

    Args:
      lengths: [n] tokens of each, n at most rows · per_row.
      rows, per_row: how many there are, and how many sequences each takes.

    Returns:
      int64 [rows, per_row], places in `lengths`, NOBODY where there is none. With one in a row they keep
      their order.
    """
    places = np.full(rows * per_row, NOBODY)
    places[: len(lengths)] = np.arange(len(lengths))
    if per_row == 1:
        return places[:, None]
    known = np.append(lengths, 0)  # NOBODY has no tokens
    places = places[np.argsort(-known[places], kind="stable")].reshape(per_row, rows)
    dealt = np.empty((rows, per_row), np.int64)
    totals = np.zeros(rows, np.int64)
    for turn, longest_first in enumerate(places):
        # The longest of each turn goes to the row that is shortest so far.
        dealt[np.argsort(totals, kind="stable"), turn] = longest_first
        totals += known[dealt[:, turn]]
    return dealt


def row_length(tokens: int) -> int:
    """The length of a row that holds so many tokens."""
    return -(-tokens // _STEP) * _STEP


def choose_row_lengths(needed: Sequence[int], most: int) -> tuple[int, ...]:
    """The few row lengths that cost least: a batch takes the shortest that holds it.

    Args:
      needed: the length that each batch needs.
      most: how many lengths there may be, each of which is compiled for.

    Returns:
      Increasing; the last holds every batch.

    Examples:
      >>> choose_row_lengths([100, 104, 250, 256], most=2)
      (104, 256)
    """
    values, counts = np.unique([row_length(tokens) for tokens in needed], return_counts=True)
    before = np.append(0, np.cumsum(counts))
    # cost[i] of the first i values with some number of lengths, the last of which is the i-th value.
    cost = np.where(np.arange(len(values) + 1) == 0, 0.0, np.inf)
    best = cost[-1], ()
    chosen: list[tuple[int, ...]] = [()] * (len(values) + 1)
    for _ in range(min(most, len(values))):
        new_cost, new_chosen = np.full_like(cost, np.inf), list(chosen)
        for i in range(1, len(values) + 1):
            options = cost[:i] + (before[i] - before[:i]) * values[i - 1]
            j = int(options.argmin())
            new_cost[i], new_chosen[i] = options[j], (*chosen[j], int(values[i - 1]))
        cost, chosen = new_cost, new_chosen
        if cost[-1] < best[0]:
            best = cost[-1], chosen[-1]
    return best[1]


def fill_rows(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Fills rows with sequences: the longest that is left, and with it those that fill the row up best.

    Sequences of one length are alike, so that whole rows are made again and again from one recipe; the cost
    goes with the number of recipes, not of sequences.

    Args:
      lengths: [n] tokens of each, at least 1 and at most `capacity`; among equals the first go first.
      capacity: tokens of a row.

    Returns:
      For each row the places of its sequences in `lengths`; each place is in one row.

    Examples:
      >>> [row.tolist() for row in fill_rows(np.array([60, 30, 40, 70, 100]), capacity=100)]
      [[4], [3, 1], [0, 2]]
    """
    order = np.argsort(lengths, kind="stable")
    left = np.bincount(lengths, minlength=capacity + 1)
    begin = np.cumsum(left) - left  # where the sequences of a length that are left begin in `order`
    rows: list[np.ndarray] = []
    plan, planned_for = np.empty((2, 0), np.int64)
    while (distinct := np.flatnonzero(left)).size:
        # A plan outlives some of its lengths: it costs more to make than a row that is a little less full.
        if len(planned_for) == 0 or len(distinct) < 0.9 * len(planned_for):
            plan, planned_for = _best_fillings(distinct, capacity), distinct
        available, recipe, room = left.copy(), Counter[int](), capacity
        length = int(distinct[-1])
        while length:
            recipe[length] += 1
            available[length] -= 1
            room -= length
            length = int(plan[room])
            if not available[length]:
                fitting = np.flatnonzero(available[: room + 1])
                length = int(fitting[-1]) if fitting.size else 0
        times = min(int(left[length]) // count for length, count in recipe.items())
        parts = []
        for length, count in recipe.items():
            first = begin[length]
            parts.append(order[first : first + times * count].reshape(times, count))
            begin[length] += times * count
            left[length] -= times * count
        rows.extend(np.concatenate(parts, axis=1))
    return rows


def _best_fillings(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """For each room [capacity + 1] the length to put in first if it is to be filled up best; 0 for none."""
    filled = np.zeros(capacity + 1, np.int64)
    first = np.zeros(capacity + 1, np.int64)
    for room in range(int(lengths[0]), capacity + 1):
        fitting = lengths[: np.searchsorted(lengths, room, side="right")]
        totals = fitting + filled[room - fitting]
        # Of equals the longest, of which there will be no better use.
        best = len(totals) - 1 - int(totals[::-1].argmax())
        filled[room], first[room] = totals[best], fitting[best]
    return first
