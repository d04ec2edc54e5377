"""Base probabilities: a sequence in, how probable a masked-language model finds each base at each place out.

Arrays are [L, 4], in the order A C G T.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from dnabert2_jax.inference.masked_rows import BaseQuery, BaseReader, MaskedRows, check_masked_model
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.views import (
    DEFAULT_WINDOW,
    PHASES,
    PositionMeans,
    Subject,
    cut_views,
    opposite,
    subject,
)

# Rows that are computed together.
_BLOCK_ROWS = 2_048


class BaseProbabilities(NamedTuple):
    """How probable bases are.

    Attributes:
      values: float32 [L, 4]; a row adds up to 1, and is NaN where the sequence has none of A C G T.
      background: float32 [L, 4], the same if the probability of each token were how often it occurs anyway;
        None where that was not given. A vocabulary lacks many words, so that tokens alone make some bases
        likelier than others, whatever a model has learnt: what it has learnt shows against this.
    """

    values: np.ndarray
    background: np.ndarray | None


def base_probabilities(
    model: Pretrained,
    sequence: str,
    *,
    reverse_complement: bool = True,
    phases: int = PHASES,
    window: int | None = None,
    left: str = "",
    right: str = "",
    batch_size: int = 32,
) -> np.ndarray:
    """How probable each base is at each position, given all other bases.

    The token over a position is masked. Of each base the probabilities of all tokens are summed that have it
    there and otherwise agree with the sequence; the four sums are divided by their total. Strands and phases
    are averaged.

    Args:
      model: with a masked-language-model head.
      sequence, reverse_complement, phases, window, left, right, batch_size: as in `mutagenesis.mutagenesis`.

    Returns:
      float32 [L, 4] in the order A C G T; a row adds up to 1, and is NaN where the sequence has none of the
      four.

    Raises:
      UserError: the model has no such head, or its tokens overlap; as in `mutagenesis.mutagenesis`.
    """
    return read_bases(
        model,
        subject(sequence, left, right),
        reverse_complement=reverse_complement,
        phases=phases,
        window=window,
        batch_size=batch_size,
    ).values


def read_bases(
    model: Pretrained,
    shown: Subject,
    *,
    reverse_complement: bool = True,
    phases: int = PHASES,
    window: int | None = None,
    log_unigram: np.ndarray | None = None,
    batch_size: int = 32,
) -> BaseProbabilities:
    """`base_probabilities` and their background; errors and arguments are the same.

    Args:
      shown: the sequence with its flanks.
      log_unigram: float64 [V], log q of each token (`inference.unigram`), for the background.
    """
    check_masked_model(model)
    reader = BaseReader(model.tokenizer)
    means, backgrounds = (PositionMeans(len(shown.bases)) for _ in range(2))
    rows, asked = MaskedRows(model), list[_AskedView]()
    for view in cut_views(shown, window or DEFAULT_WINDOW, phases):
        for strand in (view, opposite(view)) if reverse_complement else (view,):
            queries = [reader.query(rows, strand.text, site) for site in strand.sites.tolist()]
            asked.append(_AskedView(view.targets, queries, strand is not view))
            if log_unigram is not None:
                expected = np.array([query.probabilities(log_unigram) for query in queries])
                backgrounds.add(view.targets, expected if strand is view else expected[:, ::-1])
        if len(rows.rows) >= _BLOCK_ROWS:
            _read(model, rows, asked, batch_size, means)
            rows, asked = MaskedRows(model), []
    _read(model, rows, asked, batch_size, means)
    return BaseProbabilities(means.result(), None if log_unigram is None else backgrounds.result())


class _AskedView(NamedTuple):
    """What tells the bases of one strand of a view."""

    targets: np.ndarray
    queries: list[BaseQuery]
    is_opposite: bool


def _read(
    model: Pretrained, rows: MaskedRows, asked: list[_AskedView], batch_size: int, means: PositionMeans
) -> None:
    # A token that stands for several bases tells them all.
    waiting = defaultdict[int, list[tuple[int, int, BaseQuery]]](list)
    for number, view in enumerate(asked):
        for place, query in enumerate(view.queries):
            waiting[query.row].append((number, place, query))
    values = [np.zeros((len(view.queries), 4)) for view in asked]
    for places, log_p in model.masked_log_probabilities(rows.rows, batch_size):
        for row, found in zip(places.tolist(), log_p, strict=True):
            for number, place, query in waiting[row]:
                values[number][place] = query.probabilities(found)
    for view, found in zip(asked, values, strict=True):
        # The opposite strand's A, C, G, T are our T, G, C, A.
        means.add(view.targets, found[:, ::-1] if view.is_opposite else found)
