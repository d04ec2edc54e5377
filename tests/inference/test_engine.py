"""The engine alone: examples of any lengths through a function of padded batches."""

import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.engine import Plan, run
from dnabert2_jax.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer) -> Tokenizer:
    return Tokenizer.load(tiny_tokenizer)


def named(sequences):
    return ((str(number), sequence) for number, sequence in enumerate(sequences))


def random_sequences(seed, lengths):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length)) for length in lengths]


def id_sums(inputs) -> np.ndarray:
    """[B, 2]: the sum of a row's ids, and how many there are."""
    ids, mask = inputs.input_ids, inputs.attention_mask
    return np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1).astype(np.float32)


def flat(blocks):
    return [result for block in blocks for result in block]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(st.text("ACGTN", max_size=90), st.tuples(st.text("ACGT", max_size=40), st.just("AC")))
    ),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 200),
    st.integers(1, 3),
)
def test_every_example_gets_its_own_result_in_order(tokenizer, examples, batch, block, bases, devices):
    plan = Plan(batch_size=batch, block_sequences=block, block_bases=bases, devices=devices)
    blocks = list(run(id_sums, tokenizer, named(examples), plan))
    results = flat(blocks)
    assert [result.name for result in results] == [str(number) for number in range(len(examples))]
    assert all(0 < len(members) <= block for members in blocks)
    for result, example in zip(results, examples, strict=True):
        ids = tokenizer.encode(example) if isinstance(example, str) else tokenizer.encode_pair(*example)[0]
        assert result.example == example
        np.testing.assert_array_equal(result.ids[0], ids)
        np.testing.assert_array_equal(result.values[0], [ids.sum(), len(ids)])


def test_both_strands(tokenizer):
    sequences = random_sequences(0, [50, 3, 120])
    for result, sequence in zip(
        flat(run(id_sums, tokenizer, named(sequences), Plan(both_strands=True))), sequences, strict=True
    ):
        for ids, values, strand in zip(
            result.ids, result.values, [sequence, reverse_complement(sequence)], strict=True
        ):
            np.testing.assert_array_equal(ids, tokenizer.encode(strand))
            assert values[0] == ids.sum()


def test_windows_are_computed_with_their_own_special_tokens(tokenizer):
    seen = []

    def ids_as_vectors(inputs):
        seen.extend(inputs.input_ids[inputs.attention_mask.sum(axis=1) > 1].tolist())
        return np.repeat(inputs.input_ids[:, :, None], 2, axis=2).astype(np.float32)

    sequences = random_sequences(1, [400, 20])
    plan = Plan(stitch="tokens", window=32, overlap=8)
    with pytest.warns(InputWarning, match="1 of the sequences have more than 32 tokens"):
        results = flat(run(ids_as_vectors, tokenizer, named(sequences), plan))
    for result in results:
        np.testing.assert_array_equal(result.values[0][:, 0], result.ids[0][1:-1])
    assert max(map(len, seen)) == 32
    assert all(row[0] == 1 and 2 in row for row in seen)


def test_sequences_are_read_as_they_are_needed_and_the_thread_ends(tokenizer):
    before = threading.active_count()

    def endless():
        while True:
            yield "", "ACGT"

    blocks = run(id_sums, tokenizer, endless(), Plan(block_sequences=10))
    assert len(next(blocks)) == 10
    blocks.close()
    assert threading.active_count() == before


def test_an_error_of_the_source_arrives(tokenizer):
    def broken():
        yield "", "ACGT"
        raise UserError("line 2 is wrong")

    with pytest.raises(UserError, match="line 2 is wrong"):
        list(run(id_sums, tokenizer, broken(), Plan()))


def failing(message):
    def compute(_) -> np.ndarray:
        raise jax.errors.JaxRuntimeError(message)

    return compute


def test_too_little_memory(tokenizer):
    compute = failing("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    with pytest.raises(UserError, match=r"8 × 16 tokens .* \(batch_size is 8\); make it less than 8"):
        list(run(compute, tokenizer, named(["ACGT"]), Plan(batch_size=8)))
    with pytest.raises(UserError, match=r"1 × 16 tokens .* \(batch_size is 1\); compute in smaller windows"):
        list(run(compute, tokenizer, named(["ACGT"]), Plan(batch_size=1)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(run(failing("INTERNAL: a fault"), tokenizer, named(["ACGT"]), Plan()))


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_holds_something(batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size}; it must be at least 1"):
        Plan(batch_size=batch_size)


def test_no_sequences(tokenizer):
    assert list(run(id_sums, tokenizer, [], Plan())) == []
