"""What a corpus holds and what was held out of it: a folder comes in, plain numbers and sentences go out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.layout import CorpusMetadata, SpeciesCounts
from dnabert2_jax.data.species_weights import species_shares

SIZE_TOLERANCE = 0.1
_NAMED = 5


def corpus_statistics(folder: str | Path) -> dict[str, Any]:
    """What a corpus holds, as plain numbers: bases, tokens, entropy, and the same by species.

    Bases are of the forward strand; tokens are of both strands, so bases per token is 2 x bases / tokens.
    `unigram_entropy` is in nats, of the training tokens: the loss of a model that knows only how often each
    token occurs. `training_share` is what a species gets with the weights of the corpus. `holdout` and
    `size_warnings` are sentences.

    Raises:
      UserError: `folder` is no corpus.
    """
    corpus = Corpus.open(folder)
    metadata = corpus.metadata
    shares = species_shares(metadata, "corpus")
    species = [
        msgspec.structs.asdict(counts)
        | {
            "bases_per_token": _bases_per_token([counts]),
            "unigram_entropy": unigram_entropy(unigram_counts),
            "training_share": float(share),
        }
        for counts, unigram_counts, share in zip(
            metadata.species, corpus.species_unigram_counts, shares, strict=True
        )
    ]
    summed = [
        name for name, value in species[0].items() if isinstance(value, int) and name != "expected_bases"
    ]
    return {name: sum(entry[name] for entry in species) for name in summed} | {
        "bases_per_token": _bases_per_token(metadata.species),
        "train_records": len(corpus.indices["train"]),
        "validation_records": len(corpus.indices["validation"]),
        "validation_regions": len(metadata.validation_regions),
        "vocab_size": metadata.vocab_size,
        "ids_used": int(np.count_nonzero(corpus.unigram_counts)),
        "unigram_entropy": unigram_entropy(corpus.unigram_counts),
        "fingerprint": corpus.fingerprint,
        "holdout": describe_holdout(metadata),
        "size_warnings": size_warnings(metadata),
        "by_species": species,
    }


def unigram_entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of tokens that occur `counts` [V] times; 0 where there are none."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log(shares)).sum())


def describe_holdout(metadata: CorpusMetadata) -> str:
    """What was held out, and what close relatives of it remain in training.

    Relatives are known by the first word of the species' names, the genus; others nobody here can tell.
    """
    trained_on = [counts.species for counts in metadata.species if counts.train_tokens]
    held_out = [counts.species for counts in metadata.species if counts.validation_tokens]
    in_both = [name for name in held_out if name in trained_on]
    sentences = []
    if in_both:
        unit = "contigs" if metadata.settings.holdout == "chromosome" else "regions"
        sentences.append(
            f"{unit.capitalize()} of {_some(in_both)} are held out; the rest of the same genomes is in"
            " training, and with it the other copies of their repeats and gene families."
        )
        genera = Counter(map(_genus, trained_on))
        related = [name for name in in_both if genera[_genus(name)] > 1]
        if related:
            sentences.append(f"Species of the same genus are in training, too, for {_some(related)}.")
    for name in held_out:
        if name not in trained_on:
            relatives = [other for other in trained_on if _genus(other) == _genus(name)]
            remain = f"{_some(relatives)} of the same genus" if relatives else "nothing of its genus"
            sentences.append(f"{name} is held out as a whole; {remain} is in training.")
    return " ".join(sentences)


def size_warnings(metadata: CorpusMetadata) -> list[str]:
    """A sentence for each species whose files have a tenth less or more A, C, G and T than they should."""
    found = ((counts, counts.bases - counts.dropped_other) for counts in metadata.species)
    return [
        f"{counts.species}: its files hold {bases:,} bases where {counts.expected_bases:,} are expected"
        for counts, bases in found
        if counts.expected_bases
        and abs(bases - counts.expected_bases) > SIZE_TOLERANCE * counts.expected_bases
    ]


def _genus(species: str) -> str:
    return species.replace("_", " ").split()[0].lower()


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} other species" if rest > 0 else "")


def _bases_per_token(species: Sequence[SpeciesCounts]) -> float:
    bases = sum(counts.train_bases + counts.validation_bases for counts in species)
    tokens = sum(counts.train_tokens + counts.validation_tokens for counts in species)
    return 2 * bases / tokens if tokens else 0.0
