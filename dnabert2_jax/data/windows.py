"""What pre-training reads: a corpus, a seed and a step come in, a batch of token windows comes out.

Batches are looked up, not drawn: step t of a run is a pure function of (seed, corpus, t), whatever was read
before and on however many hosts. Grain runs ahead of the training loop in threads.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.permutation import mix, permute
from dnabert2_jax.data.records import CorpusRecord
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, PAD_ID, SEP_ID

_ORDER, _SHIFT = 0, 1  # what a hash is for: the order of an epoch's windows, or a record's shift


class WindowSource:
    """The batches of a run, by step: a random access source in Grain's sense.

    A record of n tokens gives max(1, n // (length - 2)) windows that do not overlap; the tokens left over
    shift where the first begins, by an amount that is drawn anew for each epoch and record. An epoch has
    every window of every record (both strands) once, in a pseudo-random order. Step t takes the windows at
    the places t x batch_size … of the endless row of epochs.

    Args:
      corpus: the corpus.
      split: "train" or "validation".
      batch_size: B, rows of the whole batch over all hosts.
      length: S, tokens of a row with [CLS] and [SEP]; at least 3.
      seed: names the order.
      steps: how many there are.
      rows: the rows [start, stop) of each batch that this host reads; all by default. The hosts' parts make
        up the batch that one host would read.
      soft_mask: whether batches say which bases the FASTA file had in lower case.

    Raises:
      UserError: the split has no records, or `length` or `batch_size` is too small.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str = "train",
        *,
        batch_size: int,
        length: int,
        seed: int,
        steps: int,
        rows: tuple[int, int] | None = None,
        soft_mask: bool = False,
    ):
        _check_length(length)
        if batch_size < 1:
            raise UserError(f"a batch needs at least one row, not {batch_size}; raise the batch size")
        start, stop = rows or (0, batch_size)
        if not 0 <= start < stop <= batch_size:
            raise ValueError(f"rows {start} to {stop} are not rows of a batch of {batch_size}")
        self._corpus, self._split = corpus, split
        self._batch_size, self._length = batch_size, length
        self._seed, self._steps = seed, steps
        self._rows = np.arange(start, stop)
        self._soft_mask = soft_mask
        self._tokens = corpus.indices[split].tokens
        if not self._tokens.size:
            raise UserError(f"{corpus.folder}: the {split} split has no records; build a larger corpus")
        self._last_windows = np.cumsum(_windows_per_record(self._tokens, length))

    def __len__(self) -> int:
        return self._steps

    def __repr__(self) -> str:
        return (
            f"WindowSource({self._corpus.folder}, {self._split}, batch_size={self._batch_size}, "
            f"length={self._length}, seed={self._seed}, steps={self._steps})"
        )

    @property
    def windows_per_epoch(self) -> int:
        """How many windows an epoch has."""
        return int(self._last_windows[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """This host's rows of the batch of step `index`.

        Returns:
          `input_ids` int32 [rows, S]: [CLS], up to S - 2 tokens, [SEP], and [PAD] after a short record;
          `attention_mask` int32 [rows, S]: 0 at padding; and if asked for `soft_mask` uint8 [rows, S]: the
          share of each token that was in lower case, 255 for all.

        Raises:
          UserError: a shard is damaged.
        """
        records, starts = self._plan(int(index))
        unique, which = np.unique(records, return_inverse=True)
        found = self._corpus.read(self._split, unique)
        rows = [(found[place], start) for place, start in zip(which.tolist(), starts.tolist(), strict=True)]
        input_ids, attention_mask = _rows_of_tokens(rows, self._length)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._soft_mask:
            batch["soft_mask"] = _rows_of_soft_mask(rows, self._length)
        return batch

    def _plan(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        # For each row its record and the first token of its window there.
        epoch, place = np.divmod(step * self._batch_size + self._rows, self.windows_per_epoch)
        window = permute(place, self.windows_per_epoch, mix(self._seed, _ORDER, epoch))
        record = np.searchsorted(self._last_windows, window, side="right")
        tokens = self._tokens[record].astype(np.int64)
        windows = _windows_per_record(tokens, self._length)
        number = window - (self._last_windows[record] - windows)
        leftover = np.maximum(0, tokens - windows * (self._length - 2))
        draw = mix(self._seed, _SHIFT, epoch, record)
        shift = (draw % (leftover + 1).astype(np.uint64)).astype(np.int64)
        return record, shift + number * (self._length - 2)


def window_batches(
    source: WindowSource, start_step: int = 0, *, threads: int = 2, prefetch: int = 4
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of `source` from `start_step` on, read ahead in threads.

    Args:
      source: the batches.
      start_step: the first step wanted.
      threads: how many batches are made at a time.
      prefetch: how many finished batches may wait.

    Raises:
      UserError: a shard is damaged (when its batch is due).
    """
    if start_step >= len(source):
        return iter(())
    # Grain imports JAX (it starts no device); whoever only reads a corpus is spared both.
    import grain

    steps = grain.MapDataset.source(source)[start_step:]
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)))


class ValidationWindows(NamedTuple):
    """Windows of held-out text.

    Attributes:
      input_ids: int32 [N, S].
      attention_mask: int32 [N, S], 0 at padding.
      species: int32 [N], place in the metadata's list of species.
      region: int32 [N], place in the metadata's list of validation regions.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    species: np.ndarray
    region: np.ndarray


def validation_windows(corpus: Corpus, *, length: int, limit: int) -> ValidationWindows:
    """Windows of the validation split: always the same, in the order of the corpus.

    Where there are more than `limit`, species get equal parts as far as their windows reach, within a species
    its regions do, and within a region the windows taken lie evenly.

    Args:
      corpus: the corpus.
      length: S, tokens of a row with [CLS] and [SEP]; at least 3.
      limit: how many windows at most.

    Raises:
      UserError: `length` or `limit` is too small, the split has no records, or a shard is damaged.
    """
    _check_length(length)
    if limit < 1:
        raise UserError(f"validation needs at least one window, not {limit}")
    index = corpus.indices["validation"]
    if not len(index):
        raise UserError(f"{corpus.folder}: the validation split has no records; build a larger corpus")
    windows = _windows_per_record(index.tokens, length)
    record = np.repeat(np.arange(len(index)), windows)
    number = np.arange(record.size) - np.repeat(np.cumsum(windows) - windows, windows)
    chosen = np.sort(_spread(index.species[record], index.region[record], limit))
    record, number = record[chosen], number[chosen]
    unique, which = np.unique(record, return_inverse=True)
    found = corpus.read("validation", unique)
    rows = [
        (found[place], start)
        for place, start in zip(which.tolist(), (number * (length - 2)).tolist(), strict=True)
    ]
    return ValidationWindows(*_rows_of_tokens(rows, length), index.species[record], index.region[record])


def _check_length(length: int) -> None:
    if length < 3:
        raise UserError(f"a window of {length} tokens has no room for [CLS], text and [SEP]; give at least 3")


def _windows_per_record(tokens: np.ndarray, length: int) -> np.ndarray:
    return np.maximum(1, tokens.astype(np.int64) // (length - 2))


def _rows_of_tokens(rows: list[tuple[CorpusRecord, int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    input_ids = np.full((len(rows), length), PAD_ID, np.int32)
    ends = np.empty(len(rows), np.int64)
    for i, (record, start) in enumerate(rows):
        tokens = record.tokens[start : start + length - 2]
        input_ids[i, 1 : tokens.size + 1] = tokens
        ends[i] = tokens.size + 1
    input_ids[:, 0] = CLS_ID
    input_ids[np.arange(len(rows)), ends] = SEP_ID
    return input_ids, (np.arange(length) <= ends[:, None]).astype(np.int32)


def _rows_of_soft_mask(rows: list[tuple[CorpusRecord, int]], length: int) -> np.ndarray:
    soft_mask = np.zeros((len(rows), length), np.uint8)
    for i, (record, start) in enumerate(rows):
        if record.soft_mask is not None:
            shares = record.soft_mask[start : start + length - 2]
            soft_mask[i, 1 : shares.size + 1] = shares
    return soft_mask


def _spread(species: np.ndarray, region: np.ndarray, limit: int) -> np.ndarray:
    # Places of at most `limit` windows, shared out among species, then regions, then evenly within.
    kinds, of_species = np.unique(species, return_counts=True)
    chosen = []
    for kind, wanted in zip(kinds, _share_out(limit, of_species), strict=True):
        regions, of_region = np.unique(region[species == kind], return_counts=True)
        for number, quota in zip(regions, _share_out(int(wanted), of_region), strict=True):
            places = np.flatnonzero((species == kind) & (region == number))
            chosen.append(places[(2 * np.arange(quota) + 1) * places.size // (2 * max(1, quota))])
    return np.concatenate(chosen)


def _share_out(total: int, capacities: np.ndarray) -> np.ndarray:
    """Equal parts of `total`, none above its capacity; what one cannot take goes to the others."""
    parts = np.zeros_like(capacities)
    total = min(total, int(capacities.sum()))
    while total:
        open_ones = np.flatnonzero(parts < capacities)
        each, rest = divmod(total, open_ones.size)
        if not each:
            # Too few for all: those that get one more lie evenly among the open ones.
            parts[open_ones[np.arange(rest) * open_ones.size // rest]] += 1
            break
        taken = np.minimum(capacities[open_ones] - parts[open_ones], each)
        parts[open_ones] += taken
        total -= int(taken.sum())
    return parts
