"""Builds a corpus: genomes and a tokenizer in, a corpus folder that appears whole or not at all out.

Contigs are cut into stretches of A, C, G and T, never across the border of a validation region (the rule is
in `holdout`), and both strands of each are tokenised. The work is done in units (see `corpus_plan`), which
are kept in OUTPUT.partial: the same command goes on where it was interrupted, and several machines may each
do a part. The bytes are the same however often, on however many machines, and with however many threads.
"""

import functools
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from dnabert2_jax.data.corpus_plan import CorpusPlan, make_plan
from dnabert2_jax.data.inputs import CorpusInput, as_inputs
from dnabert2_jax.data.layout import (
    FORMAT,
    SPLITS,
    TOKENIZER_FOLDER,
    BuildSettings,
    CorpusMetadata,
    Holdout,
    Shard,
    SplitIndex,
    write_index,
    write_metadata,
    write_unigram_counts,
)
from dnabert2_jax.data.tokenise import tokenise
from dnabert2_jax.data.unit_files import UnitFolder
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import (
    atomic_file,
    folder_lock,
    put_in_place,
    refuse_existing,
    room_to_write,
    sync_folder,
)
from dnabert2_jax.genome.fasta import Chunk, Stretch, StretchCounts
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.vocabulary import LARGEST_VOCABULARY

type Inputs = Sequence[CorpusInput | tuple[str, str | os.PathLike]]
"""Files, or pairs of species and FASTA file; the order is kept."""

Progress = Callable[[int, int], None]
"""Called now and then with the bases done and the bases in all."""

_BATCH_BASES = 144_000


class BuildOptions(TypedDict, total=False):
    """The settings that `layout.BuildSettings` explains, as keywords."""

    validation_share: float
    holdout: Holdout
    holdout_contigs: tuple[str, ...]
    region_bases: int
    minimum_bases: int
    stretch_bases: int
    max_bases_per_species: int | None
    drop_impure_lines: bool
    unit_bases: int


def build_corpus(
    inputs: Inputs,
    tokenizer_folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    **options: Unpack[BuildOptions],
) -> CorpusMetadata:
    """Tokenises genomes and writes a corpus folder, going on from what OUTPUT.partial holds.

    Args:
      inputs: the files.
      tokenizer_folder: a tokenizer or model folder; a copy goes into the corpus.
      output: the folder to make; must not exist, or be empty.
      workers: threads that tokenise; the result does not depend on it.
      progress: called with the bases done and the bases in all.
      **options: see `layout.BuildSettings`.

    Returns:
      The metadata, as written.

    Raises:
      UserError: a file or setting is wrong, `output` exists, no text is left for a split, the disk is full,
        or OUTPUT.partial is of another build.
    """
    with _building(inputs, tokenizer_folder, output, options) as build:
        build.do_units(set(range(build.plan.number_of_units)), workers, progress)
        return build.assemble(Path(output))


def build_corpus_part(
    inputs: Inputs,
    tokenizer_folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    part: int,
    parts: int,
    workers: int = 1,
    progress: Progress | None = None,
    **options: Unpack[BuildOptions],
) -> tuple[int, int]:
    """Does every `parts`-th unit of a corpus, from number `part` on, and leaves them in OUTPUT.partial.

    The parts may run at the same time, on machines that share the folder or on others whose OUTPUT.partial
    folders are then copied into one. `build_corpus` with the same inputs does what is missing and ends the
    build.

    Args:
      part: 0 to `parts` - 1.
      parts: how many there are.
      inputs, tokenizer_folder, output, workers, progress, **options: as of `build_corpus`.

    Returns:
      How many units OUTPUT.partial has now, and how many there are.

    Raises:
      UserError: as `build_corpus` does.
    """
    if not 0 <= part < parts:
        raise UserError(f"there is no part {part} of {parts}; parts are numbered 0 to {parts - 1}")
    with _building(inputs, tokenizer_folder, output, options, shared=True) as build:
        build.do_units(set(range(part, build.plan.number_of_units, parts)), workers, progress)
        return len(build.units.done()), build.plan.number_of_units


@contextmanager
def _building(
    inputs: Inputs,
    tokenizer_folder: str | os.PathLike,
    output: str | os.PathLike,
    options: BuildOptions,
    *,
    shared: bool = False,
) -> Iterator["_Build"]:
    output = Path(output)
    refuse_existing(output)
    tokenizer = load_tokenizer(tokenizer_folder)
    settings = BuildSettings(**options)
    _check_tokenizer(tokenizer, tokenizer_folder, settings.minimum_bases)
    plan = make_plan(as_inputs(inputs), tokenizer.sha256, settings)
    partial = output.with_name(output.name + ".partial")
    is_new = not partial.exists()
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{partial}: cannot be written: {error.strerror}") from error
    with folder_lock(partial, shared=shared), room_to_write(partial):
        units = UnitFolder(partial / "units", partial / "corpus")
        try:
            refuse_existing(output)  # again: another process may have built it while this one planned
            _claim(partial, plan)
            yield _Build(plan, tokenizer, partial, units)
        finally:
            if is_new and not shared and partial.exists() and not units.done():
                shutil.rmtree(partial)


def _check_tokenizer(tokenizer: SequenceTokenizer, folder: str | os.PathLike, minimum_bases: int) -> None:
    if tokenizer.vocab_size > LARGEST_VOCABULARY:
        raise UserError(
            f"{folder}: has {tokenizer.vocab_size} tokens; a corpus can store {LARGEST_VOCABULARY}"
        )
    if not tokenizer.encode_bases(np.full(max(1, minimum_bases), ord("A"), np.uint8)).size:
        raise UserError(f"{folder}: gives no token for a run of {minimum_bases} bases; keep longer runs only")


