"""The merges behind a list of pieces, and the lists that no BPE could have learnt."""

import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import LETTERS, SPECIAL_TOKENS, derive_merges

BASE = SPECIAL_TOKENS + LETTERS


def test_each_piece_has_the_merge_of_the_order() -> None:
    # AAC is A + AC where AC was learnt before AA, and AA + C the other way round.
    assert derive_merges((*BASE, "AC", "AA", "AAC")) == (("A", "C"), ("A", "A"), ("A", "AC"))
    assert derive_merges((*BASE, "AA", "AC", "AAC")) == (("A", "A"), ("A", "C"), ("AA", "C"))
    assert derive_merges((*BASE, "AA", "AAAA", "AAAAA")) == (("A", "A"), ("AA", "AA"), ("AAAA", "A"))
    assert derive_merges(BASE) == ()


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((), "ids 0-4 must be"),
        (SPECIAL_TOKENS, "ids 5-8 must be A C G T, but they are missing"),
        ((*BASE, "ACG"), "id 9, 'ACG', does not follow"),
        ((*BASE, "AC", "AC"), "id 10, 'AC', does not follow"),
        ((*BASE, "ACG", "AC"), "id 9, 'ACG', does not follow"),
        ((*BASE, "AN"), "id 9 is 'AN'"),
        ((*BASE, ""), "id 9 is ''"),
        ((*BASE, "AA", "A" * 300), "id 10 is"),
        (BASE + ("AA",) * 66_000, "at most 65536 are supported"),
    ],
)
def test_what_is_no_vocabulary(pieces: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        derive_merges(pieces)
