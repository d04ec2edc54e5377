"""The tokenizer: DNA text in, DNABERT-2's token ids out, and back.

SentencePiece does the BPE on stretches of A C G T; what lies between them becomes [UNK] here, one for each
character, so that the ids equal those of the released tokenizer on any text.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import sentencepiece

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.tokenizer import released
from dnabert2_jax.tokenizer.vocabulary import (
    CLS_ID,
    MASK_ID,
    PAD_ID,
    SEP_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    derive_merges,
)

__all__ = [
    "CLS_ID",
    "MASK_ID",
    "PAD_ID",
    "SEP_ID",
    "SPECIAL_TOKENS",
    "UNK_ID",
    "EncodedBatch",
    "EncodedPair",
    "Tokenizer",
]

Case = Literal["upper", "released"]

# Unicode's White_Space, which is what the released pre-tokenizer drops; Python's str.isspace takes in more.
_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RUNS = re.compile(f"([ACGT]+)|[^ACGT{_SPACE}]+")
_UPPER = str.maketrans("acgt", "ACGT")
_UNKNOWN_LETTER = "N"


class EncodedBatch(NamedTuple):
    """Token ids of several sequences, padded with [PAD] to the longest.

    Attributes:
      input_ids: int32 [B, S].
      attention_mask: int32 [B, S], 0 at padding.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray


