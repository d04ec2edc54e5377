import itertools
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.data.inputs import CorpusInput
from dnabert2_jax.data.windows import WindowSource, validation_windows, window_batches
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, PAD_ID, SEP_ID

LENGTH = 66


def source(corpus: Corpus, **settings: Any) -> WindowSource:
    defaults: dict[str, Any] = {"batch_size": 16, "length": LENGTH, "seed": 1, "steps": 1000}
    return WindowSource(corpus, **(defaults | settings))


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def text_of(row: np.ndarray, mask: np.ndarray) -> tuple[int, ...]:
    """The tokens of a row, after checking what stands around them."""
    used = int(mask.sum())
    assert mask.tolist() == [1] * used + [0] * (len(mask) - used)
    assert row[0] == CLS_ID
    assert row[used - 1] == SEP_ID
    assert (row[used:] == PAD_ID).all()
    assert (row[1 : used - 1] > PAD_ID).all()
    return tuple(row[1 : used - 1].tolist())


def epoch_of(windows: WindowSource, epoch: int) -> list[tuple[int, ...]]:
    """The windows of an epoch, drawn from batches of one row."""
    first = epoch * windows.windows_per_epoch
    batches = [windows[step] for step in range(first, first + windows.windows_per_epoch)]
    return [text_of(batch["input_ids"][0], batch["segment_ids"][0]) for batch in batches]


