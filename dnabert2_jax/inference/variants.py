"""What a masked-language model says of variants: windows with either allele come in; scores and the
probabilities of bases go out.

Both alleles are tokenised anew, since a changed base changes how its neighbours are cut. The tokens between
what the two have in common at their ends are masked one at a time.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dnabert2_jax.genome.alleles import AlleleWindows
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.masked_rows import BaseQuery, BaseReader, MaskedRows, check_masked_model
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.tokenizer.vocabulary import UNK_ID


class VariantScore(NamedTuple):
    """What is said of a variant; higher means that the model rather expects the alternative.

    Attributes:
      score: Σ log p(token | all others) − log q(token), alternative minus reference, mean of both strands.
      forward, reverse: the same of each strand, as given and opposite; `reverse` is NaN, and `forward` all
        that there is, where one strand alone was asked for.
      difference: `score` without q, which depends on how many tokens the alleles have.
      reference_tokens, alternative_tokens: how many tokens were summed, mean of both strands.
      bases: [4], how probable A, C, G and T are at the site, mean of both strands; None where not asked for.
    """

    score: float
    forward: float
    reverse: float
    difference: float
    reference_tokens: float
    alternative_tokens: float
    bases: np.ndarray | None


class MaskedScorer:
    """Scores variants with one model.

    Args:
      model: with a masked-language-model head.
      log_unigram: float64 [V], log q of each token.
      full: whether all tokens of the window are summed, and not only those that changed.
      both_strands: whether the opposite strand is scored too.
      batch_size: as in `Pretrained.embed`.

    Raises:
      UserError: the model has no such head, or its tokens overlap.
    """

    def __init__(
        self,
        model: Pretrained,
        log_unigram: np.ndarray,
        *,
        full: bool = False,
        both_strands: bool = True,
        batch_size: int = 32,
    ):
        check_masked_model(model)
        self._model = model
        self._log_unigram = log_unigram
        self._full = full
        self._both_strands = both_strands
        self._batch_size = batch_size
        self._reader = BaseReader(model.tokenizer)

    def score(self, variants: Sequence[AlleleWindows], wants_bases: Sequence[bool]) -> list[VariantScore]:
        """Scores some variants together; each result is what it would be alone, to rounding.

        Args:
          variants: all of them are held in memory at once.
          wants_bases: for each whether the probabilities of the bases at its site are wanted; it must be the
            change of one base.

        Raises:
          UserError: a window has more tokens than the model takes; memory is short.
        """
        rows = MaskedRows(self._model)
        strands = [[self._strand(rows, side) for side in self._sides(window)] for window in variants]
        sites = [
            [self._reader.query(rows, side.reference, side.site) for side in self._sides(window)]
            if wanted
            else None
            for window, wanted in zip(variants, wants_bases, strict=True)
        ]
        queries = {query.row: query for pair in sites if pair for query in pair}
        log_p = np.zeros(len(rows.rows))
        base_p: dict[int, np.ndarray] = {}
        targets = np.array([row.ids[row.start] for row in rows.rows], np.int64)
        for places, values in self._model.masked_log_probabilities(rows.rows, self._batch_size):
            log_p[places] = values[np.arange(len(places)), targets[places]]
            for place, row in zip(places.tolist(), values, strict=True):
                if place in queries:
                    base_p[place] = queries[place].probabilities(row)
        log_ratio = log_p - self._log_unigram[targets]

        def result(pair: list[_Strand], queried: list[BaseQuery] | None) -> VariantScore:
            scores = [strand.difference(log_ratio) for strand in pair]
            bases = None
            if queried:
                # The opposite strand's A, C, G, T are our T, G, C, A.
                turns = zip(queried, (1, -1), strict=False)
                bases = sum((base_p[query.row][::turn] for query, turn in turns), np.zeros(4)) / len(queried)
            return VariantScore(
                sum(scores) / len(scores),
                scores[0],
                scores[1] if self._both_strands else math.nan,
                sum(strand.difference(log_p) for strand in pair) / len(pair),
                sum(len(strand.reference) for strand in pair) / len(pair),
                sum(len(strand.alternative) for strand in pair) / len(pair),
                bases,
            )

        return [result(pair, queried) for pair, queried in zip(strands, sites, strict=True)]

    def _sides(self, window: AlleleWindows) -> list[AlleleWindows]:
        return [window, _opposite(window)] if self._both_strands else [window]

    def _strand(self, rows: MaskedRows, window: AlleleWindows) -> "_Strand":
        reference, alternative = rows.ids(window.reference), rows.ids(window.alternative)
        if self._full:
            scored = [np.arange(1, len(ids) - 1) for ids in (reference, alternative)]
        else:
            scored = list(changed_block(reference, alternative))
        places = [
            # What stands for letters that are no bases has nothing to be told.
            [rows.add(text, place) for place in block.tolist() if ids[place] != UNK_ID]
            for text, ids, block in zip(window[:2], (reference, alternative), scored, strict=True)
        ]
        return _Strand(*(np.array(numbers, np.int64) for numbers in places))


def changed_block(reference: np.ndarray, alternative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the tokens between what two rows of tokens have in common at their beginning and end.

    Examples:
      >>> before, after = changed_block(np.array([1, 7, 8, 9, 2]), np.array([1, 7, 5, 6, 9, 2]))
      >>> before.tolist(), after.tolist()
      ([2], [2, 3])
    """
    shortest = min(len(reference), len(alternative))
    differs = np.flatnonzero(reference[:shortest] != alternative[:shortest])
    first = int(differs[0]) if len(differs) else shortest
    differs = np.flatnonzero(reference[::-1][:shortest] != alternative[::-1][:shortest])
    last = min(int(differs[0]) if len(differs) else shortest, shortest - first)
    return np.arange(first, len(reference) - last), np.arange(first, len(alternative) - last)


class _Strand(NamedTuple):
    """Which rows are summed for each allele."""

    reference: np.ndarray
    alternative: np.ndarray

    def difference(self, values: np.ndarray) -> float:
        return float(values[self.alternative].sum() - values[self.reference].sum())


def _opposite(window: AlleleWindows) -> AlleleWindows:
    """Both alleles on the other strand; the site is right for the change of a single base."""
    reference = reverse_complement(window.reference)
    return AlleleWindows(reference, reverse_complement(window.alternative), len(reference) - 1 - window.site)
