import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_check import verify_corpus
from dnabert2_jax.data.layout import (
    SplitIndex,
    read_index,
    read_metadata,
    read_unigram_counts,
    write_index,
    write_metadata,
    write_unigram_counts,
)
from dnabert2_jax.errors import UserError


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


@pytest.mark.parametrize(
    ("field", "sentences"),
    [
        ("train_bases", ["train bases of strand +", "train bases of strand -", "kept and"]),
        ("validation_bases", ["validation bases of strand +", "validation bases of strand -", "kept and"]),
        ("validation_tokens", ["validation tokens"]),
        ("dropped_short", ["kept and"]),
        ("bases", ["kept and"]),
    ],
)
def test_counts_of_the_metadata_that_do_not_add_up_are_found(folder, field, sentences):
    metadata = read_metadata(folder)
    setattr(metadata.species[1], field, getattr(metadata.species[1], field) + 1)
    write_metadata(folder, metadata)
    problems = verify_corpus(folder)
    assert all(problem.startswith(f"{folder}: beta has ") for problem in problems)
    assert [sentence in problem for sentence, problem in zip(sentences, problems, strict=True)] == [
        True for _ in sentences
    ]


@pytest.mark.parametrize("part", ["", "settings", "species", "inputs", "validation_regions"])
def test_fields_that_nobody_knows_are_refused(folder, part):
    content = json.loads((folder / "metadata.json").read_text())
    inside = content[part] if part else content
    (inside[0] if isinstance(inside, list) else inside)["surprise"] = 1
    (folder / "metadata.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"metadata\.json: is damaged .*`surprise`"):
        read_metadata(folder)


@pytest.mark.parametrize("name", ["train-index.npz", "unigram.npy"])
def test_a_flipped_bit_of_any_byte_is_read_or_refused(tmp_path, name):
    """With small arrays, so that each byte has its turn."""
    write_index(tmp_path, "train", SplitIndex(*(np.zeros(2, kind) for kind in ("i4", "i4", "i1", "i4"))))
    write_unigram_counts(tmp_path, np.zeros((2, 3)))
    path = tmp_path / name
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        flipped = bytes([whole[place] ^ 1 << place % 8])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            read_index(tmp_path, "train") if name.endswith("npz") else read_unigram_counts(tmp_path)
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(whole) / 2


def test_a_region_in_the_training_text_is_found(folder):
    metadata = read_metadata(folder)
    regions = list(metadata.validation_regions)
    regions.append(msgspec.structs.replace(regions[0], contig="short", start=10, end=20))
    write_metadata(folder, msgspec.structs.replace(metadata, validation_regions=regions))
    assert any("overlaps a validation region" in problem for problem in verify_corpus(folder))
