import shutil
import subprocess
import sys

import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.layout import METADATA_FILE
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def copy(corpus, tmp_path) -> Corpus:
    shutil.copytree(corpus.folder, tmp_path / "copy")
    return Corpus.open(tmp_path / "copy")


def same(first, second) -> bool:
    place = (first.species, first.contig, first.start, first.strand)
    return place == (second.species, second.contig, second.start, second.strand) and np.array_equal(
        first.tokens, second.tokens
    )


def test_read_gives_records_by_number(corpus):
    records = list(corpus.records("train"))
    assert len(records) == len(corpus.indices["train"])
    wanted = np.random.default_rng(0).integers(0, len(records), 200)
    found = corpus.read("train", wanted)
    assert all(same(record, records[number]) for record, number in zip(found, wanted, strict=True))
    assert corpus.read("train", []) == []


def test_numbers_out_of_range_are_a_fault(corpus):
    with pytest.raises(IndexError):
        corpus.read("validation", [len(corpus.indices["validation"])])
    with pytest.raises(IndexError):
        corpus.read("validation", [-1])


def test_the_fingerprint_follows_the_text(corpus, copy):
    assert copy.fingerprint == corpus.fingerprint
    text = (copy.folder / METADATA_FILE).read_text()
    shard = copy.metadata.splits["train"][0].sha256
    (copy.folder / METADATA_FILE).write_text(text.replace(shard, "0" * 64))
    assert Corpus.open(copy.folder).fingerprint != corpus.fingerprint


class TestDamage:
    def test_no_folder(self, tmp_path):
        with pytest.raises(UserError, match="no such corpus folder"):
            Corpus.open(tmp_path / "nowhere")

    def test_another_folder(self, tmp_path):
        with pytest.raises(UserError, match="is not a corpus"):
            Corpus.open(tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}', "\udcff"])
    def test_broken_metadata(self, copy, text):
        (copy.folder / METADATA_FILE).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=METADATA_FILE):
            Corpus.open(copy.folder)

    def test_a_shard_outside_of_the_folder(self, copy):
        path = copy.folder / METADATA_FILE
        path.write_text(path.read_text().replace("train-00000", "../train-00000"))
        with pytest.raises(UserError, match="outside of its folder"):
            Corpus.open(copy.folder)

    @pytest.mark.parametrize("name", ["train-index.npz", "validation-index.npz", "unigram.npy"])
    def test_broken_arrays(self, copy, name):
        path = copy.folder / name
        whole = path.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"PK\x03\x04" + whole[4:-40]):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=name):
                Corpus.open(copy.folder)
        path.unlink()
        with pytest.raises(UserError, match=f"{name}: is missing"):
            Corpus.open(copy.folder)

    def test_a_missing_shard(self, copy):
        (copy.folder / "validation-00000.arrayrecord").unlink()
        with pytest.raises(UserError, match=r"validation-00000.arrayrecord: is missing"):
            copy.read("validation", [0])

    def test_a_truncated_shard(self, copy):
        path = copy.folder / "validation-00000.arrayrecord"
        path.write_bytes(path.read_bytes()[:70_000])
        with pytest.raises(UserError, match=r"validation-00000.arrayrecord: holds 0 records"):
            copy.read("validation", [0])

    def test_a_flipped_byte_in_a_shard(self, copy):
        path = copy.folder / "train-00001.arrayrecord"
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"train-00001.arrayrecord: is damaged"):
            list(copy.records("train"))

    def test_another_tokenizer(self, copy):
        Tokenizer(copy.tokenizer().tokens[:-1]).save(copy.folder / "tokenizer")
        with pytest.raises(UserError, match="is not the tokenizer of this corpus"):
            copy.tokenizer()


def test_importing_the_data_package_imports_no_jax():
    modules = ["records", "corpus", "corpus_build", "corpus_check", "windows", "labelled", "sequences"]
    code = (
        "import sys\n"
        + "".join(f"import dnabert2_jax.data.{module}\n" for module in modules)
        + "assert 'jax' not in sys.modules and 'grain' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
