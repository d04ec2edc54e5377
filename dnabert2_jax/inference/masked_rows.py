"""Windows with one token masked: what a masked-language model is asked, for scores of alleles and of bases.

Windows and places come in; rows to compute go out, each of them once, and for each base the tokens that have
it.
"""

from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.batching import Row
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.spans import token_spans, tokens_overlap
from dnabert2_jax.tokenizer.vocabulary import LETTERS, SPECIAL_TOKENS


def check_masked_model(model: Pretrained) -> None:
    """Raises UserError where no token of a model can be masked and predicted from all others."""
    model.check_masked_head()
    if tokens_overlap(model.tokenizer):
        raise UserError(
            "the k-mers of this model overlap, so that a masked one can be read off its neighbours; take a"
            " model whose tokens do not"
        )


class MaskedRows:
    """The rows that a block of windows needs, each of them once: windows often share their reference."""

    def __init__(self, model: Pretrained):
        self.rows: list[Row] = []
        self._tokenizer = model.tokenizer
        self._most = model.description.architecture.learned_positions
        self._ids: dict[str, np.ndarray] = {}
        self._numbers: dict[tuple[str, int], int] = {}

    def ids(self, text: str) -> np.ndarray:
        """The tokens of a window, with [CLS] and [SEP].

        Raises:
          UserError: they are more than the model takes.
        """
        if text not in self._ids:
            ids = self._tokenizer.encode(text)
            if self._most and len(ids) > self._most:
                raise UserError(
                    f"a window has {len(ids)} tokens and the model takes {self._most}; make the window less"
                    " than these bases (--window)"
                )
            self._ids[text] = ids
        return self._ids[text]

    def add(self, text: str, place: int) -> int:
        """The number of the row in which the token at `place` of a window is masked."""
        number = self._numbers.setdefault((text, place), len(self.rows))
        if number == len(self.rows):
            self.rows.append(Row(self.ids(text), None, place, place + 1))
        return number


class BaseQuery(NamedTuple):
    """A row that tells the probabilities of four bases, and for each base the tokens that have it."""

    row: int
    agreeing: list[np.ndarray]

    def probabilities(self, log_p: np.ndarray) -> np.ndarray:
        """float64 [4] of A, C, G and T, adding up to 1, out of the row's log probabilities [V]."""
        largest = max(float(log_p[ids].max()) for ids in self.agreeing if len(ids))
        sums = np.array([np.exp(log_p[ids].astype(np.float64) - largest).sum() for ids in self.agreeing])
        return sums / sums.sum()


class BaseReader:
    """Finds which token tells a base of a window, and which tokens agree with all other bases.

    Args:
      tokenizer: one whose tokens do not overlap.
    """

    def __init__(self, tokenizer: SequenceTokenizer):
        self._tokenizer = tokenizer
        texts = [""] * len(SPECIAL_TOKENS) + list(tokenizer.tokens[len(SPECIAL_TOKENS) :])
        width = max(map(len, texts))
        padded = "".join([text.ljust(width, "\0") for text in texts]).encode()
        self._letters = np.frombuffer(padded, np.uint8).reshape(len(texts), width)

    def query(self, rows: MaskedRows, text: str, site: int) -> BaseQuery:
        """What tells the base at `site` of a window, which must be A C G or T; adds its row to `rows`."""
        starts, ends = token_spans(self._tokenizer, rows.ids(text)[1:-1])
        token = int(np.searchsorted(ends, site, side="right"))
        return BaseQuery(rows.add(text, token + 1), self._agreeing(text, int(starts[token]), site))

    def _agreeing(self, window: str, start: int, site: int) -> list[np.ndarray]:
        """For each of A, C, G, T the tokens that, put at `start`, have it at `site` and agree otherwise.

        They reach the site at least, and may end before or behind the token that is there; all that they
        cover but the site has the window's bases.
        """
        offset, width = site - start, self._letters.shape[1]
        letters = window[start : start + width].ljust(width, "\1").encode("ascii", "replace")
        known = np.frombuffer(letters, np.uint8)
        agrees = (self._letters == known) | (self._letters == 0)
        agrees[:, offset] = True
        fits = agrees.all(axis=1)
        return [np.flatnonzero(fits & (self._letters[:, offset] == ord(base))) for base in LETTERS]
