"""A file of sequences in, a file of results out: any number of them, resumed where an earlier run stopped."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dnabert2_jax import __version__
from dnabert2_jax.data.pairs import read_examples
from dnabert2_jax.data.places import read_regions, read_windows
from dnabert2_jax.data.sequences import Entry
from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.answers import Answer, Running
from dnabert2_jax.inference.consistency import (
    AnswerKind,
    StrandConsistency,
    compare_strands,
    summarise_strands,
)
from dnabert2_jax.inference.engine import Named
from dnabert2_jax.inference.output import Layout, check_output, write_results
from dnabert2_jax.inference.parts import Parts, file_states
from dnabert2_jax.inference.pooling import Pooling
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.result_rows import RowKind, place_columns, rows_of


@dataclass(frozen=True)
class Files:
    """What is read and written.

    Attributes:
      input: FASTA or a table, or BED with `genome`, or "-" for standard input.
      output: see `write_results`.
      shard, num_shards: record i of the input, counted from 0, is taken if i modulo `num_shards` is `shard`.
      genome: a FASTA file, plain or bgzip, which the regions of a BED file are cut out of.
      windows: so many bases are a window; the records of a FASTA file are cut into them.
      step: bases from one window's start to the next one's.

    Raises:
      UserError: there is no such shard, the output would overwrite the input, or the rest does not go
        together.
    """

    input: str | Path
    output: str | Path
    shard: int = 0
    num_shards: int = 1
    genome: str | Path | None = None
    windows: int | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        if self.genome is not None and self.windows is not None:
            raise UserError(
                "--genome is for the regions of a BED file, and --windows for FASTA; give one of them"
            )
        if self.step is not None and self.windows is None:
            raise UserError("--step is of --windows; give that too")
        if not 0 <= self.shard < self.num_shards:
            raise UserError(
                f"--shard is {self.shard}; of {self.num_shards} it must be 0 to {self.num_shards - 1}"
            )
        for source in filter(None, (self.input, self.genome)):
            exist = all(map(os.path.exists, (source, self.output)))
            if exist and os.path.samefile(source, self.output):
                raise UserError(f"{self.output}: is the input, which it would overwrite; name another output")

    @property
    def has_places(self) -> bool:
        """Whether sequences are cut out of a genome, so that it is known where they lie."""
        return self.genome is not None or self.windows is not None

    def entries(self) -> Iterator[Entry]:
        """What there is to do in this shard."""
        if self.genome is not None:
            entries = read_regions(self.input, self.genome)
        elif self.windows is not None:
            entries = read_windows(self.input, self.windows, self.step or self.windows)
        else:
            entries = read_examples(self.input)
        return islice(entries, self.shard, None, self.num_shards)


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the results, evenly spread over the input.

    Attributes:
      values: float32 [m, k].
      labels: m times what the input's column `label` holds; None where it has none.
    """

    values: np.ndarray
    labels: list[str | None]


@dataclass(frozen=True)
class Outcome:
    """What was written.

    Attributes:
      sequences: how many, of which `kept` came from an earlier run.
      rows, columns: of numbers.
      consistency: of the two strands, where both were computed.
      sample: some of the sequences' vectors, where asked for.
    """

    sequences: int
    kept: int
    rows: int
    columns: int
    consistency: StrandConsistency | None
    sample: Sample | None


def embed_file(
    model: Pretrained,
    files: Files,
    pooling: Pooling,
    running: Running,
    progress: Callable[[int], object],
    sample: int = 0,
) -> Outcome:
    """Writes the embeddings of all sequences of a file.

    With pooling "token" a row has besides the sequence's name `token`, its text, and `start` and `end`: the
    letters that it stands for, 0-based and half open. With "nucleotide" it has `position`, 0-based, and
    `base`. Where sequences are cut out of a genome, a row has `contig` and `strand` too, positions are those
    of the contig, and a sequence's row has its `start` and `end`.

    Args:
      model: to embed with.
      files: what is read and written.
      pooling, running: as in `Pretrained.embed`.
      progress: is told of each block how many sequences are done; first of those that were kept.
      sample: how many of the sequences' vectors to give back, at most; none of tokens and bases.

    Raises:
      UserError: as in `Pretrained.embed`, `read_examples` and `write_results`; another run writes there.
      KeyboardInterrupt: with what was kept, where someone interrupts.
    """
    kind: RowKind = "sequence"
    if pooling == "token" or pooling == "nucleotide":
        kind = pooling
    columns = [f"d{number}" for number in range(model.description.architecture.hidden_size)]
    layout = Layout(columns, place_columns(kind, files.has_places))
    job = _Job(model, files, layout, kind, pooling, "vectors", running, sample)
    return job.run(lambda examples: model.embed_blocks(examples, pooling, running), progress)


