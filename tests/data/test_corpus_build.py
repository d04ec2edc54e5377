import filecmp
import re
from pathlib import Path

import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.data.layout import RECORD_TOKENS, SPLITS
from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

PAIRS = str.maketrans("ACGTacgt", "TGCAtgca")


def all_records(corpus: Corpus):
    return [(split, record) for split in SPLITS for record in corpus.records(split)]


def test_both_strands_spell_the_genome(corpus, genomes):
    tokenizer = corpus.tokenizer()
    seen = {"+": 0, "-": 0}
    for _, record in all_records(corpus):
        letters = genomes[record.species][record.contig][record.start : record.start + record.bases]
        expected = letters.upper() if record.strand == "+" else letters.upper().translate(PAIRS)[::-1]
        assert tokenizer.decode(record.tokens) == expected
        assert 0 < record.tokens.size <= RECORD_TOKENS
        seen[record.strand] += record.bases
    assert seen["+"] == seen["-"] > 0


def test_every_base_is_in_one_record_of_each_strand_or_accounted_for(corpus, genomes):
    for counts in corpus.metadata.species:
        contigs = genomes[counts.species]
        kept = 0
        for strand in "+-":
            depth = {contig: np.zeros(len(letters), int) for contig, letters in contigs.items()}
            for _, record in all_records(corpus):
                if (record.species, record.strand) == (counts.species, strand):
                    depth[record.contig][record.start : record.start + record.bases] += 1
            kept = sum(int(column.sum()) for column in depth.values())
            assert max(column.max() for column in depth.values()) == 1
            assert kept == counts.train_bases + counts.validation_bases
        other = sum(len(re.findall("[^ACGTacgt]", letters)) for letters in contigs.values())
        assert counts.dropped_other == other
        assert counts.bases == sum(map(len, contigs.values())) == kept + counts.dropped_short + other
        assert counts.soft_masked == sum(len(re.findall("[acgt]", x)) for x in contigs.values())


def test_validation_text_overlaps_no_training_text(corpus):
    bases: dict[str, set[tuple[str, str, int]]] = {split: set() for split in SPLITS}
    for split, record in all_records(corpus):
        places = range(record.start, record.start + record.bases)
        bases[split] |= {(record.species, record.contig, place) for place in places}
    assert not bases["train"] & bases["validation"]
    share = len(bases["validation"]) / (len(bases["train"]) + len(bases["validation"]))
    assert 0.04 < share < 0.07


def test_the_soft_mask_is_the_share_of_lower_case(corpus, genomes):
    lengths = corpus.tokenizer().token_lengths
    masked = 0
    for _, record in all_records(corpus):
        letters = genomes[record.species][record.contig][record.start : record.start + record.bases]
        if record.strand == "-":
            letters = letters[::-1]
        shares, place = [], 0
        for length in lengths[record.tokens]:
            piece = letters[place : place + length]
            shares.append(round(255 * sum(letter.islower() for letter in piece) / length))
            place += length
        stored = record.soft_mask if record.soft_mask is not None else np.zeros(record.tokens.size)
        np.testing.assert_array_equal(stored, shares)
        masked += record.soft_mask is not None
    assert masked >= 2


def test_counts_and_indices_agree_with_the_records(corpus):
    unigram_counts = np.zeros(corpus.metadata.vocab_size, int)
    for record in corpus.records("train"):
        np.add.at(unigram_counts, record.tokens, 1)
    np.testing.assert_array_equal(corpus.unigram_counts, unigram_counts)
    names = [counts.species for counts in corpus.metadata.species]
    for split in SPLITS:
        index = corpus.indices[split]
        records = list(corpus.records(split))
        assert index.tokens.tolist() == [record.tokens.size for record in records]
        assert index.species.tolist() == [names.index(record.species) for record in records]
        assert index.strand.tolist() == ["+-".index(record.strand) for record in records]
        for record, region in zip(records, index.region.tolist(), strict=True):
            if split == "train":
                assert region == -1
                continue
            held_out = corpus.metadata.validation_regions[region]
            assert (held_out.species, held_out.contig) == (record.species, record.contig)
            assert held_out.start <= record.start < record.start + record.bases <= held_out.end


def test_shards_roll_by_size(corpus):
    shards = corpus.metadata.splits["train"]
    assert len(shards) > 2
    assert all((corpus.folder / shard.file).stat().st_size < 400_000 for shard in shards)


