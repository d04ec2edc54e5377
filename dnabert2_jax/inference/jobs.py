"""A file of sequences in, a file of results out: any number of them, resumed where an earlier run stopped."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dnabert2_jax import __version__
from dnabert2_jax.data.pairs import read_examples
from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.answers import Answer, Running
from dnabert2_jax.inference.consistency import (
    AnswerKind,
    StrandConsistency,
    compare_strands,
    summarise_strands,
)
from dnabert2_jax.inference.encoding import letters_of, token_spans
from dnabert2_jax.inference.engine import Named
from dnabert2_jax.inference.output import Layout, Rows, check_output, write_results
from dnabert2_jax.inference.parts import Parts
from dnabert2_jax.inference.pooling import Pooling
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

type RowKind = Literal["sequence", "token", "nucleotide"]

_PLACES = {
    "sequence": {},
    "token": {"token": "U", "start": np.int64, "end": np.int64},
    "nucleotide": {"position": np.int64, "base": "U1"},
}


@dataclass(frozen=True)
class Files:
    """What is read and written.

    Attributes:
      input: FASTA or a table, or "-" for standard input.
      output: see `write_results`.
      shard, num_shards: record i of the input, counted from 0, is taken if i modulo `num_shards` is `shard`.

    Raises:
      UserError: there is no such shard, or the output would overwrite the input.
    """

    input: str | Path
    output: str | Path
    shard: int = 0
    num_shards: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shard < self.num_shards:
            raise UserError(
                f"--shard is {self.shard}; of {self.num_shards} it must be 0 to {self.num_shards - 1}"
            )
        if all(map(os.path.exists, (self.input, self.output))) and os.path.samefile(self.input, self.output):
            raise UserError(f"{self.output}: is the input, which it would overwrite; name another output")


@dataclass(frozen=True)
class Outcome:
    """What was written.

    Attributes:
      sequences: how many, of which `kept` came from an earlier run.
      rows, columns: of numbers.
      consistency: of the two strands, where both were computed.
    """

    sequences: int
    kept: int
    rows: int
    columns: int
    consistency: StrandConsistency | None


def embed_file(
    model: Pretrained, files: Files, pooling: Pooling, running: Running, progress: Callable[[int], object]
) -> Outcome:
    """Writes the embeddings of all sequences of a file.

    With pooling "token" a row has besides the sequence's name `token`, its text, and `start` and `end`: the
    letters that it stands for, 0-based and half open. With "nucleotide" it has `position`, 0-based, and
    `base`.

    Args:
      model: to embed with.
      files: what is read and written.
      pooling, running: as in `Pretrained.embed`.
      progress: is told of each block how many sequences are done; first of those that were kept.

    Raises:
      UserError: as in `Pretrained.embed`, `read_examples` and `write_results`; another run writes there.
      KeyboardInterrupt: with what was kept, where someone interrupts.
    """
    kind: RowKind = "sequence"
    if pooling == "token" or pooling == "nucleotide":
        kind = pooling
    columns = [f"d{number}" for number in range(model.description.architecture.hidden_size)]
    layout = Layout(columns, _PLACES[kind])
    job = _Job(model, files, layout, kind, pooling, "vectors", running)
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
    layout = Layout(("value",) if is_value else model.class_names)
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

    def run(
        self, answer: Callable[[Iterable[Named]], Iterator[list[Answer]]], progress: Callable[[int], object]
    ) -> Outcome:
        check_output(self.files.output)
        both = self.running.reverse_complement
        plan = self._plan()
        with Parts(self.files.output, plan) as parts:
            kept = parts.sequences
            progress(kept)
            try:
                for block in answer(islice(self._examples(), kept, None)):
                    strands = [found.strands for found in block]
                    measures = compare_strands(self.answers, strands) if both else np.empty((len(block), 0))
                    parts.add(_rows_of(block, self.rows, self.model.tokenizer), measures)
                    progress(len(block))
                write_results(self.files.output, parts, self.layout)
            except KeyboardInterrupt:
                if plan is None or not parts.sequences:
                    raise
                raise KeyboardInterrupt(
                    f"{parts.sequences:,} sequences are done and kept; the same command goes on"
                ) from None
            consistency = summarise_strands(self.answers, parts.measures()) if both else None
            return Outcome(parts.sequences, kept, parts.rows, len(self.layout.columns), consistency)

    def _examples(self) -> Iterator[Named]:
        return islice(read_examples(self.files.input), self.files.shard, None, self.files.num_shards)

    def _plan(self) -> dict[str, Any] | None:
        """All that results depend on; None where the input can be read but once."""
        try:
            status = os.stat(self.files.input)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        running = asdict(self.running)
        del running["batch_size"]
        return {
            "version": __version__,
            "input": [str(Path(self.files.input).resolve()), status.st_size, status.st_mtime_ns],
            "shard": [self.files.shard, self.files.num_shards],
            "model": self.model.fingerprint,
            "task": self.task,
            **running,
        }


def _rows_of(answers: list[Answer], kind: RowKind, tokenizer: SequenceTokenizer) -> Rows:
    """Answers as rows of a file."""
    names = [answer.name for answer in answers]
    if kind == "sequence":
        return Rows(names, np.ones(len(names), np.int64), np.stack([answer.values for answer in answers]))
    values = np.concatenate([answer.values for answer in answers])
    counts = np.array([len(answer.values) for answer in answers], np.int64)
    if kind == "nucleotide":
        letters = "".join([letters_of(str(answer.example)) for answer in answers])
        places = {
            "position": np.concatenate([np.arange(count) for count in counts]),
            "base": np.frombuffer(letters.encode("ascii", "replace"), "S1").astype("U1"),
        }
        return Rows(names, counts, values, places)
    spans = [token_spans(tokenizer, answer.ids[1:-1]) for answer in answers]
    places = {
        "token": np.array(tokenizer.tokens)[np.concatenate([answer.ids[1:-1] for answer in answers])],
        "start": np.concatenate([starts for starts, _ in spans]),
        "end": np.concatenate([ends for _, ends in spans]),
    }
    return Rows(names, counts, values, places)
