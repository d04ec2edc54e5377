"""Sequences in, a folder of explanations out: arrays, a table, pictures, and a page that shows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_folder
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.attention_maps import attention_from, attention_map
from dnabert2_jax.inference.base_probabilities import read_bases
from dnabert2_jax.inference.explain_inputs import Explained, Sources, read_explained
from dnabert2_jax.inference.explain_output import Explanation, Folder
from dnabert2_jax.inference.inputs import check_layers
from dnabert2_jax.inference.masked_rows import check_masked_model
from dnabert2_jax.inference.mutagenesis import chosen_class, mutate
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.unigram import corpus_unigram, genome_unigram
from dnabert2_jax.inference.views import DEFAULT_WINDOW, PHASES, check_window
from dnabert2_jax.reports.logos import effect_heights, information_heights

type What = Literal["mutagenesis", "bases", "attention"]

# Strands that differ by more in the probability of a class are told of.
_FAR_APART = 0.25


@dataclass(frozen=True)
class Request:
    """What is computed.

    Attributes:
      what: None for mutagenesis of a fine-tuned model and bases of a masked-language model.
      class_name, reverse_complement, phases, window, batch_size: as in `mutagenesis`; a window for attention
        is what is shown.
      center: explain so many bases around each sequence's middle; None for all.
      layers: of attention; None for all.
      corpus: a corpus folder whose unigram the scores of a masked-language model, and the information of
        bases, are relative to; None for that of the genome, where there is one.
      pictures: of how many sequences there are pictures.
    """

    what: What | None = None
    class_name: str | None = None
    reverse_complement: bool = True
    phases: int = PHASES
    window: int | None = None
    center: int | None = None
    layers: tuple[int, ...] | None = None
    corpus: str | Path | None = None
    pictures: int = 20
    batch_size: int = 32


@dataclass(frozen=True)
class Outcome:
    """What was written.

    Attributes:
      what: was computed.
      sequences, bases: how many.
      pictures: of how many sequences there are pictures.
      averaged: whether there is a mean of all sequences, which needs two or more of one length.
    """

    what: What
    sequences: int
    bases: int
    pictures: int
    averaged: bool


def explain_file(
    model: Pretrained,
    sources: Sources,
    output: str | Path,
    request: Request,
    progress: Callable[[int], object],
) -> Outcome:
    """Writes a folder of explanations, whole or not at all; `explain_output.Folder` says what it holds.

    Args:
      model: of any kind.
      sources: what is read.
      output: the folder to make.
      request: what is computed.
      progress: is told of each sequence that is done.

    Raises:
      UserError: the model has no head for what is asked; as in `read_explained`, `mutagenesis`,
        `base_probabilities`, `attention_map`, `corpus_unigram` and `atomic_folder`.
    """
    job = _job(model, sources, request)
    request = job.request
    entries = read_explained(sources, request.window, request.center, is_cut=job.what != "attention")
    with atomic_folder(output) as temporary:
        folder = Folder(temporary, job.what, job.facts(), request.pictures)
        far_apart = 0
        for explained in entries:
            try:
                explanation = job.explain(explained)
            except UserError as error:
                raise UserError(f"{explained.name}: {error}") from error
            far_apart += explanation.is_far_apart
            folder.add(explanation)
            progress(1)
        folder.finish(job.remarks(folder.sequences, far_apart))
    return Outcome(job.what, folder.sequences, folder.bases, folder.pictured, folder.has_average)


def _job(model: Pretrained, sources: Sources, request: Request) -> "_Job":
    is_masked = model.description.class_names is None
    what: What = request.what or ("bases" if is_masked else "mutagenesis")
    if request.class_name is not None and (is_masked or what != "mutagenesis"):
        raise UserError("--class is for mutagenesis with a fine-tuned model; leave it out")
    if request.layers is not None and what != "attention":
        raise UserError("--layers is for --what attention; leave it out")
    if request.corpus is not None and (what == "attention" or not is_masked):
        raise UserError("--corpus is for masked-language models, and not for attention; leave it out")
    if request.window is not None:
        check_window(request.window)
    elif is_masked and what != "attention":
        request = replace(request, window=DEFAULT_WINDOW)
    if what == "attention":
        check_layers(model.description.architecture, request.layers)
        return _Job(model, request, what, "attention")
    if what == "mutagenesis" and not is_masked:
        label = model.class_names[chosen_class(model, request.class_name)]
        measured = "" if model.prediction_kind == "numbers" else "probability of "
        return _Job(model, request, what, f"change in {measured}{label}", label)
    check_masked_model(model)
    q = None
    if request.corpus is not None:
        q = corpus_unigram(request.corpus, model.tokenizer)
    elif sources.genome is not None:
        with IndexedFasta(sources.genome) as fasta:
            q = genome_unigram(fasta, model.tokenizer)
    elif what == "mutagenesis":
        raise UserError(
            "the score of a masked-language model is relative to token frequencies; name the --corpus that it"
            " was trained on, or a --genome, or take --what bases"
        )
    return _Job(model, request, what, "probability" if what == "bases" else "change in score", None, q)


@dataclass(frozen=True)
class _Job:
    model: Pretrained
    request: Request
    what: What
    quantity: str
    label: str | None = None
    log_unigram: np.ndarray | None = field(default=None, repr=False)

    def facts(self) -> dict[str, Any]:
        request = self.request
        facts: dict[str, Any] = {"shown": self.quantity}
        if self.what != "attention":
            strands = "mean of both" if request.reverse_complement else "the one given"
            facts |= {"strands": strands, "phases of a window, averaged": request.phases}
        if request.window is not None:
            facts["bases that the model sees at once"] = request.window
        if self.quantity == "change in score":
            facts["score"] = "Σ log p(token | all others) − log q(token), in nats"
        if self.what == "bases":
            against = "1/4 for each base" if self.log_unigram is None else "token frequencies"
            facts["information is relative to"] = against
        return facts

    def explain(self, explained: Explained) -> Explanation:
        request, shown = self.request, explained.shown
        common = {
            "reverse_complement": request.reverse_complement,
            "phases": request.phases,
            "window": request.window,
            "batch_size": request.batch_size,
        }
        if self.what == "attention":
            return self._attention(explained)
        if self.what == "bases":
            bases = read_bases(self.model, shown, log_unigram=self.log_unigram, **common)
            arrays = {"values": bases.values}
            if bases.background is not None:
                arrays["background"] = bases.background
            heights = information_heights(bases.values, bases.background)
            return Explanation(explained, self.quantity, arrays, heights)
        found = mutate(
            self.model, shown, class_name=request.class_name, log_unigram=self.log_unigram, **common
        )
        arrays = {"values": found.effects}
        if found.log_odds is not None:
            arrays["log_odds"] = found.log_odds
        facts: dict[str, Any] = {}
        is_far_apart = False
        if len(found.reference):
            arrays["reference"] = found.reference
            facts[self.quantity.removeprefix("change in ")] = float(found.reference.mean())
        if len(found.reference) == 2:
            facts["the same on each strand"] = found.reference.tolist()
            is_probability = found.log_odds is not None
            is_far_apart = is_probability and abs(float(np.diff(found.reference)[0])) > _FAR_APART
        heights = effect_heights(found.effects, shown.bases)
        return Explanation(
            explained,
            self.quantity,
            arrays,
            heights,
            class_name=self.label,
            facts=facts,
            is_far_apart=is_far_apart,
        )

    def _attention(self, explained: Explained) -> Explanation:
        shown, window = explained.shown, self.request.window
        if window is not None and len(shown.text) > window:
            raise UserError(
                f"has {len(shown.text):,} bases and --window is {window:,}; make the window larger, or leave"
                " it out: attention is that of a sequence in one piece"
            )
        found = attention_map(self.model, shown.text, layers=self.request.layers)
        first, last = len(shown.left), len(shown.left) + len(shown.bases)
        centre = first + len(shown.bases) // 2
        arrays = {
            "values": found.weights,
            "layers": np.array(found.layers),
            "tokens": np.array(found.tokens),
            # Counted from the first base that is explained, as rows of tables are.
            "starts": found.starts - first,
            "ends": found.ends - first,
            "from_centre": attention_from(found, centre, first, last),
        }
        return Explanation(explained, self.quantity, arrays, None, facts={"tokens": len(found.tokens)})

    def remarks(self, sequences: int, far_apart: int) -> Sequence[str]:
        if self.what == "bases" and self.log_unigram is None:
            return [
                "The information is against 1/4 for each base, and words that the vocabulary lacks make some"
                " bases improbable whatever the model has learnt. Name --corpus, or a --genome, to have logos"
                " against token frequencies."
            ]
        if not far_apart:
            return []
        return [
            f"The two strands of {far_apart:,} of {sequences:,} sequences differ by more than {_FAR_APART} in"
            f" the probability of {self.label}. If the label depends on the strand, explain one strand alone"
            " (--one-strand)."
        ]
