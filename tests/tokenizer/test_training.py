"""Learning a vocabulary: against plain BPE, and at the edges where SentencePiece would skip or abort."""

import gzip
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.training import LINE_BASES, sample_lines, train_bpe, train_from_fasta
from dnabert2_jax.tokenizer.vocabulary import SPECIAL_TOKENS, derive_merges

RandomDna = Callable[[int, int], str]


def merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(parts):
        step = 2 if tuple(parts[at : at + 2]) == pair else 1
        out.append("".join(parts[at : at + step]))
        at += step
    return out


def pair_counts(parts: list[str]) -> Counter[tuple[str, str]]:
    return Counter(pairwise(parts))


def test_every_merge_is_a_most_frequent_pair(random_dna: RandomDna) -> None:
    text = random_dna(3_000, 5)
    tokenizer = train_bpe([text], 60)
    parts = list(text)
    for merge in derive_merges(tokenizer.tokens):
        counts = pair_counts(parts)
        assert counts[merge] == max(counts.values())
        parts = merged(parts, merge)
    assert tokenizer.encode(text, special_tokens=False).tolist() == [tokenizer.tokens.index(p) for p in parts]


def test_ids_are_specials_then_letters_then_merges(small: Tokenizer) -> None:
    assert small.tokens[:9] == (*SPECIAL_TOKENS, "A", "C", "G", "T")
    assert small.vocab_size == len(set(small.tokens)) == 300
    assert max(map(len, small.tokens[9:])) <= 64


