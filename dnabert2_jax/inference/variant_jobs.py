"""A VCF in, the same with what a model says of each allele out: any number of records, in bounded memory.

What is computed is kept beside an output file until that is whole, so that a run goes on where it stopped.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnabert2_jax import __version__
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.alleles import REASONS, Change, Reason, ReferenceBases, read_change
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.genome.inputs import is_standard_input
from dnabert2_jax.genome.vcf import VcfRecord, open_vcf
from dnabert2_jax.inference.output import Rows
from dnabert2_jax.inference.parts import Parts, file_states
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.unigram import corpus_unigram, genome_unigram
from dnabert2_jax.inference.variant_annotations import Annotator, Wanted
from dnabert2_jax.inference.variant_output import KEY, Allele, Block, check_variant_output, variant_output

# A block ends with so many records, or so many alleles to compute, those of the null counted.
_BLOCK_RECORDS = 2048
_BLOCK_ALLELES = 512


@dataclass(frozen=True)
class VariantFiles:
    """What is read and written.

    Attributes:
      input: a VCF, or "-" for standard input.
      output: see `variant_output`.
      genome: a FASTA that can be read in places.
      corpus: a corpus folder whose unigram scores are relative to; None for the genome's own.

    Raises:
      UserError: the output would overwrite an input, or cannot be written.
    """

    input: str | Path
    output: str | Path
    genome: str | Path
    corpus: str | Path | None = None

    def __post_init__(self) -> None:
        check_variant_output(self.output)
        for path in (self.input, self.genome):
            if is_standard_input(path) or is_standard_input(self.output):
                continue
            if os.path.exists(self.output) and os.path.exists(path) and os.path.samefile(path, self.output):
                raise UserError(f"{self.output}: is an input, which it would overwrite; name another output")


@dataclass(frozen=True)
class VariantOutcome:
    """What was written.

    Attributes:
      records: how many, of which `kept` came from an earlier run.
      annotated: how many of their alleles have numbers.
      skipped: why the others have none.
    """

    records: int
    kept: int
    annotated: int
    skipped: Counter[Reason]

    def __str__(self) -> str:
        skipped = [f"{count:,} {reason} ({REASONS[reason]})" for reason, count in self.skipped.most_common()]
        without = f"; skipped {', '.join(skipped)}" if skipped else ""
        kept = f" ({self.kept:,} were done before)" if self.kept else ""
        return f"{self.records:,} records{kept}, {self.annotated:,} alleles annotated{without}"


def annotate_file(
    model: Pretrained, files: VariantFiles, wanted: Wanted, progress: Callable[[int], object]
) -> VariantOutcome:
    """Writes what a model says of all variants of a file.

    Args:
      model: a masked-language model, or a fine-tuned one.
      files: what is read and written.
      wanted: what is computed.
      progress: is told of each block how many records are done.

    Raises:
      UserError: as in `open_vcf`, `IndexedFasta`, `Annotator`, `corpus_unigram` and `variant_output`; another
        run makes the same output.
      KeyboardInterrupt: with how much was kept, where someone interrupts.
    """
    is_masked = model.description.class_names is None
    if not is_masked and files.corpus is not None:
        raise UserError("this model was fine-tuned and has no scores that --corpus would serve; leave it out")
    skipped: Counter[Reason] = Counter()
    records = annotated = 0
    with open_vcf(files.input, KEY) as vcf, IndexedFasta(files.genome) as fasta:
        unigram = None
        if is_masked and files.corpus is not None:
            unigram = corpus_unigram(files.corpus, model.tokenizer)
        elif is_masked:
            unigram = genome_unigram(fasta, model.tokenizer)
        annotator = Annotator(model, wanted, unigram)
        genome = ReferenceBases(fasta)

        def compute(block: ReadBlock) -> np.ndarray:
            changes = [change for _, found in block for change in found if isinstance(change, Change)]
            return annotator.annotate(genome, changes)

        relative = f", relative to the unigram of the {'corpus' if files.corpus else 'genome'}"
        how = f"window {wanted.window}{', all tokens of it' if wanted.full else ''}{relative * is_masked}"
        with (
            _kept(files.output, _plan(model, files, wanted, unigram), compute) as (numbers, kept),
            variant_output(files.output, vcf, annotator.fields, how) as write,
        ):
            for block in read_blocks(vcf.records, genome, wanted):
                done = _with_values(block, numbers(block))
                write(done)
                records += len(done)
                for _, alleles in done:
                    annotated += sum(allele.reason is None for allele in alleles)
                    skipped.update(allele.reason for allele in alleles if allele.reason is not None)
                progress(len(done))
    return VariantOutcome(records, kept, annotated, skipped)


type ReadBlock = list[tuple[VcfRecord, list[Change | Reason]]]
"""Records, each with what every ALT changes, or why it cannot be told."""

type Compute = Callable[[ReadBlock], np.ndarray]
"""The numbers of a block's changes: float64 [changes, fields]."""


def read_blocks(records: Iterable[VcfRecord], genome: ReferenceBases, wanted: Wanted) -> Iterator[ReadBlock]:
    """Records with their alleles checked against the genome, in blocks of bounded size."""
    block: ReadBlock = []
    alleles = 0
    for record in records:
        changes: list[Change | Reason] = [
            read_change(genome, record.contig, record.start, record.reference, alternative, wanted.window)
            for alternative in record.alternatives
        ]
        block.append((record, changes))
        for change in changes:
            if isinstance(change, Change):
                is_indel = len(change.reference) != len(change.alternative)
                alleles += 1 + wanted.null * is_indel
        if len(block) >= _BLOCK_RECORDS or alleles >= _BLOCK_ALLELES:
            yield block
            block, alleles = [], 0
    if block:
        yield block


@contextmanager
def _kept(output: str | Path, plan: dict[str, Any] | None, compute: Compute) -> Iterator[tuple[Compute, int]]:
    """`compute`, to be called with one block after the other; those that an earlier run has kept are read.

    Yields:
      It, and how many records were kept.
    """
    if plan is None:
        yield compute, 0
        return
    with Parts(output, plan) as parts:
        earlier = iter(parts)

        def numbers(block: ReadBlock) -> np.ndarray:
            rows = next(earlier, None)
            if rows is not None:
                return rows.values
            found = compute(block)
            counts = [sum(isinstance(change, Change) for change in changes) for _, changes in block]
            parts.add(Rows([], np.array(counts, np.int64), found), np.empty((len(block), 0)))
            return found

        try:
            yield numbers, parts.sequences
        except KeyboardInterrupt:
            if not parts.sequences:
                raise
            raise KeyboardInterrupt(
                f"{parts.sequences:,} records are done and kept; the same command goes on"
            ) from None


def _plan(
    model: Pretrained, files: VariantFiles, wanted: Wanted, unigram: np.ndarray | None
) -> dict[str, Any] | None:
    """All that the numbers depend on; None where the input can be read but once, or the output is a pipe."""
    read = file_states([files.input, files.genome])
    if read is None or is_standard_input(files.output):
        return None
    options = asdict(wanted)
    del options["batch_size"]
    return {
        "version": __version__,
        "input": read,
        "model": model.fingerprint,
        "unigram": None if unigram is None else hashlib.sha256(unigram).hexdigest(),
        **options,
    }


def _with_values(block: ReadBlock, numbers: np.ndarray) -> Block:
    values = iter(numbers)

    def allele(change: Change | Reason) -> Allele:
        return Allele(next(values), None) if isinstance(change, Change) else Allele(None, change)

    return [(record, [allele(change) for change in found]) for record, found in block]
