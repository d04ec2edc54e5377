"""In-silico mutagenesis: a sequence in, what each change of one of its bases does to a model's answer out.

Each mutant is tokenised anew, since a changed base changes how its neighbours are cut. Arrays are [L, 4], in
the order A C G T.
"""

import math
from collections.abc import Iterator
from itertools import batched
from typing import Literal, NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.alleles import AlleleWindows
from dnabert2_jax.inference.answers import Answer, Running
from dnabert2_jax.inference.engine import Named
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.variants import MaskedScorer
from dnabert2_jax.inference.views import (
    DEFAULT_WINDOW,
    PHASES,
    PositionMeans,
    Subject,
    View,
    cut_views,
    subject,
)

type Scale = Literal["probability", "log_odds"]

# Without a window every mutant costs a pass over the whole sequence.
_LONGEST_WHOLE = 10_000

# Mutants that are computed together.
_BLOCK_MUTANTS = 512


class Mutagenesis(NamedTuple):
    """What all changes of one base do to what a model says of a sequence.

    Attributes:
      effects: float32 [L, 4], mutant minus reference: of a class its probability, of a regression the number,
        of a masked-language model the score. 0 at the base that is there, NaN where that is none of A C G T.
      log_odds: float32 [L, 4], the same of log p / (1 − p); None where nothing is a probability.
      reference: float64 [strands], what a fine-tuned model says of the sequence itself on each strand, mean
        of all views; empty for a masked-language model. The logits of a text that is computed in several
        windows are averaged, where `Pretrained.predict` averages probabilities.
    """

    effects: np.ndarray
    log_odds: np.ndarray | None
    reference: np.ndarray


