import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_check import verify_corpus
from dnabert2_jax.data.layout import (
    read_index,
    read_metadata,
    write_index,
    write_metadata,
    write_unigram_counts,
)


@pytest.fixture
def folder(corpus, tmp_path) -> Path:
    return Path(shutil.copytree(corpus.folder, tmp_path / "copy"))


def test_a_corpus_as_built_has_no_problems(corpus):
    assert verify_corpus(corpus.folder) == []


@pytest.mark.parametrize("place", [0.01, 0.3, 0.5, 0.99])
def test_a_flipped_byte_is_found(folder, place):
    path = folder / "train-00001.arrayrecord"
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)
    assert verify_corpus(folder) == [f"{path}: its bytes are not those that were written"]


def test_a_missing_shard_is_found(folder):
    (folder / "train-00000.arrayrecord").unlink()
    assert verify_corpus(folder) == [f"{folder / 'train-00000.arrayrecord'}: is missing"]


@pytest.mark.parametrize("column", ["tokens", "species", "strand", "region"])
def test_a_wrong_index_is_found(folder, column):
    index = read_index(folder, "validation")
    getattr(index, column)[:] = np.roll(getattr(index, column), 1)
    write_index(folder, "validation", index)
    assert verify_corpus(folder)


def test_wrong_counts_are_found(folder):
    counts = Corpus.open(folder).species_unigram_counts.copy()
    counts[0, 5] += 1
    write_unigram_counts(folder, counts)
    assert verify_corpus(folder) == [f"{folder}: the unigram counts are not those of the training records"]
    metadata = read_metadata(folder)
    metadata.species[0].train_tokens += 1
    write_metadata(folder, metadata)
    assert any("alpha has" in problem for problem in verify_corpus(folder))


def test_a_region_in_the_training_text_is_found(folder):
    metadata = read_metadata(folder)
    regions = list(metadata.validation_regions)
    regions.append(msgspec.structs.replace(regions[0], contig="short", start=10, end=20))
    write_metadata(folder, msgspec.structs.replace(metadata, validation_regions=regions))
    assert any("overlaps a validation region" in problem for problem in verify_corpus(folder))