def test_same_text_same_tokenizer(small: Tokenizer, random_dna: RandomDna, tmp_path: Path) -> None:
    again = train_bpe(iter([random_dna(20_000, 1)]), 300)
    assert again == small
    assert train_bpe([random_dna(20_000, 2)], 300) != small
    for folder, tokenizer in (("a", small), ("b", again)):
        tokenizer.save(tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_long_stretches_are_read_whole(random_dna: RandomDna) -> None:
    # Far above the lengths at which SentencePiece skips a line or aborts; the telling part comes last.
    text = "A" * 150_000 + "CG" * 30_000
    assert "CG" in train_bpe([text], 20).tokens
    assert train_bpe([random_dna(LINE_BASES, 3)], 100).vocab_size == 100
    assert train_bpe([text], 20) == train_bpe([text[k : k + 10_000] for k in range(0, len(text), 10_000)], 20)


def test_sentencepiece_reads_every_base(
    random_dna: RandomDna, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Its limits are 4,192 symbols by default, beyond which it skips a line, and 65,535, where it aborts.
    lengths = [1, 4_192, 4_193, LINE_BASES, LINE_BASES + 1, 65_535, 65_536, 100_000]
    quiet: Any = sentencepiece.SentencePieceTrainer.train
    monkeypatch.setattr(
        sentencepiece.SentencePieceTrainer,
        "train",
        lambda **settings: quiet(**settings | {"minloglevel": 0}),
    )
    train_bpe([random_dna(length, length) for length in lengths], 50)
    log = capfd.readouterr().err
    lines = sum(-(-length // LINE_BASES) for length in lengths)
    assert f"Loaded all {lines} sentences\n" in log
    assert f"all chars count={sum(lengths)}\n" in log
    assert "Skipped" not in log


def test_long_repeats_make_long_pieces() -> None:
    unit = "ACGGTCATTGCAAGCTTAGC"
    assert max(map(len, train_bpe([unit * 500], 25).tokens)) > 32


def test_a_missing_letter_still_has_its_id() -> None:
    tokenizer = train_bpe(["AATT" * 50], 11)
    assert tokenizer.tokens[5:9] == ("A", "C", "G", "T")
    assert tokenizer.vocab_size == 11


def test_vocabulary_of_letters_only() -> None:
    assert train_bpe(["ACGT"], 9).tokens == (*SPECIAL_TOKENS, "A", "C", "G", "T")


def test_too_large_a_vocabulary_names_the_reachable_size() -> None:
    # ACGT itself: AC, then GT or ACG, then the whole. No further pair is left.
    with pytest.raises(UserError, match="too little for a vocabulary of 500 tokens; choose at most 12 or"):
        train_bpe(["ACGT"] * 3, 500)
    assert train_bpe(["ACGT"] * 3, 12).tokens[-1] == "ACGT"
    with pytest.raises(UserError, match="too little for a vocabulary of 13 tokens; choose at most 12 or"):
        train_bpe(["ACGT"] * 3, 13)


@given(text=st.text("ACGT", min_size=1, max_size=60))
def test_the_reachable_size_is_right(text: str) -> None:
    parts, size = list(text), 9
    with pytest.raises(UserError) as raised:
        train_bpe([text], 1_000)
    reachable = int(str(raised.value).split("choose at most ")[1].split()[0])
    for size, merge in enumerate(derive_merges(train_bpe([text], reachable).tokens), start=10):
        assert merge in pair_counts(parts), size
        parts = merged(parts, merge)
    assert len(parts) == 1


@pytest.mark.parametrize("vocab_size", [8, 65_537])
def test_size_out_of_range(vocab_size: int) -> None:
    with pytest.raises(UserError, match=f"the vocabulary size is {vocab_size}; choose one from 9 to 65536"):
        train_bpe(["ACGT"], vocab_size)


@pytest.mark.parametrize("letter", ["N", "a", " ", "\n", "▁", "\x00"])
def test_other_letters_are_refused(letter: str) -> None:
    with pytest.raises(UserError, match=r"sequence 2 has .* at position 3"):
        train_bpe(["ACGT", f"AC{letter}T"], 10)


@pytest.mark.parametrize("sequences", [[], [""]])
def test_no_text(sequences: list[str]) -> None:
    with pytest.raises(UserError, match="no text"):
        train_bpe(sequences, 10)


@given(
    lengths=st.lists(st.integers(0, 35_000), max_size=12),
    max_bases=st.integers(0, 200_000),
    seed=st.integers(0, 5),
)
def test_sample(lengths: list[int], max_bases: int, seed: int) -> None:
    stretches = ["ACGT"[k % 4] * length for k, length in enumerate(lengths)]
    sample = sample_lines(iter(stretches), max_bases, seed)
    assert sample == sample_lines(stretches, max_bases, seed)
    assert sample.total_bases == sum(lengths)
    assert sample.used_bases == sum(map(len, sample.lines)) <= max_bases
    assert all(0 < len(line) <= LINE_BASES for line in sample.lines)
    everything = sample_lines(stretches, sum(lengths), seed).lines
    assert "".join(everything) == "".join(stretches)
    if sample.used_bases < sample.total_bases:
        # The next line in rank did not fit, and no line has more than LINE_BASES.
        assert sample.used_bases > max_bases - LINE_BASES
    following = iter(everything)
    assert all(line in following for line in sample.lines)


def test_sample_is_uniform() -> None:
    places = [0] * 10
    lines = [f"{k:04d}" for k in range(1000)]
    for seed in range(20):
        for line in sample_lines(lines, 4 * 100, seed).lines:
            places[int(line) // 100] += 1
    # 2000 draws over 10 places: 200 each, standard deviation 13.
    assert all(140 < count < 260 for count in places)


def test_sample_holds_no_more_than_itself() -> None:
    stretches = ("ACGT" * 250_000 for _ in range(100))
    tracemalloc.start()
    sample = sample_lines(stretches, 500_000, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (sample.used_bases, sample.total_bases) == (500_000, 100_000_000)
    assert peak < 4_000_000  # the sample and one or two stretches


def test_from_fasta_reads_both_strands(random_dna: RandomDna, tmp_path: Path) -> None:
    first, second = random_dna(15_000, 7), random_dna(12_000, 8)
    file = tmp_path / "genome.fa"
    file.write_text(f">one\n{first.lower()}NN\n{second}\n")
    tokenizer, summary = train_from_fasta([file], 200, sample_bases=1_000_000, seed=0)
    assert (summary.vocab_size, summary.used_bases, summary.acgt_bases) == (200, 27_000, 27_000)
    assert (summary.other_bases, summary.seed) == (2, 0)
    lines = [s[k : k + LINE_BASES] for s in (first, second) for k in range(0, len(s), LINE_BASES)]
    assert tokenizer == train_bpe([strand for s in lines for strand in (s, reverse_complement(s))], 200)


def test_progress_tells_each_step(random_dna: RandomDna, tmp_path: Path) -> None:
    file = tmp_path / "genome.fa"
    file.write_text(f">contig\n{random_dna(12_000, 7)}\n")
    sentences: list[str] = []
    train_from_fasta([file], 30, sample_bases=1_000_000, seed=0, progress=sentences.append)
    assert [sentence.split(";")[0] for sentence in sentences] == [
        "reading 1 FASTA file",
        "learning 30 tokens from 12,000 bases, both strands",
    ]


def test_from_fasta_samples_deterministically(random_dna: RandomDna, tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.fa" for k in range(3)]
    for k, file in enumerate(files):
        file.write_text(f">contig\n{random_dna(40_000, 20 + k)}\n")
    tokenizer, summary = train_from_fasta(files, 100, sample_bases=30_000, seed=1)
    assert (summary.used_bases, summary.acgt_bases) == (30_000, 120_000)
    assert train_from_fasta(files, 100, sample_bases=30_000, seed=1) == (tokenizer, summary)
    assert train_from_fasta(files, 100, sample_bases=30_000, seed=2)[0] != tokenizer
    with pytest.raises(UserError, match="the sample is 9999 bases; choose at least 10000"):
        train_from_fasta(files, 100, sample_bases=9_999, seed=1)
    with pytest.raises(UserError, match="the seed is -1; choose 0 or more"):
        train_from_fasta(files, 100, sample_bases=30_000, seed=-1)


def test_training_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    train_bpe(["ACGTTGCA" * 20], 12)
    assert capfd.readouterr() == ("", "")


def test_learns_what_the_library_learns(shared: Path) -> None:
    with gzip.open(shared / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz", "rt") as file:
        text = "".join(line.strip() for line in file if not line.startswith(">"))[:500_000]
    lines = [text[start : start + LINE_BASES] for start in range(0, len(text), LINE_BASES)]
    library = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    library.train_from_iterator(lines, trainer)
    vocabulary = library.get_vocab()
    tokens = train_bpe(lines, 300).tokens
    assert set(tokens) == set(vocabulary)
    # Later on the two order pairs of equal frequency differently.
    assert [vocabulary[token] for token in tokens[:100]] == list(range(100))
