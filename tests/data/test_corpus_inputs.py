"""What a corpus can be made from besides plain genomes: text, parts of genomes, and tables."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnabert2_jax.cli.main import main
from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.data.corpus_check import verify_corpus
from dnabert2_jax.data.inputs import CorpusInput
from dnabert2_jax.data.layout import SPLITS, SpeciesCounts
from dnabert2_jax.data.statistics import corpus_statistics
from dnabert2_jax.errors import UserError

PAIRS = str.maketrans("ACGT", "TGCA")


@pytest.fixture
def build(tokenizer_folder, tmp_path):
    def run(inputs: list[Any], **settings: Any) -> Corpus:
        build_corpus(inputs, tokenizer_folder, tmp_path / "corpus", **settings)
        assert verify_corpus(tmp_path / "corpus") == []
        return Corpus.open(tmp_path / "corpus")

    return run


def places(corpus: Corpus, split: str, strand: str = "+") -> list[tuple[str, str, int, int]]:
    """Species, contig, start and end of every record of a strand."""
    return [
        (record.species, record.contig, record.start, record.start + record.bases)
        for record in corpus.records(split)
        if record.strand == strand
    ]


def adds_up(counts: SpeciesCounts) -> bool:
    kept = counts.train_bases + counts.validation_bases
    dropped = counts.dropped_short + counts.dropped_other + counts.dropped_regions + counts.dropped_cap
    return counts.bases == kept + dropped


def random_letters(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


class TestText:
    @pytest.fixture
    def text(self, tmp_path) -> Path:
        """200 lines of 1000 bases, two of which have other letters, and two are short."""
        lines = [random_letters(1000, seed) for seed in range(200)]
        lines[20] = lines[20][:300] + "NNN" + lines[20][303:]
        lines[70] = lines[70][:970] + "R" + lines[70][971:]
        lines[100], lines[101] = "ACGT" * 20, "ACGT" * 5
        (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
        return tmp_path / "train.txt"

    @pytest.mark.parametrize("drop_impure_lines", [False, True])
    def test_records_are_pieces_of_lines(self, build, text, drop_impure_lines):
        corpus = build(
            [CorpusInput(species="train", path=text, kind="text")], drop_impure_lines=drop_impure_lines
        )
        letters = text.read_text()
        covered = 0
        for split in SPLITS:
            for record in corpus.records(split):
                piece = letters[record.start : record.start + record.bases]
                assert "\n" not in piece
                expected = piece if record.strand == "+" else piece.translate(PAIRS)[::-1]
                assert corpus.tokenizer().decode(record.tokens) == expected
                covered += record.bases
        (counts,) = corpus.metadata.species
        assert adds_up(counts)
        assert covered == 2 * (counts.train_bases + counts.validation_bases)
        assert counts.contigs == 200
        assert counts.bases == 198 * 1000 + 80 + 20
        assert counts.dropped_short >= 20
        assert counts.dropped_other == (2000 if drop_impure_lines else 4)

    def test_validation_is_a_part_of_the_file(self, build, text):
        corpus = build([CorpusInput(species="train", path=text, kind="text")])
        (region,) = corpus.metadata.validation_regions
        assert region.contig == "text"
        assert region.end - region.start == pytest.approx(0.05 * 199_000, rel=0.01)
        for _, _, start, end in places(corpus, "validation"):
            assert region.start <= start < end <= region.end
        for _, _, start, end in places(corpus, "train"):
            assert end <= region.start or start >= region.end

    def test_or_a_file_of_its_own(self, tmp_path, text, tokenizer_folder, capsys):
        (tmp_path / "dev.txt").write_text(f"{random_letters(1000, 1000)}\n{random_letters(500, 1001)}")
        words = ["corpus", "build", "--text", str(text), "--validation-text", str(tmp_path / "dev.txt")]
        output = str(tmp_path / "corpus")
        assert main([*words, "--tokenizer", str(tokenizer_folder), "--output", output]) == 0
        corpus = Corpus.open(output)
        assert places(corpus, "validation") == [("dev", "text", 0, 1000), ("dev", "text", 1001, 1501)]
        assert {place[0] for place in places(corpus, "train")} == {"train"}
        assert verify_corpus(output) == []
        assert corpus.metadata.species[1].contigs == 2
        assert "2 species" in capsys.readouterr().out

    def test_a_cap_counts_line_ends_too(self, build, text):
        corpus = build([CorpusInput(species="t", path=text, kind="text")], max_bases_per_species=50_050)
        (counts,) = corpus.metadata.species
        assert adds_up(counts)
        assert counts.train_bases + counts.validation_bases <= 50_050
        assert counts.dropped_cap == counts.bases - 50_000  # and 50 line ends

    def test_bed_regions_mean_nothing(self, build, text):
        given = CorpusInput(species="t", path=text, kind="text", keep_bed=text)
        with pytest.raises(UserError, match="has lines and no contigs"):
            build([given])


class TestStretches:
    def test_genomes_as_lines_of_1000_bases(self, build, fastas):
        corpus = build(fastas, stretch_bases=1000)
        for split in SPLITS:
            forward, reverse = places(corpus, split), places(corpus, split, "-")
            assert forward == reverse  # one record of each strand a line, of the same place
            assert max(end - start for _, _, start, end in forward) == 1000

    def test_pairs_of_strands_cover_nearly_the_same_place(self, corpus):
        for split in SPLITS:
            for one, other in zip(places(corpus, split), places(corpus, split, "-"), strict=True):
                assert one[:2] == other[:2]
                assert abs(one[2] - other[2]) < 100
                assert abs(one[3] - other[3]) < 100


class TestTable:
    def test_files_of_one_species_are_counted_together(self, build, fastas, genomes):
        inputs = [CorpusInput(species="both", path=path, expected_bases=400_000) for _, path in fastas]
        corpus = build(inputs)
        (counts,) = corpus.metadata.species
        assert counts.bases == sum(len(x) for contigs in genomes.values() for x in contigs.values())
        assert adds_up(counts)
        assert [given.file for given in corpus.metadata.inputs] == ["alpha.fa", "beta.fa"]
        assert corpus_statistics(corpus.folder)["size_warnings"] == []

    def test_a_contig_of_two_files_is_refused(self, build, fastas, tmp_path):
        (tmp_path / "other.fa").write_text(">two\nACGT\n")
        inputs = [CorpusInput(species="s", path=path) for path in (fastas[0][1], tmp_path / "other.fa")]
        with pytest.raises(UserError, match=r"other.fa: has a contig 'two' as another file of 's' has"):
            build(inputs)

    def test_a_species_can_be_held_out(self, build, fastas):
        (alpha, path), (beta, other) = fastas
        corpus = build(
            [
                CorpusInput(species=alpha, path=path, split="train"),
                CorpusInput(species=beta, path=other, split="validation"),
            ]
        )
        assert {place[0] for place in places(corpus, "train")} == {"alpha"}
        assert {place[0] for place in places(corpus, "validation")} == {"beta"}
        assert (
            "beta is held out as a whole; nothing of its genus is in training"
            in (corpus_statistics(corpus.folder)["holdout"])
        )

    def test_from_the_command_line(self, tmp_path, fastas, tokenizer_folder, capsys):
        rows = "".join(
            f"{path}\tHomo {name}\t\t{weight}\t1e6\n"
            for (name, path), weight in zip(fastas, (3, 1), strict=True)
        )
        (tmp_path / "t.tsv").write_text("path\tspecies\tsplit\tweight\texpected_bases\n" + rows)
        words = ["--tokenizer", str(tokenizer_folder), "--output", str(tmp_path / "corpus")]
        assert main(["corpus", "build", "--genomes", str(tmp_path / "t.tsv"), *words]) == 0
        warnings = capsys.readouterr().err.splitlines()
        assert warnings[0] == (
            "dnabert2: Homo alpha: its files hold 385,897 bases where 1,000,000 are expected"
        )
        assert main(["corpus", "stats", str(tmp_path / "corpus")]) == 0
        shown = capsys.readouterr().out
        assert "Species of the same genus are in training, too, for Homo alpha, Homo beta." in shown
        assert "Homo alpha: its files hold 385,897 bases" in shown
        assert main(["corpus", "stats", str(tmp_path / "corpus"), "--json"]) == 0
        statistics = json.loads(capsys.readouterr().out)
        assert [row["training_share"] for row in statistics["by_species"]] == [0.75, 0.25]


class TestHoldout:
    def test_by_chromosome(self, build, fastas):
        corpus = build(fastas, holdout="chromosome", holdout_contigs=("two", "scaffold3"))
        assert {place[1] for place in places(corpus, "validation")} == {"two", "scaffold3"}
        assert not {place[1] for place in places(corpus, "train")} & {"two", "scaffold3"}
        assert corpus.metadata.settings.holdout_contigs == ("two", "scaffold3")
        assert corpus_statistics(corpus.folder)["holdout"].startswith("Contigs of alpha, beta are held out")

    def test_by_species(self, build, fastas):
        corpus = build(fastas, holdout="species")
        held_out = {place[0] for place in places(corpus, "validation")}
        assert len(held_out) == 1
        assert held_out | {place[0] for place in places(corpus, "train")} == {"alpha", "beta"}

    def test_nothing_can_be(self, build, fastas):
        inputs = [CorpusInput(species=name, path=path, split="train") for name, path in fastas]
        with pytest.raises(UserError, match="nothing can be held out by region"):
            build(inputs)

    def test_contigs_are_named_for_nothing(self, build, fastas):
        with pytest.raises(UserError, match="so hold out by chromosome"):
            build(fastas, holdout_contigs=("two",))


class TestCap:
    @pytest.mark.parametrize("cap", [60_000, 310_000, 10**9])
    def test_the_first_bases_are_used(self, build, fastas, genomes, cap):
        corpus = build(fastas, max_bases_per_species=cap)
        for counts in corpus.metadata.species:
            lengths = {contig: len(letters) for contig, letters in genomes[counts.species].items()}
            assert adds_up(counts)
            assert counts.bases == sum(lengths.values())
            assert counts.dropped_cap == max(0, counts.bases - cap)
            room = cap
            for contig, length in lengths.items():
                ends = [
                    place[3]
                    for split in SPLITS
                    for place in places(corpus, split)
                    if place[:2] == (counts.species, contig)
                ]
                assert max(ends, default=0) <= min(length, room)
                room -= min(length, room)

    def test_of_all_files_of_a_species(self, build, fastas):
        inputs = [CorpusInput(species="both", path=path) for _, path in fastas]
        (counts,) = build(inputs, max_bases_per_species=392_000).metadata.species
        assert counts.bases - counts.dropped_cap == 392_000
        assert adds_up(counts)

    def test_contigs_that_are_held_out_by_name_do_not_count(self, build, fastas):
        settings: dict[str, Any] = {"holdout": "chromosome", "holdout_contigs": ("two",)}
        corpus = build(fastas[:1], max_bases_per_species=50_000, **settings)
        assert max(place[3] for place in places(corpus, "validation")) == 90_000
        assert max(place[3] for place in places(corpus, "train")) == 50_000

    def test_nothing_is_too_little(self, build, fastas):
        with pytest.raises(UserError, match="at least 1 base"):
            build(fastas, max_bases_per_species=0)


class TestRegions:
    def test_of_a_bed_file(self, tmp_path, fastas, tokenizer_folder):
        (tmp_path / "keep.bed").write_text("one\t10000\t60000\ntwo\t0\t90000\n")
        (tmp_path / "drop.bed").write_text("one\t50000\t70000\n")
        words = ["corpus", "build", "--fasta", str(fastas[0][1]), "--tokenizer", str(tokenizer_folder)]
        beds = ["--keep-bed", str(tmp_path / "keep.bed"), "--drop-bed", str(tmp_path / "drop.bed")]
        assert main([*words, *beds, "--output", str(tmp_path / "corpus")]) == 0
        corpus = Corpus.open(tmp_path / "corpus")
        (counts,) = corpus.metadata.species
        assert adds_up(counts)
        assert counts.dropped_regions == counts.bases - 40_000 - 90_000
        for split in SPLITS:
            for _, contig, start, end in places(corpus, split):
                assert contig != "one" or 10_000 <= start < end <= 50_000
        assert corpus.metadata.inputs[0].keep_bed != corpus.metadata.inputs[0].drop_bed

    def test_of_another_genome(self, build, fastas, tmp_path):
        (tmp_path / "keep.bed").write_text("chr1\t0\t100\n")
        given = CorpusInput(species="alpha", path=fastas[0][1], keep_bed=tmp_path / "keep.bed")
        with pytest.raises(UserError, match="has no contig 'chr1'"):
            build([given])

    def test_of_several_genomes_need_a_table(self, fastas, tokenizer_folder, capsys):
        files = [str(path) for _, path in fastas]
        words = ["--tokenizer", str(tokenizer_folder), "--output", "c", "--keep-bed", files[0]]
        assert main(["corpus", "build", "--fasta", *files, *words]) == 2
        assert "give a table with the columns keep_bed and drop_bed" in capsys.readouterr().err


class TestBadInput:
    """One sentence, exit status 2, and nothing left behind."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--fasta", "missing.fa"], "missing.fa: cannot be read"),
            (["--fasta", "cut.fa.gz"], "cut.fa.gz: the gzip data is truncated"),
            (["--fasta", "good.fa", "good.fa.gz"], "two of the files are named good"),
            (["--fasta", "-"], "standard input: can be read only once"),
            (["--genomes", "missing.tsv"], "missing.tsv: cannot be read"),
            (["--genomes", "table.tsv"], "table.tsv: line 3: the path 'missing.fa' is no file"),
            (["--text", "good.fa"], "good.fa: line 1: begins with '>'"),
            (["--fasta", "good.fa", "--shard", "0"], "--shard and --num-shards go together"),
            (["--fasta", "good.fa", "--shard", "4", "--num-shards", "4"], "there is no part 4 of 4"),
            (["--fasta", "good.fa", "--validation-text", "x"], "--validation-text goes with --text"),
            (["--fasta", "good.fa", "--drop-impure-lines"], "--drop-impure-lines goes with --text"),
            (["--fasta", "good.fa", "--text", "x"], "not allowed with argument"),
            ([], "one of the arguments --fasta --genomes --text is required"),
        ],
    )
    def test_it_is_named(self, fastas, tokenizer_folder, tmp_path, monkeypatch, capsys, words, message):
        whole = fastas[0][1].read_bytes()
        (tmp_path / "good.fa").write_bytes(whole)
        (tmp_path / "good.fa.gz").write_bytes(gzip.compress(whole, mtime=0))
        (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(whole, mtime=0)[:-1000])
        (tmp_path / "table.tsv").write_text("path\tspecies\ngood.fa\ta\nmissing.fa\tb\n")
        before = sorted(tmp_path.iterdir())
        monkeypatch.chdir(tmp_path)
        words = [*words, "--tokenizer", str(tokenizer_folder), "--output", "corpus"]
        assert main(["corpus", "build", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert sorted(tmp_path.iterdir()) == before
