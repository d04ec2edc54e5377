"""A corpus on disk, opened for reading: a folder that `build_corpus` wrote comes in; records by number, their
index and counts go out.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from dnabert2_jax.data.layout import (
    SPLITS,
    TOKENIZER_FOLDER,
    CorpusMetadata,
    Shard,
    SplitIndex,
    read_index,
    read_metadata,
    read_unigram_counts,
)
from dnabert2_jax.data.records import CorpusRecord, decode_record
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

# Random reads: no read-ahead, and no threads of its own (callers overlap whole batches).
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_SEQUENTIAL_BATCH = 256


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus folder, opened; safe to read from several threads.

    Attributes:
      folder: where it lies.
      metadata: what `metadata.json` says.
      indices: for each split ("train", "validation") the index of its records.
      species_unigram_counts: [species, V] int64, how often each id occurs in a species' training text.
    """

    folder: Path
    metadata: CorpusMetadata
    indices: dict[str, SplitIndex]
    species_unigram_counts: np.ndarray
    _readers: dict[str, ArrayRecordReader] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Corpus":
        """Opens a corpus; shards are opened when they are first read.

        Raises:
          UserError: there is no corpus in `folder`, or its parts do not fit together.
        """
        folder = Path(folder)
        metadata = read_metadata(folder)
        indices = {split: read_index(folder, split) for split in SPLITS}
        for split, shards in metadata.splits.items():
            listed = sum(shard.records for shard in shards)
            if listed != len(indices[split]):
                raise UserError(
                    f"{folder}: the index of the {split} split has {len(indices[split])} records and the"
                    f" metadata {listed}; build the corpus again"
                )
        unigram_counts = read_unigram_counts(folder)
        if unigram_counts.shape != (len(metadata.species), metadata.vocab_size):
            raise UserError(f"{folder}: the unigram counts do not fit the vocabulary; build the corpus again")
        return cls(folder, metadata, indices, unigram_counts)

    def tokenizer(self) -> SequenceTokenizer:
        """The tokenizer that the corpus was built with, from its own copy.

        Raises:
          UserError: the copy is missing, damaged, or another one.
        """
        tokenizer = load_tokenizer(self.folder / TOKENIZER_FOLDER)
        if tokenizer.sha256 != self.metadata.tokenizer_sha256:
            raise UserError(
                f"{self.folder / TOKENIZER_FOLDER}: is not the tokenizer of this corpus;"
                " build the corpus again"
            )
        return tokenizer

    @cached_property
    def unigram_counts(self) -> np.ndarray:
        """[V] int64, how often each id occurs in the training split."""
        return self.species_unigram_counts.sum(axis=0)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 (hex) of text, vocabulary and weights: equal for two corpora that train alike."""
        parts: list[Any] = [self.metadata.tokenizer_sha256]
        for split in SPLITS:
            parts += [split, *(shard.sha256 for shard in self.metadata.splits[split])]
        parts += [[counts.species, counts.weight] for counts in self.metadata.species]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, split: str, record_ids: Sequence[int] | np.ndarray) -> list[CorpusRecord]:
        """Reads records by number, with one batched read per shard.

        Args:
          split: "train" or "validation".
          record_ids: [n], each in [0, number of records of the split); repeats are allowed.

        Returns:
          The records in the order of `record_ids`.

        Raises:
          UserError: a shard is missing or damaged.
        """
        ids = np.asarray(record_ids, np.int64)
        firsts = self._first_records[split]
        if ids.size and (ids.min() < 0 or ids.max() >= firsts[-1]):
            raise IndexError(f"the {split} split has {firsts[-1]} records")
        shard_of = np.searchsorted(firsts, ids, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        bounds = np.searchsorted(shard_of[order], np.arange(len(firsts)))
        records: list[Any] = [None] * ids.size
        for number, shard in enumerate(self.metadata.splits[split]):
            places = order[bounds[number] : bounds[number + 1]]
            if places.size:
                found = self._read_shard(shard, (ids[places] - firsts[number]).tolist())
                for place, record in zip(places.tolist(), found, strict=True):
                    records[place] = record
        return records

    def records(self, split: str) -> Iterator[CorpusRecord]:
        """All records of a split, in order.

        Raises:
          UserError: a shard is missing or damaged.
        """
        for shard in self.metadata.splits[split]:
            for start in range(0, shard.records, _SEQUENTIAL_BATCH):
                yield from self._read_shard(
                    shard, list(range(start, min(start + _SEQUENTIAL_BATCH, shard.records)))
                )

    @cached_property
    def _first_records(self) -> dict[str, np.ndarray]:
        return {
            split: np.cumsum([0, *(shard.records for shard in shards)])
            for split, shards in self.metadata.splits.items()
        }

    def _read_shard(self, shard: Shard, numbers: list[int]) -> list[CorpusRecord]:
        reader = self._readers.get(shard.file) or self._open_shard(shard)
        try:
            return [decode_record(data) for data in reader.read(numbers)]
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.folder / shard.file}: is damaged ({error}); build the corpus again"
            ) from error

    def _open_shard(self, shard: Shard) -> ArrayRecordReader:
        path = self.folder / shard.file
        if not path.is_file():
            raise UserError(f"{path}: is missing; build the corpus again")
        reader = ArrayRecordReader(str(path), _READER_OPTIONS)
        # A truncated file opens without complaint, as one of no records.
        if not reader.ok() or reader.num_records() != shard.records:
            raise UserError(
                f"{path}: holds {reader.num_records()} records where {shard.records} were written; "
                "build the corpus again"
            )
        return self._readers.setdefault(shard.file, reader)