def _claim(partial: Path, plan: CorpusPlan) -> None:
    path = partial / "plan.json"
    if not path.exists():
        with atomic_file(path) as file:
            file.write(plan.describe())
    elif path.read_bytes() != plan.describe():
        raise UserError(
            f"{partial}: holds what was done of a build with other inputs or settings;"
            " remove it, or give the same ones"
        )


@dataclass(frozen=True)
class _Build:
    """A build under way in the folder `partial`."""

    plan: CorpusPlan
    tokenizer: SequenceTokenizer
    partial: Path
    units: UnitFolder

    def do_units(self, wanted: set[int], workers: int, progress: Progress | None) -> None:
        """Makes those of the units that are not done yet."""
        missing = wanted - self.units.done()
        with ThreadPoolExecutor(workers) as executor:
            for number in sorted({self.plan.input_of(unit) for unit in missing}):
                self._read_input(number, missing, executor, 4 * workers, progress)

    def _read_input(
        self,
        number: int,
        wanted: set[int],
        executor: ThreadPoolExecutor,
        ahead: int,
        progress: Progress | None,
    ) -> None:
        plan, species = self.plan, self.plan.inputs[number].species
        done = sum(scan.extent for scan in plan.scans[:number])
        counts = StretchCounts()
        chunks = _watched(plan.chunks(number), progress, done, plan.bases)
        batches = _batches(plan, species, wanted, plan.stretches(number, chunks, counts))
        work = functools.partial(tokenise, species, self.tokenizer)
        results = _in_order(executor, lambda batch: work(batch.stretches), batches, ahead=ahead)
        pending = sorted(unit for unit in wanted if plan.input_of(unit) == number)
        result = next(results, None)
        for unit in pending:
            with self.units.writer(unit, plan.species.index(species), self.tokenizer.vocab_size) as writer:
                while result is not None and result[0].unit == unit:
                    batch, tokenised = result
                    writer.write("train" if batch.regions[0] < 0 else "validation", tokenised, batch.regions)
                    result = next(results, None)
        self.units.write_counts(number, counts)

    def assemble(self, output: Path) -> CorpusMetadata:
        """Makes the corpus of the units, which must all be done."""
        plan, folder = self.plan, self.partial / "corpus"
        stretch_counts = [self._stretch_counts(number) for number in range(len(plan.inputs))]
        species = plan.count(stretch_counts)
        unigram_counts = np.zeros((len(species), self.tokenizer.vocab_size), np.int64)
        shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        indices: dict[str, list[SplitIndex]] = {split: [] for split in SPLITS}
        for unit in range(plan.number_of_units):
            files, unit_indices, unit_unigram_counts = self.units.read(unit)
            place = plan.species.index(plan.inputs[plan.input_of(unit)].species)
            unigram_counts[place] += unit_unigram_counts
            counts = species[place]
            counts.train_bases += files.bases["train"]
            counts.validation_bases += files.bases["validation"]
            for split, shard in files.shards.items():
                shards[split].append(shard)
                indices[split].append(unit_indices[split])
            counts.train_tokens += int(unit_indices["train"].tokens.sum())
            counts.validation_tokens += int(unit_indices["validation"].tokens.sum())
        self._check_not_empty(shards)
        for split in SPLITS:
            write_index(folder, split, SplitIndex.join(indices[split]))
        write_unigram_counts(folder, unigram_counts)
        self.tokenizer.save(folder / TOKENIZER_FOLDER)
        metadata = CorpusMetadata(
            format=FORMAT,
            tokenizer_sha256=self.tokenizer.sha256,
            vocab_size=self.tokenizer.vocab_size,
            settings=plan.settings,
            inputs=plan.files,
            species=species,
            splits=shards,
            validation_regions=plan.regions,
        )
        write_metadata(folder, metadata)
        sync_folder(folder)
        put_in_place(folder, output)
        shutil.rmtree(self.partial)
        return metadata

    def _stretch_counts(self, number: int) -> StretchCounts:
        counts = self.units.read_counts(number)
        if counts is None:  # its units were done in parts, none of which came to the end of the file
            counts = StretchCounts()
            for _ in self.plan.stretches(number, self.plan.chunks(number), counts):
                pass
        return counts

    def _check_not_empty(self, shards: dict[str, list[Shard]]) -> None:
        for split in SPLITS:
            if not shards[split]:
                shutil.rmtree(self.partial)
                raise UserError(
                    f"no text is left for the {split} split (runs of A, C, G, T of at least"
                    f" {self.plan.settings.minimum_bases} bases); give more sequence, or lower the minimum"
                )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Stretches that are tokenised together: of one unit, and of one split."""

    unit: int
    stretches: list[Stretch]
    regions: list[int]


def _batches(
    plan: CorpusPlan, species: str, wanted: set[int], stretches: Iterable[tuple[int, Stretch]]
) -> Iterator[_Batch]:
    batch = _Batch(-1, [], [])
    bases = 0
    for unit, stretch in stretches:
        if unit not in wanted:
            continue
        end = stretch.start + stretch.bases.size
        region = plan.region_map.touched(species, stretch.contig, stretch.start, end)
        follows = unit == batch.unit and (region < 0) == (batch.regions[-1] < 0)
        if not follows or bases >= _BATCH_BASES:
            if batch.stretches:
                yield batch
            batch, bases = _Batch(unit, [], []), 0
        batch.stretches.append(stretch)
        batch.regions.append(region)
        bases += stretch.bases.size
    if batch.stretches:
        yield batch


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
