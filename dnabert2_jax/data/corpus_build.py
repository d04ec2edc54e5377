"""Builds a corpus: FASTA files and a tokenizer in, a corpus folder that appears whole or not at all out.

Contigs are cut into stretches of A, C, G and T, never across the border of a validation region (the rule is
in `holdout`); each stretch is tokenised on both strands, since BPE does not commute with the reverse
complement. The same input gives the same bytes.
"""

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dnabert2_jax.data.holdout import RegionMap, plan_validation
from dnabert2_jax.data.layout import (
    FORMAT,
    RECORD_TOKENS,
    SPLITS,
    TOKENIZER_FOLDER,
    CorpusMetadata,
    InputFile,
    Shard,
    SpeciesCounts,
    write_metadata,
    write_unigram_counts,
)
from dnabert2_jax.data.records import CorpusRecord, Strand
from dnabert2_jax.data.split_writer import SplitWriter
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_folder, refuse_existing, sha256_file
from dnabert2_jax.genome.fasta import Chunk, Contig, Stretch, acgt_stretches, read_chunks, scan
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

Progress = Callable[[int, int], None]
"""Called now and then with the bases done and the bases in all."""

# BPE merges cost more than linearly in the length of a text; a token is lost at a join about every 9 kb.
ENCODE_BASES = 9_000
# Chosen so that one strand of a stretch is nearly always one record.
STRETCH_BASES = 4 * ENCODE_BASES


def build_corpus(
    inputs: Sequence[tuple[str, str | os.PathLike]],
    tokenizer_folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    validation_share: float = 0.05,
    region_bases: int = 20_000,
    minimum_bases: int = 50,
    shard_bytes: int = 1 << 29,
    workers: int = 1,
    progress: Progress | None = None,
) -> CorpusMetadata:
    """Tokenises genomes and writes a corpus folder.

    Args:
      inputs: species and FASTA file of each genome; the order is kept.
      tokenizer_folder: a tokenizer or model folder; a copy goes into the corpus.
      output: the folder to make; must not exist, or be empty.
      validation_share: share of each genome to hold out, in (0, 0.5].
      region_bases: length of a held-out region, about.
      minimum_bases: runs of A, C, G, T shorter than this are dropped (and counted).
      shard_bytes: a new shard begins once one has this many bytes.
      workers: threads that tokenise; the result does not depend on it.
      progress: called with the bases done and the bases in all.

    Returns:
      The metadata, as written.

    Raises:
      UserError: a file or setting is wrong, species are named twice, or no text is left for a split.
    """
    _check_settings(inputs, validation_share, region_bases, minimum_bases)
    refuse_existing(Path(output))
    tokenizer = Tokenizer.load(tokenizer_folder)
    contigs = {species: scan(path) for species, path in inputs}
    regions = [
        region
        for species, found in contigs.items()
        for region in plan_validation(
            species, [(contig.name, contig.length) for contig in found], validation_share, region_bases
        )
    ]
    region_map = RegionMap(regions)
    total = sum(contig.length for found in contigs.values() for contig in found)
    with atomic_folder(output) as folder:
        tokenizer.save(folder / TOKENIZER_FOLDER)
        writers = {split: SplitWriter(folder, split, shard_bytes) for split in SPLITS}
        unigram_counts = np.zeros(tokenizer.vocab_size, np.int64)
        species_counts: list[SpeciesCounts] = []
        with ThreadPoolExecutor(workers) as executor:
            for number, (species, path) in enumerate(inputs):
                counts = _count_contigs(species, contigs[species])
                done = sum(earlier.bases for earlier in species_counts)
                stretches = acgt_stretches(
                    _watched(read_chunks(path), progress, done, total),
                    length=STRETCH_BASES,
                    minimum=minimum_bases,
                    cuts=region_map.cuts(species),
                )
                tokenise = functools.partial(_tokenise, species, tokenizer)
                for stretch, records in _in_order(executor, tokenise, stretches, ahead=4 * workers):
                    end = stretch.start + stretch.bases.size
                    region = region_map.touched(species, stretch.contig, stretch.start, end)
                    split = "train" if region < 0 else "validation"
                    for record in records:
                        writers[split].write(record, number, region)
                        if split == "train":
                            unigram_counts += np.bincount(record.tokens, minlength=unigram_counts.size)
                    _add(counts, split, stretch.bases.size, sum(record.tokens.size for record in records))
                kept = counts.train_bases + counts.validation_bases
                counts.dropped_short = counts.bases - counts.dropped_other - kept
                species_counts.append(counts)
        splits = {split: writer.close() for split, writer in writers.items()}
        _check_not_empty(splits, minimum_bases)
        write_unigram_counts(folder, unigram_counts)
        metadata = CorpusMetadata(
            format=FORMAT,
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            validation_share=validation_share,
            region_bases=region_bases,
            minimum_bases=minimum_bases,
            inputs=[
                InputFile(species=species, file=Path(path).name, sha256=sha256_file(path))
                for species, path in inputs
            ],
            species=species_counts,
            splits=splits,
            validation_regions=regions,
        )
        write_metadata(folder, metadata)
    return metadata


