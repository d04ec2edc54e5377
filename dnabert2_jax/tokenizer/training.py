"""Learns a BPE vocabulary from DNA: stretches of A C G T in, a Tokenizer out.

SentencePiece learns the merges. What it would skip or choke on (long lines, other letters) never reaches it,
so that every base that is handed over counts.
"""

import heapq
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sentencepiece

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import StretchCounts, acgt_stretches, read_chunks
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.released import SPECIAL_OPTIONS, all_pieces_from_sentencepiece
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.vocabulary import (
    FIRST_MERGE_ID,
    LARGEST_VOCABULARY,
    LETTERS,
    MASK_ID,
    SPECIAL_TOKENS,
)

LINE_BASES = 10_000  # SentencePiece aborts above 65,535
LONGEST_LEARNT_PIECE = 64  # bases


@dataclass(frozen=True, slots=True)
class LineSample:
    """Text to learn from.

    Attributes:
      lines: stretches of at most LINE_BASES bases, in the order in which they came.
      used_bases: bases in `lines`.
      total_bases: bases that `lines` were drawn from.
    """

    lines: list[str]
    used_bases: int
    total_bases: int


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a vocabulary was learnt from, in bases of one strand; both strands were read.

    Attributes:
      vocab_size: V.
      used_bases: bases in the sample.
      acgt_bases: A, C, G and T in the files, which the sample was drawn from.
      other_bases: other letters in the files; they split the text.
      seed: the sample's seed.
    """

    vocab_size: int
    used_bases: int
    acgt_bases: int
    other_bases: int
    seed: int


def sample_lines(stretches: Iterable[str], max_bases: int, seed: int) -> LineSample:
    """Cuts text into lines and keeps a random sample of them, holding no more than the sample in memory.

    Every line draws a random rank; the lines of the lowest ranks are kept, as many as fit into `max_bases`.
    The sample is thus uniform over the whole input and a pure function of the arguments. All lines are
    kept where all of them fit.

    Args:
      stretches: text; cut every LINE_BASES bases.
      max_bases: most bases of the sample.
      seed: of the ranks.
    """
    rng = np.random.default_rng(seed)
    kept: list[tuple[float, int, str]] = []  # a heap with the highest rank on top, as (-rank, number, line)
    first_left_out = 1.0
    used = total = 0
    for number, line in enumerate(_lines(stretches)):
        total += len(line)
        rank = rng.random()
        if rank >= first_left_out:
            continue
        heapq.heappush(kept, (-rank, number, line))
        used += len(line)
        while used > max_bases:
            negative_rank, _, dropped = heapq.heappop(kept)
            first_left_out = -negative_rank
            used -= len(dropped)
    kept.sort(key=lambda entry: entry[1])
    return LineSample([line for _, _, line in kept], used, total)


def train_bpe(sequences: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns a vocabulary from all of `sequences`; the same sequences in the same order give the same one.

    Args:
      sequences: upper-case stretches of A C G T of any length, of both strands if both shall count. Lines of
        LINE_BASES are cut from them. Takes about 50 bytes of memory per base.
      vocab_size: V, with the five special tokens and the four letters.

    Returns:
      A tokenizer with exactly `vocab_size` tokens: special tokens, A C G T, then the merges as learnt. No
      piece is longer than LONGEST_LEARNT_PIECE bases.

    Raises:
      UserError: `vocab_size` is out of range or more than the text gives, there is no text, or it holds
        other letters.

    Examples:
      >>> tokenizer = train_bpe(["TATATATACGCG" * 20, "CGCGTATATATA" * 20], 12)
      >>> tokenizer.tokens[9:]
      ('TA', 'TATA', 'CG')
    """
    if not FIRST_MERGE_ID <= vocab_size <= LARGEST_VOCABULARY:
        raise UserError(
            f"the vocabulary size is {vocab_size}; choose one from {FIRST_MERGE_ID} to {LARGEST_VOCABULARY}"
        )
    lines = list(_lines(_checked(sequences)))
    if not lines:
        raise UserError("there is no text of A C G T to learn a vocabulary from; give more sequences")
    pieces = _learn(lines, vocab_size)
    if len(pieces) < vocab_size or not _ends_with_a_token_of(lines, pieces):
        raise UserError(
            f"the text holds too little for a vocabulary of {vocab_size} tokens; "
            f"choose at most {_reachable_size(lines, pieces)} or give more text"
        )
    return Tokenizer(pieces)


