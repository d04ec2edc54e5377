"""Bucket lengths, and sequences of any lengths through a function of padded batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.inference.engine import bucket_length, map_sequences
from dnabert2_jax.tokenizer.tokenizer import Tokenizer


@given(st.integers(1, 1_000_000))
def test_a_bucket_holds_the_sequence_and_wastes_at_most_a_third(tokens):
    length = bucket_length(tokens)
    assert length >= tokens
    if tokens > 16:
        assert length - tokens < length / 3


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_buckets_grow_with_sequences(first, second):
    if first <= second:
        assert bucket_length(first) <= bucket_length(second)


def test_buckets_are_few_and_multiples_of_eight():
    buckets = {bucket_length(tokens) for tokens in range(1, 10_001)}
    assert sorted(buckets)[:8] == [16, 24, 32, 48, 64, 96, 128, 192]
    assert len(buckets) <= 20
    assert all(length % 8 == 0 for length in buckets)
    assert all(bucket_length(length) == length for length in buckets)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_sequence_gets_its_own_result_in_order(tiny_tokenizer, batch_size):
    tokenizer = Tokenizer.load(tiny_tokenizer)
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), rng.integers(0, 300))) for _ in range(50)]
    shapes = set()

    def compute(
        input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray | None
    ) -> np.ndarray:
        assert token_type_ids is None
        assert input_ids.shape == attention_mask.shape
        assert (attention_mask.sum(axis=1) >= 1).all()
        shapes.add(input_ids.shape)
        return np.stack([(input_ids * attention_mask).sum(axis=1), attention_mask.sum(axis=1)], axis=1)

    results = list(map_sequences(compute, tokenizer, iter(sequences), batch_size=batch_size))
    expected = [(ids.sum(), len(ids)) for ids in map(tokenizer.encode, sequences)]
    np.testing.assert_array_equal(results, expected)
    assert {rows for rows, _ in shapes} == {batch_size}
    assert len(shapes) <= 7  # 16, 24, 32, 48, 64, 96, 128: the longest has 110 tokens or so


def test_sequences_are_read_as_they_are_needed(tiny_tokenizer):
    tokenizer = Tokenizer.load(tiny_tokenizer)

    def endless():
        while True:
            yield "ACGT"

    results = map_sequences(lambda _ids, mask, _types: mask.sum(axis=1), tokenizer, endless(), batch_size=64)
    assert next(results) == len(tokenizer.encode("ACGT"))


def test_no_sequences(tiny_tokenizer):
    assert list(map_sequences(None, Tokenizer.load(tiny_tokenizer), [], batch_size=4)) == []  # pyright: ignore[reportArgumentType]
