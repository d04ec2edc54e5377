"""k-mer tokenizers, the baselines that BPE is compared with: DNA text in, ids of fixed-length words out.

Overlapping k-mers move on by one base, as in DNABERT; the others by k bases, as in the Nucleotide
Transformer. There is nothing to learn: the vocabulary is all 4^k words.
"""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.kmer_files import (
    LARGEST_K,
    SMALLEST_K,
    Kmers,
    kmer_files,
    kmer_tokens,
    stored_kmers,
)
from dnabert2_jax.tokenizer.sequence_tokenizer import (
    UNKNOWN_LETTER,
    WHITE_SPACE,
    Case,
    SequenceTokenizer,
    check_case,
    encode_runs,
)
from dnabert2_jax.tokenizer.vocabulary import LETTERS, SPECIAL_TOKENS, UNK_ID

_WHITE_SPACE = re.compile(f"[{WHITE_SPACE}]+")
_ALPHABET = np.frombuffer("".join(LETTERS).encode(), np.uint8)
# 0 to 3 for A C G T and 4 for any other byte.
_DIGITS = np.array([LETTERS.index(chr(byte)) if chr(byte) in LETTERS else 4 for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class KmerTokenizer(SequenceTokenizer):
    """An immutable tokenizer of DNA into words of k letters.

    White space vanishes before all else; the letters around it become neighbours.

    *Overlapping*: L letters give L - k + 1 tokens, and none where L < k. A word with a letter other than A C
    G T in it is [UNK]. A token stands for its first base, by which the text moves on: `token_lengths` is 1,
    and the last k - 1 bases have no token of their own. 5 + 4^k tokens, 4101 for k = 6 as in the paper.

    *Not overlapping*: words are read from the left. A letter other than A C G T is one [UNK] and words begin
    anew after it; the fewer than k bases left before it, or at the end, are tokens of one letter. 9 + 4^k
    tokens.

    Attributes:
      k: letters of a word, 3 to 8. A corpus stores ids in 16 bits, which k = 8 exceeds.
      overlapping: whether the text moves on by one base with each token, or by k.
      case: "upper" reads a c g t as A C G T; "released" takes them for other letters.
      tokens: all V tokens in id order: five special tokens, A C G T unless overlapping, then the k-mers in
        alphabetical order.

    Raises:
      UserError: `k` is out of range.

    Examples:
      >>> for tokenizer in (KmerTokenizer(3, overlapping=True), KmerTokenizer(3, overlapping=False)):
      ...     [tokenizer.id_to_token(id) for id in tokenizer.encode("ACGTAC", special_tokens=False)]
      ['ACG', 'CGT', 'GTA', 'TAC']
      ['ACG', 'TAC']
    """

    k: int
    overlapping: bool
    case: Case = "upper"
    tokens: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_case(self.case)
        if not SMALLEST_K <= self.k <= LARGEST_K:
            raise UserError(f"k is {self.k}; choose {SMALLEST_K} to {LARGEST_K}")
        object.__setattr__(self, "tokens", kmer_tokens(self._kmers))

    def __reduce__(self) -> tuple[type["KmerTokenizer"], tuple[int, bool, Case]]:
        return KmerTokenizer, (self.k, self.overlapping, self.case)

    @classmethod
    def load(cls, path: str | os.PathLike, case: Case = "upper") -> "KmerTokenizer":
        """Reads a tokenizer from a tokenizer folder, a model folder, or its file.

        Raises:
          UserError: there is no k-mer tokenizer at `path`, or it differs from those of this package.
        """
        stored = stored_kmers(Path(path))
        if stored is None:
            raise UserError(f"{path}: holds no k-mer tokenizer; make one with `dnabert2 tokenizer kmers`")
        return cls(stored.k, stored.overlapping, case)

    def encode_bases(self, bases: np.ndarray) -> np.ndarray:
        """Token ids of a stretch of genome, without [CLS] and [SEP]; checks nothing.

        Args:
          bases: uint8 [L], ASCII letters A C G T only.

        Returns:
          int32 [L - k + 1] if overlapping, otherwise [L // k + L % k].
        """
        digits = _DIGITS[bases]
        if self.overlapping:
            return _numbers(_windows(digits, self.k)) + np.int32(len(SPECIAL_TOKENS))
        whole = len(digits) - len(digits) % self.k
        words = _numbers(digits[:whole].reshape(-1, self.k)) + np.int32(len(SPECIAL_TOKENS) + len(LETTERS))
        return np.concatenate([words, digits[whole:] + np.int32(len(SPECIAL_TOKENS))])

    def decode(self, ids: np.ndarray | Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids.

        Overlapping k-mers give k - 1 letters more than tokens, for each run between special tokens. A base is
        read from the last k-mer over it that is not [UNK], and is N where there is none.

        Args:
          ids: integers [S].
          skip_special_tokens: leaves out [CLS], [SEP], [PAD] and [MASK] and writes N for [UNK]. Otherwise
            they are written by name, except [UNK] where k-mers overlap.

        Raises:
          UserError: an id is outside of the vocabulary.
        """
        if not self.overlapping:
            return super().decode(ids, skip_special_tokens=skip_special_tokens)
        numbers = self._checked(ids)
        special = (numbers < len(SPECIAL_TOKENS)) & (numbers != UNK_ID)
        borders = [0, *(np.flatnonzero(np.diff(special)) + 1), len(numbers)]
        text = []
        for start, end in itertools.pairwise(borders):
            if not special[start:end].any():
                text.append(self._spell(numbers[start:end]))
            elif not skip_special_tokens:
                text += [self.tokens[number] for number in numbers[start:end]]
        return "".join(text)

    @property
    def _kmers(self) -> Kmers:
        return Kmers(self.k, self.overlapping)

    def _files(self) -> dict[str, bytes]:
        return kmer_files(self._kmers)

    def _bases_per_token(self) -> np.ndarray:
        return np.ones(self.vocab_size, np.int32) if self.overlapping else super()._bases_per_token()

    def _encode_text(self, text: str) -> list[np.ndarray]:
        text = _WHITE_SPACE.sub("", text)
        if not self.overlapping:
            return list(encode_runs(text, lambda run: self.encode_bases(_characters(run))))
        characters = _characters(text)
        known = _windows(_DIGITS[characters] < len(LETTERS), self.k).all(axis=1)
        return [np.where(known, self.encode_bases(characters), np.int32(UNK_ID))]

    def _spell(self, numbers: np.ndarray) -> str:
        if not len(numbers):
            return ""
        letters = np.full(len(numbers) + self.k - 1, ord(UNKNOWN_LETTER), np.uint8)
        known = np.flatnonzero(numbers != UNK_ID)
        words = numbers[known] - len(SPECIAL_TOKENS)
        for place in reversed(range(self.k)):  # the k-mer that begins last has its first letter there
            letters[known + place] = _ALPHABET[words // 4 ** (self.k - 1 - place) % 4]
        return letters.tobytes().decode("ascii")


def _characters(text: str) -> np.ndarray:
    """One ASCII code for each character, that of "?" for any character outside of ASCII."""
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8)


def _windows(values: np.ndarray, width: int) -> np.ndarray:
    if len(values) < width:
        return np.empty((0, width), values.dtype)
    return np.lib.stride_tricks.sliding_window_view(values, width)


def _numbers(words: np.ndarray) -> np.ndarray:
    """The number that each row of base-4 digits spells: int32 [n]."""
    numbers = np.zeros(len(words), np.int32)
    for digit in words.T:
        numbers = numbers * np.int32(len(LETTERS)) + digit
    return numbers
