"""The merges behind a list of pieces, and the lists that no BPE could have learnt."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.vocabulary import LETTERS, SPECIAL_TOKENS, derive_merges

BASE = SPECIAL_TOKENS + LETTERS


def replay(text: str, ids: dict[str, int]) -> list[str]:
    """Plain BPE: joins the pair whose piece has the lowest id, leftmost first, until no pair is left."""
    parts = list(text)
    while known := [ids[a + b] for a, b in itertools.pairwise(parts) if a + b in ids]:
        best, joined = min(known), []
        while parts:
            pair = "".join(parts[:2])
            step = 2 if len(parts) > 1 and ids.get(pair) == best else 1
            joined.append("".join(parts[:step]))
            parts = parts[step:]
        parts = joined
    return parts


@settings(max_examples=400)
@given(candidates=st.lists(st.text("AC", min_size=2, max_size=9) | st.text("ACGT", min_size=2, max_size=6)))
def test_the_merge_is_what_plain_bpe_leaves(candidates: list[str]) -> None:
    ids = {letter: number for number, letter in enumerate(LETTERS, start=5)}
    expected = []
    for piece in candidates:
        parts = replay(piece, ids)
        if len(parts) == 2:
            ids[piece] = len(ids) + 5
            expected.append((parts[0], parts[1]))
        else:
            with pytest.raises(UserError, match="does not follow from the pieces before"):
                derive_merges((*SPECIAL_TOKENS, *ids, piece))
    assert derive_merges((*SPECIAL_TOKENS, *ids)) == tuple(expected)


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