def predict_file(
    model: Pretrained, files: Files, running: Running, progress: Callable[[int], object]
) -> Outcome:
    """Writes what a fine-tuned model predicts of all sequences of a file.

    Args:
      model: to predict with.
      files, running, progress: as in `embed_file`.

    Raises:
      UserError: as in `Pretrained.predict`, `read_examples` and `write_results`; another run writes there.
      KeyboardInterrupt: with what was kept, where someone interrupts.
    """
    is_value = model.description.problem == "regression" and len(model.class_names) == 1
    scored = model.prediction_kind != "numbers"
    places = place_columns("sequence", files.has_places)
    layout = Layout(("value",) if is_value else model.class_names, places, scored)
    job = _Job(model, files, layout, "sequence", "predict", model.prediction_kind, running)
    return job.run(lambda examples: model.predict_blocks(examples, running), progress)


@dataclass(frozen=True)
class _Job:
    model: Pretrained
    files: Files
    layout: Layout
    rows: RowKind
    task: str
    answers: AnswerKind
    running: Running
    sample: int = 0

    def run(
        self, answer: Callable[[Iterable[Named]], Iterator[list[Answer]]], progress: Callable[[int], object]
    ) -> Outcome:
        check_output(self.files.output, self.layout)
        both = self.running.reverse_complement
        plan = self._plan()
        # What the engine need not know of the examples; it gives them back in their order.
        waiting: deque[Entry] = deque()

        def examples(kept: int) -> Iterator[Named]:
            for entry in islice(self.files.entries(), kept, None):
                waiting.append(entry)
                yield entry.name, entry.example

        with Parts(self.files.output, plan) as parts:
            kept = parts.sequences
            progress(kept)
            try:
                for block in answer(examples(kept)):
                    strands = [found.strands for found in block]
                    measures = compare_strands(self.answers, strands) if both else np.empty((len(block), 0))
                    entries = [waiting.popleft() for _ in block]
                    parts.add(rows_of(block, entries, self.rows, self.model.tokenizer), measures)
                    progress(len(block))
                write_results(self.files.output, parts, self.layout)
            except KeyboardInterrupt:
                if plan is None or not parts.sequences:
                    raise
                raise KeyboardInterrupt(
                    f"{parts.sequences:,} sequences are done and kept; the same command goes on"
                ) from None
            consistency = summarise_strands(self.answers, parts.measures()) if both else None
            sample = _sample(parts, self.sample) if self.sample and self.rows == "sequence" else None
            return Outcome(parts.sequences, kept, parts.rows, len(self.layout.columns), consistency, sample)

    def _plan(self) -> dict[str, Any] | None:
        """All that results depend on; None where the input can be read but once."""
        read = file_states([self.files.input, *filter(None, [self.files.genome])])
        if read is None:
            return None
        running = asdict(self.running)
        del running["batch_size"]
        return {
            "version": __version__,
            "input": read,
            "windows": [self.files.windows, self.files.step],
            "shard": [self.files.shard, self.files.num_shards],
            "model": self.model.fingerprint,
            "task": self.task,
            **running,
        }


def _sample(parts: Parts, most: int) -> Sample:
    stride = -(-parts.sequences // most)
    values: list[np.ndarray] = []
    labels: list[str | None] = []
    first = 0  # of the block's rows, counted from its beginning
    for rows in parts:
        values.append(rows.values[first::stride])
        labels += rows.labels[first::stride]
        first = (first - len(rows.names)) % stride
    return Sample(np.concatenate(values) if values else np.zeros((0, 0), np.float32), labels)