def test_a_batch_has_the_form_the_model_reads(corpus):
    batch = source(corpus)[3]
    assert set(batch) == {"input_ids", "segment_ids"}
    for array in batch.values():
        assert array.shape == (16, LENGTH)
        assert array.dtype == np.int32
    for row, mask in zip(batch["input_ids"], batch["segment_ids"], strict=True):
        text_of(row, mask)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_epoch_has_every_window_of_every_record_once(corpus, split):
    """Against a plain count: each record gives its windows, side by side, from one shift."""
    windows = source(corpus, split=split, length=500, batch_size=1, steps=10**6)
    records = [record.tokens.tolist() for record in corpus.records(split)]
    for epoch in (0, 3):
        drawn = Counter(epoch_of(windows, epoch))
        expected = []
        for tokens in records:
            number = max(1, len(tokens) // 498)
            shifts = range(max(0, len(tokens) - 498 * number) + 1)
            choices = [
                [tuple(tokens[shift + 498 * i : shift + 498 * (i + 1)]) for i in range(number)]
                for shift in shifts
            ]
            fitting = [choice for choice in choices if all(window in drawn for window in choice)]
            assert len(fitting) == 1
            expected += fitting[0]
        assert drawn == Counter(expected)
        assert drawn.total() == windows.windows_per_epoch


def test_the_order_differs_between_epochs_and_seeds(corpus):
    # So long that each record is one window, always the same.
    orders = [
        epoch_of(source(corpus, length=9000, batch_size=1, steps=10**6, seed=seed), epoch)
        for seed, epoch in [(1, 0), (1, 1), (2, 0)]
    ]
    genome_order = [tuple(record.tokens.tolist()) for record in corpus.records("train")]
    for first, second in itertools.combinations([*orders, genome_order], 2):
        assert sorted(first) == sorted(second)
        same_place = sum(a == b for a, b in zip(first, second, strict=True))
        assert same_place <= 6  # 1 is expected of random orders


def test_the_shift_differs_between_records_and_epochs(corpus):
    # Even in relation to the room that it has.
    windows = source(corpus, length=500, batch_size=1, steps=10**6)
    records = [record.tokens.tolist() for record in corpus.records("train")]
    relative_shifts = []
    for epoch in (0, 1):
        drawn = set(epoch_of(windows, epoch))
        relative_shifts.append([])
        for tokens in records:
            room = len(tokens) % 498
            if len(tokens) > 498 and room > 50:
                shift = next(i for i in range(room + 1) if tuple(tokens[i : i + 498]) in drawn)
                relative_shifts[-1].append(shift / room)
    first, second = map(np.array, relative_shifts)
    assert first.size > 20
    assert np.mean(first == second) < 0.2
    for shifts in (first, second):
        assert np.unique(shifts.round(2)).size > first.size / 2
        assert abs(shifts.mean() - 0.5) < 5 * np.sqrt(1 / 12 / shifts.size)


@pytest.fixture(scope="module")
def short_texts(tokenizer_folder, tmp_path_factory):
    """A corpus of lines of 30 to 600 bases."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("lines")
    lines = ["".join(rng.choice(list("ACGT"), rng.integers(30, 600))) for _ in range(900)]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    lines_of = CorpusInput(species="lines", path=folder / "lines.txt", kind="text")
    build_corpus([lines_of], tokenizer_folder, folder / "corpus", minimum_bases=30)
    return Corpus.open(folder / "corpus")


def segments_of(batch):
    """The texts of each row's segments."""
    for ids, segments in zip(batch["input_ids"], batch["segment_ids"], strict=True):
        numbers = range(1, segments.max() + 1)
        assert segments.tolist() == sorted(segments[segments > 0]) + [0] * int((segments == 0).sum())
        yield [text_of(ids[segments == n], np.ones(int((segments == n).sum()), int)) for n in numbers]


@pytest.mark.parametrize("strand", ["both", "forward", "random"])
def test_packed_rows_have_every_short_record_once_and_little_padding(short_texts, strand):
    windows = source(
        short_texts, length=256, batch_size=1, steps=10**6, strand=strand, packing=True, soft_mask=True
    )
    records = list(short_texts.records("train"))
    batches = [windows[step] for step in range(windows.windows_per_epoch)]
    found = Counter(text for batch in batches for (row) in segments_of(batch) for text in row)
    texts = [tuple(record.tokens.tolist()) for record in records]
    if strand == "random":
        # One of each pair of strands.
        assert found.total() == len(texts) // 2
        assert all(found[one] + found[other] == 1 for one, other in zip(texts[::2], texts[1::2], strict=True))
    else:
        assert found == Counter(texts[:: 1 if strand == "both" else 2])
    real = sum(int((batch["segment_ids"] > 0).sum()) for batch in batches)
    assert real / (256 * len(batches)) > (0.9 if strand == "random" else 0.98)


def test_packing_leaves_long_records_as_they_are(corpus):
    plain, packed = source(corpus, length=40), source(corpus, length=40, packing=True)
    assert equal(plain[5], packed[5])


def test_hosts_together_read_the_packed_batch_of_one(short_texts):
    whole = source(short_texts, packing=True)[11]
    parts = [source(short_texts, packing=True, rows=rows)[11] for rows in [range(3), range(3, 16)]]
    assert equal(whole, {key: np.concatenate([part[key] for part in parts]) for key in whole})


def test_a_batch_is_a_function_of_seed_and_step(corpus):
    first, again = source(corpus), source(Corpus.open(corpus.folder))
    for step in (7, 0, 7, 999):
        assert equal(first[step], again[step])
    assert not equal(first[7], first[8])
    assert not equal(first[7], source(corpus, seed=2)[7])
    assert equal(first[7], source(corpus, steps=8)[7])  # the length of the run plays no part


@pytest.mark.parametrize(
    "hosts", [[range(16)], [range(8), range(8, 16)], [[0], [*range(1, 11)], [*range(11, 16)]]]
)
def test_hosts_together_read_the_batch_of_one(corpus, hosts):
    whole = source(corpus, soft_mask=True)[11]
    parts = [source(corpus, rows=rows, soft_mask=True)[11] for rows in hosts]
    assert [len(part["input_ids"]) for part in parts] == [len(rows) for rows in hosts]
    assert equal(whole, {key: np.concatenate([part[key] for part in parts]) for key in whole})


def test_a_batch_may_be_larger_than_the_corpus(corpus):
    windows = source(corpus, split="validation", length=2000, batch_size=500)
    assert windows.windows_per_epoch < 250
    assert np.unique(windows[0]["input_ids"], axis=0).shape[0] <= 500
    one_by_one = source(corpus, split="validation", length=2000, batch_size=1)
    for row in (0, 123, 499):
        assert np.array_equal(windows[0]["input_ids"][row], one_by_one[row]["input_ids"][0])


def test_the_soft_mask_follows_its_tokens(corpus, genomes):
    """Tokens that are half or more in lower case lie in the one repeat of the first genome."""
    repeat = genomes["alpha"]["one"][50_000:70_000].upper()
    paired = str.maketrans("ACGT", "TGCA")
    texts = repeat + "|" + repeat.translate(paired)[::-1]
    tokenizer = corpus.tokenizer()
    masked = 0
    for step in range(60):
        batch = source(corpus, soft_mask=True)[step]
        assert batch["soft_mask"].dtype == np.uint8
        assert (batch["soft_mask"][batch["input_ids"] < 5] == 0).all()
        for row, mask in zip(batch["input_ids"], batch["soft_mask"], strict=True):
            if mask.any():
                masked += 1
                assert tokenizer.decode(row[mask == 255]) in texts
    assert masked > 20


def test_batches_run_ahead_and_start_anywhere(corpus):
    windows = source(corpus, steps=12)
    batches = list(window_batches(windows, 5, threads=3, prefetch=4))
    assert len(batches) == 7
    assert all(equal(batch, windows[step]) for step, batch in zip(range(5, 12), batches, strict=True))
    assert list(window_batches(windows, 12)) == []
    few = list(itertools.islice(window_batches(source(corpus, steps=10**9), 10**8), 2))
    assert equal(few[1], windows[10**8 + 1])


def test_damage_reaches_the_reader_of_batches(corpus, tmp_path):
    shutil.copytree(corpus.folder, tmp_path / "copy")
    (tmp_path / "copy" / "train-00000.arrayrecord").unlink()
    with pytest.raises(UserError, match="is missing"):
        list(window_batches(source(Corpus.open(tmp_path / "copy"), steps=50)))


def test_requests_that_make_no_sense_are_refused(corpus):
    with pytest.raises(UserError, match="no room"):
        source(corpus, length=2)
    with pytest.raises(UserError, match="at least one row"):
        source(corpus, batch_size=0)
    with pytest.raises(ValueError, match="are not rows of a batch of 16"):
        source(corpus, rows=range(4, 17))


class TestValidationWindows:
    def test_all_of_them_where_there_is_room(self, corpus):
        windows = validation_windows(corpus, length=LENGTH, limit=10**6)
        expected = []
        for record in corpus.records("validation"):
            tokens = record.tokens.tolist()
            starts = range(0, max(1, len(tokens) // (LENGTH - 2)) * (LENGTH - 2), LENGTH - 2)
            expected += [tuple(tokens[start : start + LENGTH - 2]) for start in starts]
        rows = zip(windows.input_ids, windows.segment_ids, strict=True)
        assert [text_of(row, mask) for row, mask in rows] == expected
        assert windows.input_ids.dtype == windows.segment_ids.dtype == np.int32

    def test_a_limit_is_shared_among_species_and_regions(self, corpus):
        windows = validation_windows(corpus, length=LENGTH, limit=60)
        assert len(windows.input_ids) == 60
        assert np.bincount(windows.species).tolist() == [30, 30]
        regions = corpus.metadata.validation_regions
        names = [counts.species for counts in corpus.metadata.species]
        for species, region in zip(windows.species, windows.region, strict=True):
            assert regions[region].species == names[species]
        alpha = Counter(windows.region[windows.species == 0].tolist())
        assert len(alpha) == sum(region.species == "alpha" for region in regions)
        assert max(alpha.values()) - min(alpha.values()) <= 1
        everything = {
            row.tobytes() for row in validation_windows(corpus, length=LENGTH, limit=10**6).input_ids
        }
        assert {row.tobytes() for row in windows.input_ids} <= everything
        assert len({row.tobytes() for row in windows.input_ids}) == 60

    def test_what_a_small_species_cannot_give_goes_to_the_others(self, corpus):
        total = len(validation_windows(corpus, length=LENGTH, limit=10**6).input_ids)
        windows = validation_windows(corpus, length=LENGTH, limit=total - 3)
        assert len(windows.input_ids) == total - 3

    def test_fewer_windows_than_species(self, corpus):
        assert len(validation_windows(corpus, length=LENGTH, limit=1).input_ids) == 1

    def test_they_are_always_the_same(self, corpus):
        first, again = (validation_windows(corpus, length=LENGTH, limit=40) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))

    def test_requests_that_make_no_sense_are_refused(self, corpus):
        with pytest.raises(UserError, match="at least one window"):
            validation_windows(corpus, length=LENGTH, limit=0)
