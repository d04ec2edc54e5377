"""Whether a corpus folder still is what was built: a folder in, a list of sentences about problems out."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.holdout import RegionMap
from dnabert2_jax.data.layout import SPLITS, SpeciesCounts
from dnabert2_jax.data.records import STRANDS, CorpusRecord
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import sha256_file
from dnabert2_jax.tokenizer.kmers import KmerTokenizer


def verify_corpus(folder: str | Path) -> list[str]:
    """Reads every byte and every record of a corpus and compares them with its metadata and indices.

    Checks the shards' checksums and record counts, that ids are in range and the tokens as long as the bases
    they stand for, that indices and counts agree with the records, that each species' bases add up, that
    strands come in pairs, that validation records lie inside their regions and training records outside of
    all, and the tokenizer.

    Args:
      folder: the corpus.

    Returns:
      One sentence for each problem, naming the file; empty where all is well.

    Raises:
      UserError: `folder` is no corpus, or its metadata or an index cannot be read.
    """
    corpus = Corpus.open(folder)
    problems = [problem for split in SPLITS for problem in _damaged_shards(corpus, split)]
    if problems:
        return problems  # what damaged shards hold needs no further comment
    try:
        tokenizer = corpus.tokenizer()
    except UserError as error:
        return [str(error)]
    token_lengths = tokenizer.token_lengths
    if token_lengths.size != corpus.metadata.vocab_size:
        return [f"{folder}: the tokenizer has {token_lengths.size} ids, not {corpus.metadata.vocab_size}"]
    # The last k - 1 bases of a run begin no overlapping k-mer.
    spells_every_base = not (isinstance(tokenizer, KmerTokenizer) and tokenizer.overlapping)
    regions = RegionMap(corpus.metadata.validation_regions)
    names = [counts.species for counts in corpus.metadata.species]
    unigram_counts = np.zeros_like(corpus.species_unigram_counts)
    tokens: Counter[tuple[str, str]] = Counter()
    bases: Counter[tuple[str, str, str]] = Counter()
    for split in SPLITS:
        for number, record in enumerate(corpus.records(split)):
            trouble = _trouble(corpus, names, split, number, record, token_lengths, regions)
            if trouble:
                problems.append(f"{folder}: {split} record {number}: {trouble}")
                continue
            tokens[record.species, split] += record.tokens.size
            bases[record.species, split, record.strand] += record.bases
            if split == "train":
                unigram_counts[names.index(record.species)] += np.bincount(
                    record.tokens, minlength=corpus.metadata.vocab_size
                )
    if problems:
        return problems
    if not np.array_equal(unigram_counts, corpus.species_unigram_counts):
        problems.append(f"{folder}: the unigram counts are not those of the training records")
    for counts in corpus.metadata.species:
        wrong = _wrong_counts(counts, tokens, bases, spells_every_base)
        problems += [f"{folder}: {counts.species} has {sentence}" for sentence in wrong]
    return problems


def _wrong_counts(
    counts: SpeciesCounts,
    tokens: Counter[tuple[str, str]],
    bases: Counter[tuple[str, str, str]],
    spells_every_base: bool,
) -> Iterator[str]:
    listed = {
        "train": (counts.train_tokens, counts.train_bases),
        "validation": (counts.validation_tokens, counts.validation_bases),
    }
    for split, (listed_tokens, listed_bases) in listed.items():
        found = tokens[counts.species, split]
        if found != listed_tokens:
            yield f"{found} {split} tokens, and the metadata says {listed_tokens}"
        for strand in STRANDS:
            found = bases[counts.species, split, strand]
            if found != listed_bases and spells_every_base:
                yield f"{found} {split} bases of strand {strand}, and the metadata says {listed_bases}"
    kept = counts.train_bases + counts.validation_bases
    dropped = counts.dropped_short + counts.dropped_other + counts.dropped_regions + counts.dropped_cap
    if kept + dropped != counts.bases:
        yield f"{counts.bases} bases by the metadata, and {kept} kept and {dropped} dropped by it"


def _damaged_shards(corpus: Corpus, split: str) -> list[str]:
    problems = []
    first = 0
    for shard in corpus.metadata.splits[split]:
        path = corpus.folder / shard.file
        last = first + shard.records
        if not path.is_file():
            problems.append(f"{path}: is missing")
        elif sha256_file(path) != shard.sha256:
            problems.append(f"{path}: its bytes are not those that were written")
        elif int(corpus.indices[split].tokens[first:last].sum()) != shard.tokens:
            problems.append(f"{path}: holds {shard.tokens} tokens, and the index of the split says otherwise")
        first = last
    return problems


def _trouble(
    corpus: Corpus,
    names: list[str],
    split: str,
    number: int,
    record: CorpusRecord,
    token_lengths: np.ndarray,
    regions: RegionMap,
) -> str | None:
    index = corpus.indices[split]
    if record.tokens.size != index.tokens[number]:
        return f"has {record.tokens.size} tokens, and the index says {index.tokens[number]}"
    if record.species not in names or names.index(record.species) != index.species[number]:
        return f"is of {record.species!r}, and the index says otherwise"
    if STRANDS.index(record.strand) != index.strand[number]:
        return f"is of strand {record.strand}, and the index says otherwise"
    if index.strand[number] != number % 2:
        return "is not one of a pair of strands"
    if not record.tokens.size or record.tokens.max() >= token_lengths.size:
        return "holds ids that are not in the vocabulary"
    if token_lengths[record.tokens].sum() != record.bases:
        return f"its tokens do not spell {record.bases} bases"
    start, end = record.start, record.start + record.bases
    touched = regions.touched(record.species, record.contig, start, end)
    if split == "train":
        return None if touched < 0 else "overlaps a validation region"
    if touched < 0 or touched != index.region[number]:
        return "is outside of its region"
    region = corpus.metadata.validation_regions[touched]
    return None if region.start <= start and end <= region.end else "crosses the border of its region"
