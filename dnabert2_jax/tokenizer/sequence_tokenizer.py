"""What all tokenizers of DNA share: the interface, special tokens, pairs, batches, and the folder.

A subclass says how a stretch of letters is cut into tokens; all around it is written here once.
"""

import abc
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.tokenizer.released import TOKENIZER_FILES
from dnabert2_jax.tokenizer.rows import EncodedBatch, EncodedPair, EncodedRow, cut_row, pad_rows
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, SEP_ID, SPECIAL_TOKENS, UNK_ID

Case = Literal["upper", "released"]

# Unicode's White_Space, which is what the released pre-tokenizer drops; Python's str.isspace takes in more.
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
UNKNOWN_LETTER = "N"

_RUNS = re.compile(f"([ACGT]+)|[^ACGT{WHITE_SPACE}]+")
_UPPER = str.maketrans("acgt", "ACGT")


class SequenceTokenizer(abc.ABC):
    """An immutable tokenizer of DNA: text in, token ids out, and back. `load_tokenizer` reads any kind.

    Attributes:
      tokens: all V tokens in id order, the five special ones first.
      case: "upper" reads a c g t as A C G T; "released" leaves them, so that they are unknown letters.
    """

    tokens: tuple[str, ...]
    case: Case

    @abc.abstractmethod
    def encode_bases(self, bases: np.ndarray) -> np.ndarray:
        """Token ids of a stretch of genome, without [CLS] and [SEP]: the fast path, which checks nothing.

        Args:
          bases: uint8 [L], ASCII letters A C G T only.

        Returns:
          int32 [S].
        """

    def encode_genome(self, stretches: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`encode_bases` of many stretches of any length, at a cost in proportion to it.

        BPE is done in pieces of 9,000 bases, so that a token may end early where two of them meet.

        Args:
          stretches: for each uint8 [L], ASCII letters A C G T only.

        Returns:
          For each int32 [S].
        """
        return [self.encode_bases(stretch) for stretch in stretches]

    @abc.abstractmethod
    def _encode_text(self, text: str) -> list[np.ndarray]:
        """Token ids of text in the tokenizer's case, in parts to be joined."""

    @abc.abstractmethod
    def _files(self) -> dict[str, bytes]:
        """Names, out of TOKENIZER_FILES, and content of the files that hold this tokenizer."""

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens, the special ones among them."""
        return len(self.tokens)

    @functools.cached_property
    def sha256(self) -> str:
        """64 hexadecimal digits that stand for the tokens in their order, which also tell kinds apart."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    @functools.cached_property
    def token_lengths(self) -> np.ndarray:
        """Bases that the text moves on with each id: int32 [V]; [UNK] 1, other special tokens 0."""
        lengths = self._bases_per_token()
        lengths[: len(SPECIAL_TOKENS)] = 0
        lengths[UNK_ID] = 1
        lengths.flags.writeable = False
        return lengths

    def _bases_per_token(self) -> np.ndarray:
        return np.array([len(token) for token in self.tokens], np.int32)

    def id_to_token(self, token_id: int) -> str:
        """The token with this id.

        Raises:
          UserError: there is no such id.
        """
        if not 0 <= token_id < self.vocab_size:
            raise UserError(f"token id {token_id} is outside of the vocabulary, 0 to {self.vocab_size - 1}")
        return self.tokens[token_id]

    def encode(self, sequence: str, *, special_tokens: bool = True) -> np.ndarray:
        """Token ids of one sequence.

        White space vanishes. Letters other than A C G T are unknown; how they are written is the matter of
        the kind of tokenizer. Names of special tokens are not read from the text: "[MASK]" is six unknown
        letters.

        Args:
          sequence: DNA text of any length; may be empty.
          special_tokens: whether [CLS] and [SEP] surround the ids.

        Returns:
          int32 [S].
        """
        if self.case == "upper":
            sequence = sequence.translate(_UPPER)
        parts = self._encode_text(sequence)
        if special_tokens:
            parts = [np.array([CLS_ID], np.int32), *parts, np.array([SEP_ID], np.int32)]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def encode_pair(self, first: str, second: str) -> EncodedPair:
        """Token ids and token types of two sequences in one input."""
        left = self.encode(first)
        right = self.encode(second)[1:]
        types = np.repeat(np.array([0, 1], np.int32), [len(left), len(right)])
        return EncodedPair(np.concatenate([left, right]), types)

    def encode_batch(self, sequences: Iterable[str], max_length: int | None = None) -> EncodedBatch:
        """Token ids of several sequences, with [CLS] and [SEP], padded to the longest of them.

        Args:
          sequences: B sequences.
          max_length: most tokens of a row, [CLS] and [SEP] counted; longer sequences lose their right end.

        Raises:
          UserError: `max_length` leaves no room for [CLS] and [SEP].
        """
        rows: list[EncodedRow] = [(self.encode(sequence), None) for sequence in sequences]
        return pad_rows(rows if max_length is None else [cut_row(row, max_length) for row in rows])

    def decode(self, ids: np.ndarray | Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids.

        Args:
          ids: integers [S].
          skip_special_tokens: leaves out [CLS], [SEP], [PAD] and [MASK] and writes N for [UNK], so that the
            text has `token_lengths[ids].sum()` letters. Otherwise all of them are written by name.

        Raises:
          UserError: an id is outside of the vocabulary.
        """
        names = list(self.tokens)
        if skip_special_tokens:
            names[: len(SPECIAL_TOKENS)] = [""] * len(SPECIAL_TOKENS)
            names[UNK_ID] = UNKNOWN_LETTER
        return "".join([names[number] for number in self._checked(ids).tolist()])

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the tokenizer's files, always with the same bytes.

        Args:
          folder: made where it is missing; a tokenizer that is there already gives way.

        Raises:
          UserError: the folder cannot be written.
        """
        files = self._files()
        for name, data in files.items():
            with atomic_file(Path(folder) / name) as file:
                file.write(data)
        for name in TOKENIZER_FILES:
            if name not in files:
                (Path(folder) / name).unlink(missing_ok=True)

    def _checked(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        numbers = np.asarray(ids, dtype=np.int64)
        if numbers.size:
            self.id_to_token(int(numbers.min()))
            self.id_to_token(int(numbers.max()))
        return numbers


def check_case(case: str) -> None:
    """Raises UserError unless `case` is one of Case."""
    if case not in ("upper", "released"):
        raise UserError(f"case is {case!r}; choose 'upper' or 'released'")


def encode_runs(text: str, encode_run: Callable[[str], np.ndarray]) -> Iterator[np.ndarray]:
    """Token ids of text in which runs of A C G T are encoded one by one, and other letters are [UNK] each.

    White space ends a run and vanishes.
    """
    for run in _RUNS.finditer(text):
        yield encode_run(run[0]) if run[1] else np.full(len(run[0]), UNK_ID, np.int32)
