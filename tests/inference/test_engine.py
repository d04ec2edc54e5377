"""Bucket lengths, and sequences of any lengths through a function of padded batches."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
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


def test_long_sequences_share_a_batch_with_fewer_others(tiny_tokenizer):
    tokenizer = Tokenizer.load(tiny_tokenizer)
    rng = np.random.default_rng(1)
    letters = [200_000, 10, 30, 200_000, 6_000, 5_000, 6_000, 20_000] + [40] * 70
    sequences = ["".join(rng.choice(list("ACGT"), count)) for count in letters]
    shapes = []

    def compute(input_ids, attention_mask, _types):
        shapes.append(input_ids.shape)
        return (input_ids * attention_mask).sum(axis=1)

    found = list(map_sequences(compute, tokenizer, sequences, batch_size=64))
    assert found == [tokenizer.encode(sequence).sum() for sequence in sequences]
    rows_of = {length: rows for rows, length in shapes}
    assert len(rows_of) == len(set(shapes))  # one B, and so one compilation, for each S
    assert max(rows_of) > 65_536
    for length, rows in rows_of.items():
        assert rows == 1 or rows * length**2 <= 1 << 24
        assert 1 <= rows <= 64
    assert rows_of[max(rows_of)] == 1
    assert rows_of[min(rows_of)] == 64


def failing(message):
    def compute(_ids, _mask, _types) -> np.ndarray:
        raise jax.errors.JaxRuntimeError(message)

    return compute


def test_too_little_memory(tiny_tokenizer):
    tokenizer = Tokenizer.load(tiny_tokenizer)
    compute = failing("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    with pytest.raises(UserError, match=r"8 × 16 tokens .* \(batch_size is 8\); make it less than 8"):
        list(map_sequences(compute, tokenizer, ["ACGT"], batch_size=8))
    with pytest.raises(UserError, match=r"1 × 16 tokens .* \(batch_size is 1\); cut the sequences"):
        list(map_sequences(compute, tokenizer, ["ACGT"], batch_size=1))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(map_sequences(failing("INTERNAL: a fault"), tokenizer, ["ACGT"], batch_size=1))


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_holds_something(tiny_tokenizer, batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size}; it must be at least 1"):
        list(map_sequences(np.ones, Tokenizer.load(tiny_tokenizer), ["A"], batch_size=batch_size))  # pyright: ignore[reportArgumentType]


def test_sequences_are_read_as_they_are_needed(tiny_tokenizer):
    tokenizer = Tokenizer.load(tiny_tokenizer)

    def endless():
        while True:
            yield "ACGT"

    results = map_sequences(lambda _ids, mask, _types: mask.sum(axis=1), tokenizer, endless(), batch_size=64)
    assert next(results) == len(tokenizer.encode("ACGT"))


def test_no_sequences(tiny_tokenizer):
    assert list(map_sequences(None, Tokenizer.load(tiny_tokenizer), [], batch_size=4)) == []  # pyright: ignore[reportArgumentType]
