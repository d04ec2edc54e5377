"""Annotations of variants: changes on a genome come in, all numbers that were asked for of each go out.

A masked-language model gives scores; a fine-tuned one how its predictions change; both an embedding distance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.alleles import (
    AlleleWindows,
    Change,
    ReferenceBases,
    allele_windows,
    random_changes,
)
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.variants import MaskedScorer
from dnabert2_jax.inference.views import DEFAULT_WINDOW, check_window
from dnabert2_jax.tokenizer.vocabulary import LETTERS

_SCORES = ("score", "forward", "reverse", "difference", "tokens_ref", "tokens_alt")
_FEWEST_OF_NULL = 3


@dataclass(frozen=True)
class Wanted:
    """What is computed of each variant.

    Attributes:
      window: bases around a variant that the model sees.
      full: whether all tokens of a window are summed, and not only those that changed.
      bases: whether the probabilities of A, C, G and T are given at variants of one base.
      null: with how many random variants each insertion or deletion is compared; 0 for none.
      embedding: whether the distance of the two alleles' embeddings is given.
      batch_size: as in `Pretrained.embed`.

    Raises:
      UserError: a number makes no sense.
    """

    window: int = DEFAULT_WINDOW
    full: bool = False
    bases: bool = False
    null: int = 0
    embedding: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_window(self.window)
        if 0 < self.null < _FEWEST_OF_NULL:
            raise UserError(f"null (--null) is {self.null}; it must be 0, or {_FEWEST_OF_NULL} and more")


class Annotator:
    """Annotates variants of one genome with one model.

    Args:
      model: a masked-language model, or a fine-tuned one.
      wanted: what is computed.
      log_unigram: float64 [V], of a masked-language model (`inference.unigram`); None for a fine-tuned one.

    Attributes:
      fields: names of the numbers that `annotate` gives.

    Raises:
      UserError: the model has no head for what is wanted.
    """

    def __init__(self, model: Pretrained, wanted: Wanted, log_unigram: np.ndarray | None):
        self._model = model
        self._wanted = wanted
        self._scorer: MaskedScorer | None = None
        fields: tuple[str, ...]
        if model.description.class_names is not None:
            refuse_masked_options(wanted)
            fields = tuple(f"change_{name}" for name in model.class_names)
        else:
            assert log_unigram is not None, "scores of a masked-language model are relative to a unigram"
            self._scorer = MaskedScorer(model, log_unigram, full=wanted.full, batch_size=wanted.batch_size)
            fields = _SCORES
            fields += tuple(f"p_{base}" for base in LETTERS) if wanted.bases else ()
            fields += ("z",) if wanted.null else ()
        self.fields = (*fields, *(("distance",) if wanted.embedding else ()))

    def annotate(self, genome: ReferenceBases, changes: Sequence[Change]) -> np.ndarray:
        """Computes the numbers of some variants together; each is what it would be alone, to rounding.

        Args:
          genome: where the changes lie.
          changes: all that is needed for them is held in memory at once.

        Returns:
          float64 [n, fields]; NaN where a number does not apply, as the probabilities of bases at a deletion.
        """
        windows = [allele_windows(genome, change, self._wanted.window) for change in changes]
        if not windows:
            return np.empty((0, len(self.fields)))
        if self._scorer is None:
            columns = [self._changes_of_predictions(windows)]
        else:
            columns = [self._scores(self._scorer, genome, changes, windows)]
        if self._wanted.embedding:
            columns.append(self._distances(windows)[:, None])
        return np.concatenate(columns, axis=1)

    def _scores(
        self,
        scorer: MaskedScorer,
        genome: ReferenceBases,
        changes: Sequence[Change],
        windows: list[AlleleWindows],
    ) -> np.ndarray:
        wants_bases = [self._wanted.bases and change.kind == "snv" for change in changes]
        nulls: list[list[Change]] = [
            random_changes(genome, change, self._wanted.null, _generator(change)) if _is_indel(change) else []
            for change in changes
        ]
        drawn = [allele_windows(genome, null, self._wanted.window) for null_of in nulls for null in null_of]
        scores = scorer.score([*windows, *drawn], [*wants_bases, *[False] * len(drawn)])
        values = np.full((len(changes), len(self.fields) - self._wanted.embedding), np.nan)
        place = len(windows)
        for row, score, null_of in zip(values, scores, nulls, strict=False):
            row[: len(_SCORES)] = score[: len(_SCORES)]
            if score.bases is not None:
                row[len(_SCORES) : len(_SCORES) + len(LETTERS)] = score.bases
            if len(null_of) >= _FEWEST_OF_NULL:
                others = np.array([other.score for other in scores[place : place + len(null_of)]])
                spread = float(others.std(ddof=1))
                row[-1] = (score.score - others.mean()) / spread if spread else np.nan
            place += len(null_of)
        return values

    def _changes_of_predictions(self, windows: list[AlleleWindows]) -> np.ndarray:
        texts = _unique(windows)
        values = self._model.predict(texts, self._wanted.batch_size, reverse_complement=True)
        found = dict(zip(texts, values.astype(np.float64), strict=True))
        return np.array([found[window.alternative] - found[window.reference] for window in windows])

    def _distances(self, windows: list[AlleleWindows]) -> np.ndarray:
        texts = _unique(windows)
        vectors = self._model.embed(texts, "mean", self._wanted.batch_size, reverse_complement=True)
        units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        found = dict(zip(texts, units, strict=True))
        # 1 − cos of two unit vectors, without the loss of digits where they are nearly the same.
        gaps = np.array([found[window.alternative] - found[window.reference] for window in windows])
        return (gaps**2).sum(axis=1) / 2


def refuse_masked_options(wanted: Wanted) -> None:
    """Raises UserError where something is wanted that a fine-tuned model cannot give."""
    asked = {"--full": wanted.full, "--bases": wanted.bases, "--null": wanted.null > 0}
    for option, is_wanted in asked.items():
        if is_wanted:
            raise UserError(
                f"this model was fine-tuned and has no masked-language-model head, which {option} needs;"
                f" leave {option} out, or name the model before its fine-tuning"
            )


def _is_indel(change: Change) -> bool:
    return len(change.reference) != len(change.alternative)


def _generator(change: Change) -> np.random.Generator:
    """The same random places for a variant whatever else is in its file."""
    digest = hashlib.sha256(repr(tuple(change)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


def _unique(windows: list[AlleleWindows]) -> list[str]:
    return list(dict.fromkeys(text for window in windows for text in window[:2]))
