"""Interpolated Markov chains of bases: texts come in, log p of bases after those before them goes out."""

from collections.abc import Iterable

import numpy as np

from dnabert2_jax.genome.packed import OTHER, complement_codes

_PRIOR = 10.0


class MarkovChain:
    """p(base | the `order` bases before it), learnt from both strands of texts.

    The counts of a context are added to the distribution of the next shorter one, which weighs as much as 10
    bases seen; that of no base at all is 1/4.

    Args:
      texts: uint8 codes, as `genome.packed` has them.
      order: bases of the longest context.
    """

    def __init__(self, texts: Iterable[np.ndarray], order: int):
        counts = np.zeros(4 ** (order + 1), np.int64)
        for text in texts:
            for strand in (text, complement_codes(text[::-1])):
                numbers, usable = _numbers(strand, order + 1)
                counts += np.bincount(numbers[usable], minlength=len(counts))
        self._counts = counts.reshape(-1, 4)

    def log_likelihood(self, windows: np.ndarray, order: int) -> np.ndarray:
        """Σ log p of the bases of each window behind its first `order` ones.

        Args:
          windows: uint8 [n, L] of A, C, G and T.
          order: at most that of the chain.
        """
        log_p = np.log(self._probabilities(order)).ravel()
        numbers = [_numbers(window, order + 1)[0] for window in windows]
        return log_p[np.array(numbers)].sum(axis=1)

    def _probabilities(self, order: int) -> np.ndarray:
        p = np.full((1, 4), 0.25)
        for length in range(order + 1):
            counts = self._counts.reshape(-1, 4**length, 4).sum(axis=0)
            # The context's last letters are its number's lowest digits: the shorter one comes round again.
            p = counts + _PRIOR * np.tile(p, (len(counts) // len(p), 1))
            p /= p.sum(axis=1, keepdims=True)
        return p


def _numbers(codes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Each `length` letters in a row as a number, and whether all of them are A, C, G or T."""
    numbers = np.zeros(len(codes) - length + 1, np.int64)
    usable = np.ones(len(numbers), np.bool_)
    for place in range(length):
        part = codes[place : place + len(numbers)]
        numbers = numbers * 4 + (part & 3)
        usable &= part < OTHER
    return numbers, usable