def mutagenesis(
    model: Pretrained,
    sequence: str,
    *,
    class_name: str | None = None,
    reverse_complement: bool = True,
    phases: int = PHASES,
    window: int | None = None,
    left: str = "",
    right: str = "",
    scale: Scale = "probability",
    log_unigram: np.ndarray | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """What each change of one base does to what a model says of a sequence: mutant minus reference.

    Of a fine-tuned model it is the probability of a class, or the number that it predicts. Of a
    masked-language model it is the score of `dnabert2 variants`: Σ log p(token | all others) − log q(token)
    over the tokens that the change changes. Without q it is its `difference`, most of which is how many
    tokens the change makes.

    Args:
      model: fine-tuned, or with a masked-language-model head.
      sequence: DNA text; lower case counts as upper case.
      class_name: of a fine-tuned model; None for its only label or the second of two.
      reverse_complement: average both strands, which is right where a label does not depend on the strand.
      phases: average so many ways to cut the text into tokens; phase p lacks p bases at each end of a window.
      window: most bases that the model sees at once; a longer text is shown in windows that overlap by half,
        and a base is read off the one in whose middle it lies. None means 512 for a masked-language model,
        and everything for a fine-tuned one.
      left, right: bases beside the sequence, which the model is shown too.
      scale: "log_odds" gives changes of log p / (1 − p), which are not lost where p is nearly 0 or 1.
      log_unigram: float64 [V], log q of each token for a masked-language model (`inference.unigram`); None
        leaves q out.
      batch_size: as in `Pretrained.embed`.

    Returns:
      float32 [L, 4] in the order A C G T; 0 at the base that is there, NaN where that is none of the four.

    Raises:
      UserError: the sequence is empty, or too long without a window; there is no such class; a number makes
        no sense; the model has no log odds.
    """
    found = mutate(
        model,
        subject(sequence, left, right),
        class_name=class_name,
        reverse_complement=reverse_complement,
        phases=phases,
        window=window,
        log_unigram=log_unigram,
        batch_size=batch_size,
    )
    if scale == "probability":
        return found.effects
    if found.log_odds is None:
        raise UserError("this model predicts no probabilities, and has no log odds; leave out the scale")
    return found.log_odds


def mutate(
    model: Pretrained,
    shown: Subject,
    *,
    class_name: str | None = None,
    reverse_complement: bool = True,
    phases: int = PHASES,
    window: int | None = None,
    log_unigram: np.ndarray | None = None,
    batch_size: int = 32,
) -> Mutagenesis:
    """`mutagenesis` with all that comes out of it; arguments and errors are the same."""
    if model.description.class_names is None:
        if class_name is not None:
            raise UserError("this model was not fine-tuned and has no classes; leave out --class")
        views = cut_views(shown, window or DEFAULT_WINDOW, phases)
        return _mutate_masked(model, shown, views, log_unigram, reverse_complement, batch_size)
    label = chosen_class(model, class_name)
    if window is None and len(shown.text) > _LONGEST_WHOLE:
        raise UserError(
            f"the sequence has {len(shown.text):,} bases, and each mutant would cost a pass over all of them;"
            " say how many the model shall see (--window)"
        )
    views = cut_views(shown, window, phases)
    return _mutate_fine_tuned(model, shown, views, label, Running(batch_size, reverse_complement))


def chosen_class(model: Pretrained, class_name: str | None) -> int:
    """Which label is explained: the one named, the only one, or the second of two.

    Raises:
      UserError: there is no such label, or one of several must be named.
    """
    names = model.class_names
    listing = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    if class_name is None and len(names) > 2:
        raise UserError(f"this model has {len(names)} classes; name one of them (--class): {listing}")
    if class_name is not None and class_name not in names:
        raise UserError(f"this model has no class {class_name!r}; it has {listing}")
    return len(names) - 1 if class_name is None else names.index(class_name)


def _mutate_masked(
    model: Pretrained,
    shown: Subject,
    views: list[View],
    log_unigram: np.ndarray | None,
    both: bool,
    batch_size: int,
) -> Mutagenesis:
    q = np.zeros(model.tokenizer.vocab_size) if log_unigram is None else log_unigram
    scorer = MaskedScorer(model, q, both_strands=both, batch_size=batch_size)
    means = PositionMeans(len(shown.bases))
    for view in views:
        values = np.zeros((len(view.sites), 4))
        for block in batched(view.mutants(), _BLOCK_MUTANTS):
            windows = [AlleleWindows(view.text, text, int(view.sites[number])) for number, _, text in block]
            scores = scorer.score(windows, [False] * len(windows))
            for (number, base, _), score in zip(block, scores, strict=True):
                values[number, base] = score.score
        means.add(view.targets, values)
    return Mutagenesis(means.result(), None, np.empty(0))


def _mutate_fine_tuned(
    model: Pretrained, shown: Subject, views: list[View], label: int, running: Running
) -> Mutagenesis:
    def examples() -> Iterator[Named]:
        for view in views:
            yield "", view.text
            for *_, text in view.mutants():
                yield "", text

    scored = model.prediction_kind != "numbers"
    effects, log_odds = (PositionMeans(len(shown.bases)) for _ in range(2))
    references = []
    blocks = model.logit_blocks(examples(), running)
    answered = (_strands_of(model, answer, label) for block in blocks for answer in block)
    for view in views:
        reference = next(answered)
        references.append(reference[:, 0])
        values = np.zeros((2, len(view.sites), 4))
        for number, base, _ in view.mutants():
            values[:, number, base] = (next(answered) - reference).mean(axis=0)
        effects.add(view.targets, values[0])
        log_odds.add(view.targets, values[1])
    # At its end the engine tells of sequences that were too long for it.
    next(answered, None)
    return Mutagenesis(
        effects.result(),
        log_odds.result() if scored else None,
        np.mean(references, axis=0) if references else np.empty(0),
    )


def _strands_of(model: Pretrained, answer: Answer, label: int) -> np.ndarray:
    """[strands, 2]: the probability of a label, or the number predicted, and its log odds."""
    logits = np.array(answer.strands, np.float64)
    log_odds = logits[:, label]
    if model.description.problem == "regression":
        return np.stack([log_odds, log_odds], axis=1)
    if model.description.problem == "single_label_classification":
        others = np.delete(logits, label, axis=1)
        log_odds = log_odds - np.logaddexp.reduce(others, axis=1, initial=-math.inf)
    # The logistic function, which for two classes and more is the softmax: it cannot overflow.
    return np.stack([(1 + np.tanh(log_odds / 2)) / 2, log_odds], axis=1)