def train_from_fasta(
    paths: Sequence[str | os.PathLike],
    vocab_size: int,
    *,
    sample_bases: int,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[Tokenizer, TrainingSummary]:
    """Learns a vocabulary from genomes, from both strands of a random sample of lines.

    Args:
      paths: FASTA files, plain or gzip; lower case counts like upper case, other letters than A C G T split.
      vocab_size: V.
      sample_bases: most bases to learn from, counted on one strand; takes about 100 bytes of memory for each.
      seed: of the sample.
      progress: called before each of the two long steps, with a sentence that says what begins.

    Raises:
      UserError: as `train_bpe` and `read_chunks`, `sample_bases` is less than a line, or `seed` is negative.
    """
    if sample_bases < LINE_BASES:
        raise UserError(f"the sample is {sample_bases} bases; choose at least {LINE_BASES}")
    if seed < 0:
        raise UserError(f"the seed is {seed}; choose 0 or more")
    counts = StretchCounts()

    def stretches() -> Iterator[str]:
        for path in paths:
            for stretch in acgt_stretches(read_chunks(path), length=LINE_BASES, minimum=1, counts=counts):
                yield stretch.bases.tobytes().decode("ascii")

    tell = progress or (lambda _: None)
    tell(f"reading {len(paths)} FASTA file{'s' * (len(paths) != 1)}")
    sample = sample_lines(stretches(), sample_bases, seed)
    tell(f"learning {vocab_size} tokens from {sample.used_bases:,} bases, both strands; this part is silent")
    both_strands = (strand for line in sample.lines for strand in (line, reverse_complement(line)))
    tokenizer = train_bpe(both_strands, vocab_size)
    return tokenizer, TrainingSummary(
        vocab_size=tokenizer.vocab_size,
        used_bases=sample.used_bases,
        acgt_bases=sample.total_bases,
        other_bases=counts.not_acgt,
        seed=seed,
    )


def _lines(stretches: Iterable[str]) -> Iterator[str]:
    for stretch in stretches:
        for start in range(0, len(stretch), LINE_BASES):
            yield stretch[start : start + LINE_BASES]


def _checked(sequences: Iterable[str]) -> Iterator[str]:
    for number, sequence in enumerate(sequences, start=1):
        if other := re.search("[^ACGT]", sequence):
            raise UserError(
                f"sequence {number} has {other[0]!r} at position {other.start() + 1}; "
                "cut it into stretches of A C G T"
            )
        yield sequence


def _learn(lines: list[str], vocab_size: int) -> tuple[str, ...]:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        split_by_number=False,
        max_sentencepiece_length=LONGEST_LEARNT_PIECE,
        max_sentence_length=LINE_BASES,
        **SPECIAL_OPTIONS,
        control_symbols=[SPECIAL_TOKENS[MASK_ID]],
        minloglevel=2,
    )
    # SentencePiece lists the merges as learnt and the letters after them. For every letter that the text
    # lacks it learns a merge too many.
    learnt = all_pieces_from_sentencepiece(model.getvalue())[len(SPECIAL_TOKENS) :]
    merged = tuple(piece for piece in learnt if piece not in LETTERS)
    return (SPECIAL_TOKENS + LETTERS + merged)[:vocab_size]


def _ends_with_a_token_of(lines: list[str], pieces: tuple[str, ...]) -> bool:
    """Whether the last piece was learnt from the text.

    When the text has no pair left, SentencePiece goes on with pairs that it once had. Nothing is learnt
    after the last piece that could use it up, so it occurs in the encoded text if it was ever there.
    """
    if len(pieces) == FIRST_MERGE_ID:
        return True
    tokenizer = Tokenizer(pieces)
    last = len(pieces) - 1
    return any(last in tokenizer.encode(line, special_tokens=False) for line in lines)


def _reachable_size(lines: list[str], pieces: tuple[str, ...]) -> int:
    low, high = FIRST_MERGE_ID, len(pieces)
    while low < high:
        middle = (low + high + 1) // 2
        if _ends_with_a_token_of(lines, pieces[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
