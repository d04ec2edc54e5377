"""What pre-training reads: a corpus, a seed and a step come in, a batch of token windows comes out.

Batches are looked up, not drawn: step t of a run is a pure function of (seed, corpus, t), whatever was read
before and on however many hosts. Grain runs ahead of the training loop in threads.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.packing import fill_rows
from dnabert2_jax.data.permutation import mix, permute
from dnabert2_jax.data.records import CorpusRecord
from dnabert2_jax.data.schedule import Schedule
from dnabert2_jax.data.species_weights import SpeciesWeights, species_shares
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, PAD_ID, SEP_ID

StrandChoice = Literal["both", "forward", "random"]
WindowChoice = Literal["dense", "first"]

_ORDER, _SHIFT, _STRAND = 0, 1, 2  # what a hash is for: the order of a pass, a record's shift, a strand


class WindowSource:
    """The batches of a run, by step: a random access source in Grain's sense.

    A record of n tokens gives max(1, n // (length - 2)) windows that do not overlap; the tokens left over
    shift where the first begins, by an amount that is drawn anew for each pass and record. A pass over a
    species has every window of every record once, in a pseudo-random order; with "proportional" weights all
    species are passed over as one, so that each window of the corpus comes once before any comes again. Step
    t takes the windows at the places t x batch_size … of the endless row of draws.

    Args:
      corpus: the corpus.
      split: "train" or "validation".
      batch_size: B, rows of the whole batch over all hosts.
      length: S, tokens of a row with [CLS] and [SEP]; at least 3.
      seed: names the order.
      steps: how many there are.
      species_weights: the rule of `species_weights` by which windows are shared out among species.
      strand: "both" has the windows of both strands' records; "forward" those of the forward strand;
        "random" those too, but half of them, drawn anew for each pass, are read off the other strand at the
        same place (to within a few bases: the strands' tokens differ).
      windows: "dense" as above; "first" takes the first length - 2 tokens of each record and never the rest.
        On a corpus of the released lines that is what the paper does: a third of each line is never read.
      rows: the numbers of the rows of each batch that this host reads; all by default. The hosts' parts make
        up the batch that one host would read.
      soft_mask: whether batches say which bases the FASTA file had in lower case.
      packing: puts records that are shorter than a window together into rows, each with its own [CLS] and
        [SEP] in a segment of its own. Such a row counts as one window; which records share it never changes.

    Raises:
      UserError: the split has no records, or a setting is out of range.
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
        species_weights: SpeciesWeights = "proportional",
        strand: StrandChoice = "both",
        windows: WindowChoice = "dense",
        rows: Sequence[int] | np.ndarray | None = None,
        soft_mask: bool = False,
        packing: bool = False,
    ):
        _check_length(length)
        if batch_size < 1:
            raise UserError(f"a batch needs at least one row, not {batch_size}; raise the batch size")
        _check_choice("strand", strand, ("both", "forward", "random"))
        _check_choice("windows", windows, ("dense", "first"))
        self._rows = np.arange(batch_size) if rows is None else np.asarray(rows)
        if not self._rows.size or self._rows.min() < 0 or self._rows.max() >= batch_size:
            raise ValueError(f"{rows} are not rows of a batch of {batch_size}")
        index = corpus.indices[split]
        if not len(index):
            raise UserError(f"{corpus.folder}: the {split} split has no records; build a larger corpus")
        self._corpus, self._split = corpus, split
        self._batch_size, self._length = batch_size, length
        self._seed, self._steps = seed, steps
        self._strand: StrandChoice = strand
        self._dense = windows == "dense"
        self._soft_mask = soft_mask
        self._tokens = index.tokens
        # Records stand in pairs, one for each strand: the forward one is first.
        records = np.arange(0, len(index), 1 if strand == "both" else 2)
        by_species = species_weights != "proportional"
        if by_species and split != "train":
            raise ValueError("species weights are for the training split")
        groups = [records]
        if by_species:
            records = records[np.argsort(index.species[records], kind="stable")]
            every = np.arange(1, len(corpus.metadata.species))
            groups = np.split(records, np.searchsorted(index.species[records], every))
        # Place i of the order holds the records self._members[self._begin[i] : self._begin[i + 1]].
        places = [
            self._pack(group) if packing else (group, np.ones(group.size, np.int64)) for group in groups
        ]
        self._members = np.concatenate([members for members, _ in places])
        sizes = np.concatenate([sizes for _, sizes in places])
        self._begin = np.append(0, np.cumsum(sizes))
        windows_of_places = self._windows_of(self._tokens[self._members[self._begin[:-1]]])
        self._last_windows = np.cumsum(windows_of_places)
        borders = np.append(0, np.cumsum([sizes.size for _, sizes in places]))
        first_windows = np.append(0, self._last_windows)[borders]
        self._first_of_group, self._windows_of_group = first_windows[:-1], np.diff(first_windows)
        self._schedule: Schedule | None = None
        if by_species:
            shares = species_shares(corpus.metadata, species_weights)
            self._schedule = Schedule(np.where(self._windows_of_group > 0, shares, 0.0), seed)

    def __len__(self) -> int:
        return self._steps

    def __repr__(self) -> str:
        return (
            f"WindowSource({self._corpus.folder}, {self._split}, batch_size={self._batch_size}, "
            f"length={self._length}, seed={self._seed}, steps={self._steps})"
        )

    @property
    def windows_per_epoch(self) -> int:
        """How many windows there are: what one pass over every species draws."""
        return int(self._last_windows[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """This host's rows of the batch of step `index`.

        Returns:
          `input_ids` int32 [rows, S]: [CLS], up to S - 2 tokens, [SEP], and [PAD] after a short record;
          `segment_ids` int32 [rows, S]: 1, where records are packed also 2 and so on, and 0 at padding; and
          if asked for `soft_mask` uint8 [rows, S]: the share of each token that was in lower case, 255 for
          all.

        Raises:
          UserError: a shard is damaged.
        """
        rows, records, starts = self._plan(int(index))
        unique, which = np.unique(records, return_inverse=True)
        found = self._corpus.read(self._split, unique)
        pieces = zip(rows.tolist(), which.tolist(), starts.tolist(), strict=True)
        return _fill_rows(
            [(row, found[place], start) for row, place, start in pieces],
            (len(self._rows), self._length),
            self._soft_mask,
        )

    def _pack(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The records in the order of the rows that they make up, and how many records each row has."""
        tokens = self._tokens[records]
        if self._strand == "random":
            tokens = np.maximum(tokens, self._tokens[records + 1])
        needed = tokens.astype(np.int64) + 2
        short = needed < self._length
        rows = [records[short][row] for row in fill_rows(needed[short], self._length)]
        sizes = np.append(np.ones(np.count_nonzero(~short), np.int64), [len(row) for row in rows])
        return np.concatenate([records[~short], *rows]), sizes.astype(np.int64)

    def _plan(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # For each piece its row, its record and the first token of its window there.
        draw = step * self._batch_size + self._rows
        group, number = self._schedule.look_up(draw) if self._schedule else (np.zeros_like(draw), draw)
        size = self._windows_of_group[group]
        epoch, place = np.divmod(number, size)
        window = self._first_of_group[group] + permute(place, size, mix(self._seed, _ORDER, group, epoch))
        position = np.searchsorted(self._last_windows, window, side="right")
        first, count = self._begin[position], self._begin[position + 1] - self._begin[position]
        record = self._members[first]
        start = np.zeros_like(record)
        if self._dense:
            windows = self._windows_of(self._tokens[record])
            within = window - (self._last_windows[position] - windows)
            leftover = self._room(record) - (windows - 1) * (self._length - 2)
            start = _below(leftover + 1, self._seed, _SHIFT, epoch, record) + within * (self._length - 2)
        reverse = np.zeros(record.size, bool)
        if self._strand == "random":
            reverse = (mix(self._seed, _STRAND, epoch, window) & np.uint64(1)).astype(bool)
            start = np.where(reverse, self._start_on_reverse(record, start, epoch), start)
        # Records that share a row are short: each is read from its first token on.
        row = np.repeat(np.arange(record.size), count)
        members = self._members[np.arange(row.size) - np.repeat(np.cumsum(count) - count - first, count)]
        return row, members + reverse[row], start[row]

    def _start_on_reverse(self, record: np.ndarray, start: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        # What lies at `start` of the room forward lies as far from the end of the room on the other strand.
        if not self._dense:
            return np.zeros_like(start)
        forward, reverse = self._room(record), self._room(record + 1)
        mirrored = ((forward - start) * reverse + forward // 2) // np.maximum(forward, 1)
        return np.where(forward > 0, mirrored, _below(reverse + 1, self._seed, _SHIFT, epoch, record))

    def _windows_of(self, tokens: np.ndarray) -> np.ndarray:
        return _windows_per_record(tokens, self._length) if self._dense else np.ones(tokens.size, np.int64)

    def _room(self, record: np.ndarray) -> np.ndarray:
        """The last token at which a whole window can begin, or 0 in a record that is shorter."""
        return np.maximum(0, self._tokens[record].astype(np.int64) - (self._length - 2))


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
      segment_ids: int32 [N, S], 0 at padding, else 1.
      species: int32 [N], place in the metadata's list of species.
      region: int32 [N], place in the metadata's list of validation regions.
    """

    input_ids: np.ndarray
    segment_ids: np.ndarray
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
    starts = (number * (length - 2)).tolist()
    pieces = [
        (row, found[place], start)
        for row, (place, start) in enumerate(zip(which.tolist(), starts, strict=True))
    ]
    batch = _fill_rows(pieces, (len(pieces), length), soft_mask=False)
    return ValidationWindows(
        batch["input_ids"], batch["segment_ids"], index.species[record], index.region[record]
    )


def _check_length(length: int) -> None:
    if length < 3:
        raise UserError(f"a window of {length} tokens has no room for [CLS], text and [SEP]; give at least 3")


def _check_choice(name: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        raise UserError(f"{name} is {choice!r}; choose {', '.join(choices[:-1])} or {choices[-1]}")


def _below(limits: np.ndarray, *words: ArrayLike) -> np.ndarray:
    """Integers in [0, limit), int64, looked up by a hash of the words."""
    return (mix(*words) % limits.astype(np.uint64)).astype(np.int64)


def _windows_per_record(tokens: np.ndarray, length: int) -> np.ndarray:
    return np.maximum(1, tokens.astype(np.int64) // (length - 2))


def _fill_rows(
    pieces: list[tuple[int, CorpusRecord, int]], shape: tuple[int, int], soft_mask: bool
) -> dict[str, np.ndarray]:
    """A batch of the pieces, each of which is a row's number, a record and the first token that it gives."""
    rows, length = shape
    batch: dict[str, np.ndarray] = {
        "input_ids": np.full(shape, PAD_ID, np.int32),
        "segment_ids": np.zeros(shape, np.int32),
    }
    if soft_mask:
        batch["soft_mask"] = np.zeros(shape, np.uint8)
    ends, segments = [0] * rows, [0] * rows
    for row, record, start in pieces:
        tokens = record.tokens[start : start + length - 2]
        first, last = ends[row], ends[row] + tokens.size + 1
        batch["input_ids"][row, first] = CLS_ID
        batch["input_ids"][row, first + 1 : last] = tokens
        batch["input_ids"][row, last] = SEP_ID
        segments[row] += 1
        batch["segment_ids"][row, first : last + 1] = segments[row]
        if soft_mask and record.soft_mask is not None:
            batch["soft_mask"][row, first + 1 : last] = record.soft_mask[start : start + length - 2]
        ends[row] = last + 1
    return batch


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
