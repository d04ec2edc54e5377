"""How much a strand flip changes a model's answer: what each strand gives comes in, a few figures go out.

A double strand is one molecule, so that a model that knows it gives both strands the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

type AnswerKind = Literal["vectors", "classes", "labels", "numbers"]
"""Embeddings; probabilities of classes that exclude each other; of several labels; predicted numbers."""

# What is measured of each sequence, and the figures that are made of it.
_MEASURES: dict[str, tuple[str, ...]] = {
    "vectors": ("cosine distance", "relative difference"),
    "classes": ("total variation", "share of classes flipped"),
    "labels": ("difference in probability", "share of labels flipped"),
    "numbers": ("difference",),
}
_TINY = 1e-30


@dataclass(frozen=True)
class StrandConsistency:
    """How far the answers of the two strands are apart.

    Attributes:
      sequences: how many were compared.
      figures: by name. Of embeddings the mean and the median of the cosine distance between the strands'
        vectors, 1 - cos, and of the relative difference, the length of their difference over the mean of
        their lengths. Of classes the mean total variation distance, half the sum of the absolute
        differences in probability, and the share of sequences whose class changes. Of several labels the mean
        absolute difference in probability and the share of labels that cross one half. Of predicted
        numbers the mean absolute difference. All are 0 where the strand makes no difference.
    """

    sequences: int
    figures: dict[str, float]

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        return f"strand consistency of {self.sequences:,} sequences: {shown or 'nothing to compare'}"


def compare_strands(kind: AnswerKind, answers: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """How far the strands' answers are apart, for each sequence.

    Args:
      kind: what the answers are.
      answers: for each of n sequences what its two strands give: [k], or [bases, E] in one direction.

    Returns:
      float32 [n, measures]; NaN for a sequence without bases.
    """
    measures = np.full((len(answers), len(_MEASURES[kind])), np.nan, np.float32)
    if answers and answers[0][0].ndim == 1:
        first, second = (np.stack([pair[strand] for pair in answers]) for strand in (0, 1))
        measures[:] = _measure(kind, first, second)
    else:
        for number, (first, second) in enumerate(answers):
            if len(first):
                measures[number] = _measure(kind, first, second).mean(axis=0)
    return measures


def summarise_strands(kind: AnswerKind, measures: np.ndarray) -> StrandConsistency:
    """The figures of all sequences' `measures`, [n, measures]."""
    known = measures[~np.isnan(measures).any(axis=1)].astype(np.float64)
    if not len(known):
        return StrandConsistency(0, {})
    figures: dict[str, float] = {}
    for name, column in zip(_MEASURES[kind], known.T, strict=True):
        if name.startswith("share"):
            figures[name] = float(column.mean())
            continue
        figures[f"mean {name}"] = float(column.mean())
        if kind == "vectors":
            figures[f"median {name}"] = float(np.median(column))
    return StrandConsistency(len(known), figures)


def _measure(kind: AnswerKind, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first.astype(np.float64), second.astype(np.float64)
    difference = np.abs(first - second)
    match kind:
        case "vectors":
            lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
            cosine = (first * second).sum(axis=1) / np.maximum(lengths[0] * lengths[1], _TINY)
            relative = np.linalg.norm(difference, axis=1) / np.maximum((lengths[0] + lengths[1]) / 2, _TINY)
            columns = [1 - cosine, relative]
        case "classes":
            columns = [difference.sum(axis=1) / 2, first.argmax(axis=1) != second.argmax(axis=1)]
        case "labels":
            columns = [difference.mean(axis=1), ((first > 0.5) != (second > 0.5)).mean(axis=1)]
        case "numbers":
            columns = [difference.mean(axis=1)]
    return np.stack(columns, axis=1)
