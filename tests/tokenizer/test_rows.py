"""Rows cut and padded as the Hugging Face library does it."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.rows import cut_row, pad_rows
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.vocabulary import PAD_ID

sequences = st.text("ACGTN", max_size=60)


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return Tokenizer.load(tiny_tokenizer)


@pytest.fixture(scope="module")
def library(tiny_tokenizer):
    return tokenizers.Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))


@settings(deadline=None)
@given(sequences, sequences, st.integers(3, 40))
def test_pairs_are_cut_as_by_the_library(tokenizer, library, first, second, max_length):
    ids, types = cut_row(tokenizer.encode_pair(first, second), max_length)
    library.enable_truncation(max_length, strategy="longest_first")
    expected = library.encode(first, second)
    assert ids.tolist() == expected.ids
    assert types is not None
    assert types.tolist() == expected.type_ids
    assert ids.dtype == types.dtype == np.int32


def test_single_sequences_and_pairs_in_one_batch(tokenizer):
    pair = tokenizer.encode_pair("ACGT", "GGTA")
    single = tokenizer.encode("TTACGGA")
    batch = pad_rows([(single, None), pair], (3, 40))
    assert batch.token_type_ids is not None
    for number, (ids, types) in enumerate([(single, np.zeros_like(single)), pair, (single[:0], single[:0])]):
        padding = [0] * (40 - len(ids))
        assert batch.input_ids[number].tolist() == ids.tolist() + [PAD_ID] * len(padding)
        assert batch.attention_mask[number].tolist() == [1] * len(ids) + padding
        assert batch.token_type_ids[number].tolist() == types.tolist() + padding
    assert pad_rows([(single, None)]).input_ids.shape == (1, len(single))
    assert pad_rows([(single, None)]).token_type_ids is None


def test_no_room_for_special_tokens(tokenizer):
    with pytest.raises(UserError, match=r"max_length is 1; .* alone need 2"):
        cut_row((tokenizer.encode(""), None), 1)
    with pytest.raises(UserError, match=r"max_length is 2; .* alone need 3"):
        cut_row(tokenizer.encode_pair("", ""), 2)