class EncodedPair(NamedTuple):
    """Token ids of `[CLS] first [SEP] second [SEP]`.

    Attributes:
      input_ids: int32 [S].
      token_type_ids: int32 [S], 0 up to the first [SEP], then 1.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray


@dataclass(frozen=True, repr=False)
class Tokenizer:
    """An immutable BPE tokenizer of DNA; made by `load` or by training.

    Attributes:
      tokens: all V pieces in id order: five special tokens, A C G T, then the merges in the order learnt.
      case: "upper" reads a c g t as A C G T; "released" leaves them, so that each becomes [UNK].

    Raises:
      UserError: `tokens` is not a BPE vocabulary of DNA.
    """

    tokens: tuple[str, ...]
    case: Case = "upper"

    def __post_init__(self) -> None:
        if self.case not in ("upper", "released"):
            raise UserError(f"case is {self.case!r}; choose 'upper' or 'released'")
        derive_merges(self.tokens)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, case={self.case!r}, sha256={self.sha256[:12]!r})"

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[tuple[str, ...], Case]]:
        return Tokenizer, (self.tokens, self.case)

    @classmethod
    def load(cls, path: str | os.PathLike, case: Case = "upper") -> "Tokenizer":
        """Reads a tokenizer from a tokenizer folder, a model folder, or one of the two files themselves.

        Args:
          path: a folder with tokenizer.model, tokenizer.json or both, which must then agree; or such a file.
          case: see the class.

        Raises:
          UserError: there is no tokenizer at `path`, it is broken, of another kind, or the two files differ.
        """
        path = Path(path)
        if path.is_dir():
            found = [
                path / name for name in (released.MODEL_NAME, released.JSON_NAME) if (path / name).exists()
            ]
            if not found:
                raise UserError(
                    f"{path}: has neither {released.MODEL_NAME} nor {released.JSON_NAME}; "
                    "name a tokenizer folder or a model folder"
                )
        else:
            found = [path]
        tokens = _read_tokens(found[0])
        if len(found) == 2 and _read_tokens(found[1]) != tokens:
            raise UserError(
                f"{path}: {found[0].name} and {found[1].name} hold different vocabularies; remove one"
            )
        return cls(tokens, case)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes tokenizer.model, tokenizer.json and tokenizer_config.json, always with the same bytes.

        Args:
          folder: made where it is missing; a tokenizer that is there already gives way.

        Raises:
          UserError: the folder cannot be written.
        """
        files = {
            released.MODEL_NAME: released.sentencepiece_model(self.tokens),
            released.JSON_NAME: released.tokenizer_json(self.tokens),
            released.CONFIG_NAME: released.tokenizer_config_json(),
        }
        for name, data in files.items():
            with atomic_file(Path(folder) / name) as file:
                file.write(data)

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens, the special ones among them."""
        return len(self.tokens)

    @functools.cached_property
    def sha256(self) -> str:
        """64 hexadecimal digits that stand for the tokens and their order, and so for the merges."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    @functools.cached_property
    def token_lengths(self) -> np.ndarray:
        """Bases that each id stands for: int32 [V]; 1 for [UNK], 0 for the other special tokens."""
        lengths = np.array([len(token) for token in self.tokens], np.int32)
        lengths[: len(SPECIAL_TOKENS)] = 0
        lengths[UNK_ID] = 1
        lengths.flags.writeable = False
        return lengths

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

        White space splits the sequence and vanishes; any other character than A C G T becomes one [UNK].
        Names of special tokens are not read from the text: "[MASK]" is six unknown characters.

        Args:
          sequence: DNA text of any length; may be empty.
          special_tokens: whether [CLS] and [SEP] surround the ids.

        Returns:
          int32 [S].
        """
        if self.case == "upper":
            sequence = sequence.translate(_UPPER)
        parts = [
            self._encode_stretch(run[0]) if run[1] else np.full(len(run[0]), UNK_ID, np.int32)
            for run in _RUNS.finditer(sequence)
        ]
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
        if max_length is not None and max_length < 2:
            raise UserError(f"max_length is {max_length}; [CLS] and [SEP] alone need 2")
        rows = [self.encode(sequence, special_tokens=False) for sequence in sequences]
        if max_length is not None:
            rows = [row[: max_length - 2] for row in rows]
        longest = max((len(row) + 2 for row in rows), default=0)
        input_ids = np.full((len(rows), longest), PAD_ID, np.int32)
        attention_mask = np.zeros((len(rows), longest), np.int32)
        for k, row in enumerate(rows):
            input_ids[k, 0] = CLS_ID
            input_ids[k, 1 : len(row) + 1] = row
            input_ids[k, len(row) + 1] = SEP_ID
            attention_mask[k, : len(row) + 2] = 1
        return EncodedBatch(input_ids, attention_mask)

    def encode_bases(self, bases: np.ndarray) -> np.ndarray:
        """Token ids of a stretch of genome, without [CLS] and [SEP]: the fast path, which checks nothing.

        Args:
          bases: uint8 [L], ASCII letters A C G T only. Stretches of up to about 10,000 bases are encoded
            fastest.

        Returns:
          int32 [S], read-only.
        """
        return self._encode_stretch(bases.tobytes())

    def encode_bases_batch(self, stretches: Sequence[np.ndarray], *, threads: int = 1) -> list[np.ndarray]:
        """`encode_bases` of each stretch, on several threads; the result does not depend on their number.

        Args:
          stretches: uint8 arrays of ASCII letters A C G T only.
          threads: threads to use; the speed grows with them while cores are idle.

        Returns:
          For each stretch int32 [S], read-only.
        """
        texts = [bases.tobytes() for bases in stretches]
        return self._processor.encode(texts, out_type="numpy", num_threads=threads)

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
            names[UNK_ID] = _UNKNOWN_LETTER
        numbers = np.asarray(ids, dtype=np.int64).tolist()
        for extreme in (min(numbers, default=0), max(numbers, default=0)):
            self.id_to_token(extreme)
        return "".join([names[number] for number in numbers])

    @functools.cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_proto=released.sentencepiece_model(self.tokens))

    def _encode_stretch(self, letters: str | bytes) -> np.ndarray:
        return self._processor.encode(letters, out_type="numpy")


def _read_tokens(path: Path) -> tuple[str, ...]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; name a tokenizer folder or file"
        ) from error
    read = released.pieces_from_json if data.lstrip()[:1] == b"{" else released.pieces_from_sentencepiece
    try:
        return read(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