def test_two_builds_have_the_same_bytes(corpus, fastas, tokenizer_folder, tmp_path):
    build_corpus(
        fastas, tokenizer_folder, tmp_path / "again", region_bases=4_000, unit_bases=100_000, workers=3
    )
    files = [path.relative_to(corpus.folder) for path in corpus.folder.rglob("*") if path.is_file()]
    again = [
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    ]
    assert sorted(files) == sorted(again)
    _, differing, unread = filecmp.cmpfiles(corpus.folder, tmp_path / "again", map(str, files), shallow=False)
    assert (differing, unread) == ([], [])


def test_a_strand_of_many_tokens_becomes_even_records(tmp_path):
    # Single letters as tokens: 36,000 tokens of a stretch must be divided.
    Tokenizer(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A", "C", "G", "T")).save(tmp_path / "letters")
    rng = np.random.default_rng(0)
    letters = "".join(rng.choice(list("ACGT"), 80_000))
    (tmp_path / "g.fa").write_text(f">c\n{letters}\n")
    build_corpus([("g", tmp_path / "g.fa")], tmp_path / "letters", tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    for _, record in all_records(corpus):
        assert record.tokens.size <= RECORD_TOKENS
        piece = letters[record.start : record.start + record.bases]
        expected = piece if record.strand == "+" else piece.translate(PAIRS)[::-1]
        assert corpus.tokenizer().decode(record.tokens) == expected
    assert sum(record.bases for _, record in all_records(corpus)) == 160_000
    assert max(record.tokens.size for _, record in all_records(corpus)) >= 7_000


def test_progress_reaches_the_end(fastas, tokenizer_folder, tmp_path):
    seen: list[tuple[int, int]] = []
    metadata = build_corpus(
        fastas, tokenizer_folder, tmp_path / "c", progress=lambda done, total: seen.append((done, total))
    )
    total = sum(counts.bases for counts in metadata.species)
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


class TestRefusals:
    def build(self, folder: Path, tokenizer_folder: Path, letters: str = "ACGT" * 1000, **settings):
        (folder / "g.fa").write_text(f">c\n{letters}\n")
        return build_corpus([("g", folder / "g.fa")], tokenizer_folder, folder / "corpus", **settings)

    def test_a_file_named_twice(self, fastas, tokenizer_folder, tmp_path):
        with pytest.raises(UserError, match=r"alpha\.fa: is given already"):
            build_corpus([fastas[0], fastas[0]], tokenizer_folder, tmp_path / "corpus")

    def test_no_inputs(self, tokenizer_folder, tmp_path):
        with pytest.raises(UserError, match="at least one file"):
            build_corpus([], tokenizer_folder, tmp_path / "corpus")

    def test_only_gaps(self, tokenizer_folder, tmp_path):
        with pytest.raises(UserError, match="no text is left for the train split"):
            self.build(tmp_path, tokenizer_folder, "N" * 5000)
        assert [path.name for path in tmp_path.iterdir()] == ["g.fa"]

    def test_nothing_for_validation(self, tokenizer_folder, tmp_path):
        with pytest.raises(UserError, match="no text is left for the validation split"):
            self.build(tmp_path, tokenizer_folder, "ACGT" * 100)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"validation_share": 0.0}, "validation share"),
            ({"validation_share": 0.6}, "validation share"),
            ({"region_bases": 0}, "validation region"),
            ({"minimum_bases": 0}, "shortest run"),
            ({"minimum_bases": 10**6}, "shortest run"),
        ],
    )
    def test_settings_out_of_range(self, tokenizer_folder, tmp_path, settings, message):
        with pytest.raises(UserError, match=message):
            self.build(tmp_path, tokenizer_folder, **settings)

    def test_an_output_that_exists(self, tokenizer_folder, tmp_path):
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "precious").touch()
        with pytest.raises(UserError, match="exists already"):
            self.build(tmp_path, tokenizer_folder)


def test_real_genomes_keep_their_bases(shared, tmp_path):
    genome = shared / "genomes" / "human_chr22_20-21M.fa.gz"
    metadata = build_corpus([("human", genome)], shared / "golden" / "tokenizer.json", tmp_path / "corpus")
    (counts,) = metadata.species
    assert (counts.bases, counts.dropped_other) == (1_000_000, 100_000)
    assert counts.train_bases + counts.validation_bases + counts.dropped_short == 900_000
    bases_per_token = (
        2 * (counts.train_bases + counts.validation_bases) / (counts.train_tokens + counts.validation_tokens)
    )
    assert 4.6 < bases_per_token < 5.2  # about 4.7 to 5.1 for the released vocabulary
