"""Writes the records of one split: records in, ArrayRecord shards and their index out."""

from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from dnabert2_jax.data.layout import Shard, SplitIndex, shard_name, write_index
from dnabert2_jax.data.records import STRANDS, CorpusRecord, encode_record
from dnabert2_jax.files import sha256_file

# One record per group, since records are read alone and at random; compression would save 14 % of the space
# and double the time of a read.
_OPTIONS = "group_size:1,uncompressed"


class SplitWriter:
    """Fills one shard after another.

    Args:
      folder: the corpus folder.
      split: names the files.
      shard_bytes: a new shard begins once one has this many bytes.
    """

    def __init__(self, folder: Path, split: str, shard_bytes: int):
        self._folder = folder
        self._split = split
        self._shard_bytes = shard_bytes
        self._shards: list[Shard] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._writer: ArrayRecordWriter | None = None
        self._bytes = self._records = self._tokens = 0

    def write(self, record: CorpusRecord, species: int, region: int) -> None:
        """Appends a record; `species` and `region` are what the index says of it."""
        writer = self._writer or self._open_shard()
        data = encode_record(record)
        writer.write(data)
        self._bytes += len(data)
        self._records += 1
        self._tokens += record.tokens.size
        self._rows.append((record.tokens.size, species, STRANDS.index(record.strand), region))
        if self._bytes >= self._shard_bytes:
            self._finish_shard()

    def close(self) -> list[Shard]:
        """Finishes the last shard, writes the index, and returns what was written."""
        self._finish_shard()
        columns = np.array(self._rows, np.int64).reshape(-1, 4).T
        write_index(self._folder, self._split, SplitIndex(*columns))
        return self._shards

    def _open_shard(self) -> ArrayRecordWriter:
        path = self._folder / shard_name(self._split, len(self._shards))
        self._writer = ArrayRecordWriter(str(path), _OPTIONS)
        return self._writer

    def _finish_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        name = shard_name(self._split, len(self._shards))
        checksum = sha256_file(self._folder / name)
        self._shards.append(Shard(file=name, sha256=checksum, records=self._records, tokens=self._tokens))
        self._bytes = self._records = self._tokens = 0
