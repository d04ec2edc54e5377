"""The BPE tokenizer: DNA text in, DNABERT-2's token ids out, and back.

SentencePiece does the BPE on stretches of A C G T; what lies between them becomes [UNK] here, one for each
character, so that the ids equal those of the released tokenizer on any text.
"""

import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer import released
from dnabert2_jax.tokenizer.sequence_tokenizer import Case, SequenceTokenizer, check_case, encode_runs
from dnabert2_jax.tokenizer.vocabulary import derive_merges

# BPE merges cost more than linearly in the length of a text; a token is lost where two pieces meet.
GENOME_PIECE_BASES = 9_000


@dataclass(frozen=True, repr=False)
class Tokenizer(SequenceTokenizer):
    """An immutable BPE tokenizer of DNA; made by `load` or by training.

    White space splits a sequence as it vanishes; any other character than A C G T becomes one [UNK].

    Attributes:
      tokens: all V pieces in id order: five special tokens, A C G T, then the merges in the order learnt.
      case: "upper" reads a c g t as A C G T; "released" leaves them, so that each becomes [UNK].

    Raises:
      UserError: `tokens` is not a BPE vocabulary of DNA.

    Examples:
      >>> tokenizer = Tokenizer(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A", "C", "G", "T", "TA"))
      >>> tokenizer.encode("TATACN").tolist()
      [1, 9, 9, 6, 0, 2]
      >>> tokenizer.decode([1, 9, 9, 6, 0, 2])
      'TATACN'
      >>> tokenizer.encode_batch(["TATA", "C"]).input_ids.tolist()
      [[1, 9, 9, 2], [1, 6, 2, 3]]
      >>> tokenizer.encode_pair("TA", "CA").token_type_ids.tolist()
      [0, 0, 0, 1, 1, 1]
    """

    tokens: tuple[str, ...]
    case: Case = "upper"

    def __post_init__(self) -> None:
        check_case(self.case)
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

    def encode_bases(self, bases: np.ndarray) -> np.ndarray:
        """Token ids of a stretch of genome, without [CLS] and [SEP]: the fast path, which checks nothing.

        Args:
          bases: uint8 [L], ASCII letters A C G T only. Stretches of up to about 10,000 bases are encoded
            fastest.

        Returns:
          int32 [S], read-only.
        """
        return self._encode_stretch(bases.tobytes())

    def encode_genome(self, stretches: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`encode_bases` of many stretches of any length, in pieces of GENOME_PIECE_BASES.

        Args:
          stretches: for each uint8 [L], ASCII letters A C G T only.

        Returns:
          For each int32 [S].
        """
        pieces = [
            stretch[start : start + GENOME_PIECE_BASES].tobytes()
            for stretch in stretches
            for start in range(0, len(stretch), GENOME_PIECE_BASES)
        ]
        encoded = iter(self._processor.encode(pieces, out_type="numpy", num_threads=1))
        nothing = np.empty(0, np.int32)
        return [
            np.concatenate([nothing, *itertools.islice(encoded, -(-len(stretch) // GENOME_PIECE_BASES))])
            for stretch in stretches
        ]

    def _encode_text(self, text: str) -> list[np.ndarray]:
        return list(encode_runs(text, self._encode_stretch))

    def _files(self) -> dict[str, bytes]:
        return {
            released.MODEL_NAME: released.sentencepiece_model(self.tokens),
            released.JSON_NAME: released.tokenizer_json(self.tokens),
            released.CONFIG_NAME: released.tokenizer_config_json(),
        }

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
