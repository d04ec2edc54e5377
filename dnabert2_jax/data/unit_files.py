"""The files of a corpus that is being built: tokenised stretches in, one shard of each split a unit out.

A unit appears whole or not at all. Its shards go where the corpus grows, and then, as the mark that it is
done, a folder of its own appears, with the index of its records and its counts.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from dnabert2_jax.data.layout import SPLITS, Shard, SplitIndex, read_index, shard_name, write_index
from dnabert2_jax.data.tokenise import TokenisedStretches
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, room_to_write, sha256_file, sync_folder
from dnabert2_jax.genome.fasta import StretchCounts

# One record per group, since records are read alone and at random; compression would save 14 % of the space
# and double the time of a read.
_OPTIONS = "group_size:1,uncompressed"
_UNIT_FILE = "unit.json"
_UNIGRAM_FILE = "unigram.npy"


class UnitFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit holds: its shards and its bases, by split; a split without text has no shard."""

    shards: dict[str, Shard]
    bases: dict[str, int]


class UnitFolder:
    """Where units lie, of which some are done.

    Args:
      folder: of the units; made where it is missing.
      shards: the folder that their shards go into.
    """

    def __init__(self, folder: Path, shards: Path):
        folder.mkdir(exist_ok=True)
        shards.mkdir(exist_ok=True)
        self._folder, self._shards = folder, shards

    def done(self) -> set[int]:
        """The units that are done."""
        return {int(path.name) for path in self._folder.iterdir() if path.name.isdigit()}

    def read(self, unit: int) -> tuple[UnitFiles, dict[str, SplitIndex], np.ndarray]:
        """What a unit that is done holds: its files, the index of each split, and unigram counts [V].

        Raises:
          UserError: a file of it is missing or damaged.
        """
        folder = self._folder / f"{unit:05d}"
        try:
            files = msgspec.json.decode((folder / _UNIT_FILE).read_bytes(), type=UnitFiles)
            unigram_counts = np.load(folder / _UNIGRAM_FILE, allow_pickle=False)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise UserError(f"{folder}: is damaged ({error}); remove it and build again") from error
        for shard in files.shards.values():
            if not (self._shards / shard.file).is_file():
                raise UserError(
                    f"{self._shards / shard.file}: is missing;"
                    f" put it back, or remove {folder} and build again"
                )
        return files, {split: read_index(folder, split) for split in SPLITS}, unigram_counts

    def write_counts(self, number: int, counts: StretchCounts) -> None:
        """Keeps where the bases of an input went.

        Raises:
          UserError: the disk is full.
        """
        with atomic_file(self._counts_file(number)) as file:
            file.write(msgspec.json.encode(counts))

    def read_counts(self, number: int) -> StretchCounts | None:
        """Where the bases of an input went, or None where nobody has counted yet."""
        try:
            return msgspec.json.decode(self._counts_file(number).read_bytes(), type=StretchCounts)
        except FileNotFoundError:
            return None

    def writer(self, unit: int, species: int, vocab_size: int) -> "UnitWriter":
        """Begins a unit of the species at this place of the metadata's list."""
        return UnitWriter(self._folder, self._shards, unit, species, vocab_size)

    def _counts_file(self, number: int) -> Path:
        return self._folder / f"input-{number:05d}.json"


class UnitWriter:
    """Writes one unit; a context, at whose end the unit is done or, after an error, gone without a trace."""

    def __init__(self, folder: Path, shards: Path, unit: int, species: int, vocab_size: int):
        self._folder, self._shards = folder, shards
        self._unit, self._species = unit, species
        self._writers: dict[str, ArrayRecordWriter] = {}
        self._rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in SPLITS}
        self._bases: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._unigram_counts = np.zeros(vocab_size, np.int64)

    def __enter__(self) -> "UnitWriter":
        with room_to_write(self._folder):
            self._temporary = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                with room_to_write(self._folder):
                    self._finish()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def write(self, split: str, tokenised: TokenisedStretches, regions: Sequence[int]) -> None:
        """Appends records.

        Args:
          split: "train" or "validation".
          tokenised: the records.
          regions: for each stretch its validation region, or -1.

        Raises:
          UserError: the disk is full.
        """
        try:
            if split not in self._writers:
                self._writers[split] = ArrayRecordWriter(
                    str(self._temporary / f"{split}.arrayrecord"), _OPTIONS
                )
            for data in tokenised.records:
                self._writers[split].write(data)
        except RuntimeError as error:
            raise self._cannot_write(error) from error
        self._rows[split].append((tokenised.tokens, np.asarray(regions, np.int32)[tokenised.stretch]))
        self._bases[split] += tokenised.bases
        if split == "train":
            self._unigram_counts += tokenised.unigram_counts

    def _finish(self) -> None:
        shards: dict[str, Shard] = {}
        for split in SPLITS:
            index = self._index(split)
            write_index(self._temporary, split, index)
            if split in self._writers:
                shards[split] = self._finish_shard(split, index)
        np.save(self._temporary / _UNIGRAM_FILE, self._unigram_counts, allow_pickle=False)
        files = UnitFiles(shards=shards, bases=self._bases)
        (self._temporary / _UNIT_FILE).write_bytes(msgspec.json.encode(files))
        sync_folder(self._temporary)
        for split, shard in shards.items():
            (self._temporary / f"{split}.arrayrecord").replace(self._shards / shard.file)
        target = self._folder / f"{self._unit:05d}"
        if not target.exists():  # as when two were told to do the same part: both made the same bytes
            self._temporary.rename(target)

    def _index(self, split: str) -> SplitIndex:
        rows = self._rows[split]
        tokens, region = (
            np.concatenate([row[column] for row in rows]) if rows else np.empty(0, np.int32)
            for column in (0, 1)
        )
        strand = np.arange(tokens.size, dtype=np.int8) % 2
        return SplitIndex(tokens, np.full(tokens.size, self._species, np.int32), strand, region)

    def _finish_shard(self, split: str, index: SplitIndex) -> Shard:
        path = self._temporary / f"{split}.arrayrecord"
        try:
            self._writers[split].close()
        except RuntimeError as error:
            raise self._cannot_write(error) from error
        return Shard(
            file=shard_name(split, self._unit),
            sha256=sha256_file(path),
            records=len(index),
            tokens=int(index.tokens.sum()),
        )

    def _cannot_write(self, error: RuntimeError) -> UserError:
        # The library says it with the system's words first: "write() failed: No space left on device; …".
        reason = str(error).split(";")[0].removeprefix("write() failed: ")
        return UserError(f"{self._shards}: cannot be written: {reason}; free some space or write elsewhere")
