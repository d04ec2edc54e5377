"""Shuffled genomes: text with the short-range statistics of a genome and nothing else of it.

In: bases. Out: as many bases drawn from the Markov chain that fits them. A model that learns more from the
genome than from its shuffle has learnt more than short-range statistics.
"""

import numpy as np

from dnabert2_jax.genome.sequence import ACGT

_LETTERS = np.frombuffer(b"ACGT", np.uint8)
# Chains drawn side by side, so that NumPy works on vectors; each begins with a context of the genome.
_CHAINS = 4096


def markov_shuffle(bases: np.ndarray, *, order: int, seed: int) -> np.ndarray:
    """Draws bases from the order-k Markov chain of a contig; what is not A, C, G or T stays where it is.

    Args:
      bases: uint8 [L], ASCII, upper case.
      order: k, bases of context, at least 1.
      seed: of the draw.

    Returns:
      uint8 [L].
    """
    known = ACGT[bases]
    digits = np.searchsorted(_LETTERS, bases[known])
    if digits.size <= order:
        return bases.copy()
    contexts = _contexts(digits[:-1], order)
    counts = np.bincount(contexts * 4 + digits[order:], minlength=4 ** (order + 1)).reshape(-1, 4)
    # A context that only ends the contig has no successor; any letter may follow it.
    shares = np.where(counts.sum(axis=1, keepdims=True), counts, 1).astype(np.float64)
    thresholds = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)[:, :3]

    rng = np.random.default_rng(seed)
    chains = min(_CHAINS, digits.size)
    context = rng.choice(contexts, chains)
    drawn = np.empty((-(-digits.size // chains), chains), np.int64)
    for step in range(len(drawn)):
        drawn[step] = (rng.random(chains)[:, None] >= thresholds[context]).sum(axis=1)
        context = (context * 4 + drawn[step]) % 4**order
    shuffled = bases.copy()
    shuffled[known] = _LETTERS[drawn.T.ravel()[: digits.size]]
    return shuffled


def _contexts(digits: np.ndarray, order: int) -> np.ndarray:
    """The number that each run of `order` digits spells in base 4."""
    spelled = np.zeros(digits.size - order + 1, np.int64)
    for place in range(order):
        spelled = spelled * 4 + digits[place : place + len(spelled)]
    return spelled
