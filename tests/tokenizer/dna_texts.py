"""Hypothesis strategies that more than one file of tests draws from."""

from hypothesis import strategies as st

from dnabert2_jax.tokenizer.vocabulary import SPECIAL_TOKENS


def texts(letters: str) -> st.SearchStrategy[str]:
    """Text of `letters`, of characters that a pre-tokenizer may treat specially, and of any other."""
    peculiar = st.sampled_from(letters + "U-_.,;*1 \t\n\x0b\x1c\x1f\x85\xa0\u200b\u2003\ufeff\u1e97")
    return st.text(st.one_of(peculiar, st.characters(codec="utf-8"))).filter(
        lambda text: not any(token in text for token in SPECIAL_TOKENS)  # which the library reads as tokens
    )