def _check_settings(
    inputs: Sequence[tuple[str, str | os.PathLike]],
    validation_share: float,
    region_bases: int,
    minimum_bases: int,
) -> None:
    if not inputs:
        raise UserError("a corpus needs at least one FASTA file; name one")
    paths: dict[str, str | os.PathLike] = {}
    for species, path in inputs:
        if not species:
            raise UserError(f"{path}: the species has no name; give it one")
        if species in paths:
            raise UserError(
                f"{path}: the species {species!r} is given already by {paths[species]};"
                " give each genome its own name"
            )
        paths[species] = path
    if not 0 < validation_share <= 0.5:
        raise UserError(f"the validation share must be above 0 and at most 0.5, not {validation_share}")
    if region_bases < 1:
        raise UserError(f"a validation region must have at least 1 base, not {region_bases}")
    if not 1 <= minimum_bases <= STRETCH_BASES:
        raise UserError(f"the shortest run must be 1 to {STRETCH_BASES} bases, not {minimum_bases}")


def _check_not_empty(splits: dict[str, list[Shard]], minimum_bases: int) -> None:
    for split, shards in splits.items():
        if not shards:
            raise UserError(
                f"no text is left for the {split} split (runs of A, C, G, T of at least {minimum_bases}"
                " bases); give more sequence, or lower the minimum"
            )


def _count_contigs(species: str, contigs: Sequence[Contig]) -> SpeciesCounts:
    bases = sum(contig.length for contig in contigs)
    return SpeciesCounts(
        species=species,
        contigs=len(contigs),
        bases=bases,
        soft_masked=sum(contig.soft_masked for contig in contigs),
        dropped_short=0,
        dropped_other=bases - sum(contig.acgt for contig in contigs),
    )


def _add(counts: SpeciesCounts, split: str, bases: int, tokens: int) -> None:
    if split == "train":
        counts.train_bases += bases
        counts.train_tokens += tokens
    else:
        counts.validation_bases += bases
        counts.validation_tokens += tokens


def _tokenise(species: str, tokenizer: Tokenizer, stretch: Stretch) -> list[CorpusRecord]:
    """The records of both strands; one strand is divided evenly where it has too many tokens for one."""
    strands: list[tuple[Strand, np.ndarray, np.ndarray]] = [
        ("+", stretch.bases, stretch.soft_mask),
        ("-", reverse_complement(stretch.bases), stretch.soft_mask[::-1]),
    ]
    records = []
    for strand, bases, soft_mask in strands:
        tokens = np.concatenate(
            [
                tokenizer.encode_bases(bases[start : start + ENCODE_BASES])
                for start in range(0, bases.size, ENCODE_BASES)
            ]
        )
        ends = np.cumsum(tokenizer.token_lengths[tokens])
        shares = _soft_mask_shares(soft_mask, ends)
        pieces = -(-tokens.size // RECORD_TOKENS)
        borders = [tokens.size * i // pieces for i in range(pieces + 1)]
        for first, last in itertools.pairwise(borders):
            begin, end = (int(ends[first - 1]) if first else 0), int(ends[last - 1])
            piece_shares = shares[first:last]
            records.append(
                CorpusRecord(
                    species=species,
                    contig=stretch.contig,
                    start=stretch.start + (begin if strand == "+" else bases.size - end),
                    bases=end - begin,
                    strand=strand,
                    tokens=tokens[first:last].astype(np.uint16),
                    soft_mask=piece_shares if piece_shares.any() else None,
                )
            )
    return records


def _soft_mask_shares(soft_mask: np.ndarray, ends: np.ndarray) -> np.ndarray:
    masked_before = np.concatenate([[0], np.cumsum(soft_mask)])
    borders = np.concatenate([[0], ends])
    masked = np.diff(masked_before[borders])
    return np.rint(255 * masked / np.diff(borders)).astype(np.uint8)


def _watched(chunks: Iterable[Chunk], progress: Progress | None, done: int, total: int) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        done += chunk.bases.size
        if progress:
            progress(done, total)


def _in_order[Item, Result](
    executor: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Pairs of item and result in the order of the items, with at most `ahead` of them in memory."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        waiting.append((item, executor.submit(work, item)))
        if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for item, future in waiting:
        yield item, future.result()
