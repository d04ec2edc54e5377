"""A loaded model against the released code's results, and what must hold of any model's results."""

import json

import jax
import numpy as np
import pytest

import dnabert2_jax
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.loading import from_pretrained


@pytest.fixture(scope="module")
def released(shared):
    """(folder, sequences, results) of a classifier that the released code wrote and ran in float64."""
    folder = shared / "golden" / "hf_tiny_cls"
    return folder, json.loads((folder / "sequences.json").read_text()), dict(np.load(folder / "expected.npz"))


@pytest.fixture(scope="module")
def model(tiny_model):
    return from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    """Between none and 900 letters, in no order of length."""
    rng = np.random.default_rng(4)
    lengths = [60, 0, 900, 1, 300, 2, 61, 60, 450, 5]
    return ["".join(rng.choice(list("ACGT"), length)) for length in lengths]


# In float64 the stored float32 results are what limits the agreement: 6e-8 of numbers below 5.
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("float64", 2e-6)])
def test_released_classifier(released, dtype, bound):
    folder, sequences, expected = released
    model = from_pretrained(folder, dtype=dtype)
    batch = model.tokenizer.encode_batch(sequences)
    np.testing.assert_array_equal(batch.input_ids, expected["input_ids"])
    np.testing.assert_array_equal(batch.attention_mask, expected["attention_mask"])

    hidden = np.asarray(model.hidden_states(batch.input_ids, batch.attention_mask))
    assert hidden.dtype == dtype
    np.testing.assert_allclose(hidden, expected["last_hidden_state"], rtol=0, atol=bound)
    assert (hidden[batch.attention_mask == 0] == 0).all()
    np.testing.assert_allclose(model.embed(sequences), expected["mean_embedding"], rtol=0, atol=bound)

    odds = np.exp(expected["logits"].astype(np.float64))
    np.testing.assert_allclose(
        model.predict(sequences), odds / odds.sum(axis=1, keepdims=True), rtol=0, atol=bound
    )
    assert model.class_names == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_bfloat16_stays_near_float32(released):
    folder, sequences, expected = released
    model = from_pretrained(folder, dtype="bfloat16")
    batch = model.tokenizer.encode_batch(sequences)
    hidden = np.asarray(model.hidden_states(batch.input_ids, batch.attention_mask))
    assert hidden.dtype == np.float32
    real = batch.attention_mask == 1
    error = (hidden - expected["last_hidden_state"])[real]
    # Each of 2 layers rounds its activations about ten times to 8 bits (2^-9 relative, uniform in it): errors
    # of independent roundings add up in squares to sqrt(20) 2^-9 / sqrt(3), half a percent; twice that.
    assert np.sqrt((error**2).mean()) < 0.01 * expected["last_hidden_state"][real].std()


def test_the_package_offers_the_loader(tiny_model):
    assert dnabert2_jax.from_pretrained(tiny_model).embed(["ACGT"]).shape == (1, 32)


def test_neither_order_nor_batches_change_a_vector(model, sequences):
    vectors = model.embed(sequences)
    assert vectors.shape == (len(sequences), 32)
    assert vectors.dtype == np.float32
    shuffled = np.random.default_rng(0).permutation(len(sequences))
    again = model.embed([sequences[index] for index in shuffled])
    # Sums over up to 900 tokens in another order: some tens of float32 roundings of numbers of size 1.
    np.testing.assert_allclose(again, vectors[shuffled], rtol=0, atol=5e-6)
    np.testing.assert_allclose(model.embed(sequences, batch_size=3), vectors, rtol=0, atol=5e-6)
    for index in (1, 2, 3):
        np.testing.assert_allclose(
            model.embed([sequences[index]]), vectors[index : index + 1], rtol=0, atol=5e-6
        )


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_counts_real_tokens_only(model, sequences, pooling):
    vectors = model.embed(sequences, pooling=pooling)
    for sequence, vector in zip(sequences[:4], vectors, strict=False):
        hidden = np.asarray(model.hidden_states(model.tokenizer.encode(sequence)[None]))[0]
        pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "max": hidden.max(axis=0)}[pooling]
        np.testing.assert_allclose(vector, pooled, rtol=0, atol=5e-6)


def test_both_strands_are_averaged(model, sequences):
    averaged = model.embed(sequences, reverse_complement=True)
    opposite = model.embed([reverse_complement(sequence) for sequence in sequences])
    np.testing.assert_allclose(averaged, (model.embed(sequences) + opposite) / 2, rtol=0, atol=1e-6)
    swapped = model.embed([reverse_complement(sequence) for sequence in sequences], reverse_complement=True)
    np.testing.assert_allclose(swapped, averaged, rtol=0, atol=5e-6)


def test_a_generator_of_sequences_will_do(model, sequences):
    for both in (False, True):
        np.testing.assert_array_equal(
            model.embed((sequence for sequence in sequences[:4]), reverse_complement=both),
            model.embed(sequences[:4], reverse_complement=both),
        )


def test_a_second_call_compiles_nothing(model, sequences, caplog):
    model.embed(sequences)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        model.embed(sequences[::-1])
    assert [record.message for record in caplog.records if record.message.startswith("Compiling")] == []


def test_no_sequences(model):
    assert model.embed([]).shape == (0, 32)
    assert model.embed([], reverse_complement=True).shape == (0, 32)


def test_a_sequence_of_thousands_of_tokens(model):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 8_000))
    assert len(model.tokenizer.encode(sequence)) > 3_000
    (vector,) = model.embed([sequence], batch_size=1)
    hidden = np.asarray(model.hidden_states(model.tokenizer.encode(sequence)[None]), np.float64)
    np.testing.assert_allclose(vector, hidden[0].mean(axis=0), rtol=0, atol=5e-6)


def test_letters_that_are_no_bases_still_give_a_vector(model):
    vectors = model.embed(["NNNN", "acgt", "ACGT", ""])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[1], vectors[2], rtol=0, atol=1e-6)


def test_saving_and_loading_keeps_every_bit(model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    again = from_pretrained(tmp_path / "copy")
    assert again.description == model.description
    assert again.tokenizer.tokens == model.tokenizer.tokens
    assert again.parameters.keys() == model.parameters.keys()
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)
    again.save_pretrained(tmp_path / "copy")  # what is there gives way
    names = {"README.md", "config.json", "model.safetensors"}
    names |= {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_saving_replaces_nothing_but_a_model(model, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"work: holds thesis\.txt, and a model would replace the folder"):
        model.save_pretrained(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.txt"]


def test_numbers_are_stored_as_floating_point(model, tmp_path):
    with pytest.raises(UserError, match="dtype is 'int8'; a model is stored in float32, bfloat16, float16"):
        model.save_pretrained(tmp_path / "copy", dtype="int8")
    assert not list(tmp_path.iterdir())


def test_masked_language_model_logits_need_that_head(released, model):
    ids = model.tokenizer.encode("ACGTACGT")[None]
    assert model.mlm_logits(ids).shape == (1, ids.shape[1], 64)
    with pytest.raises(UserError, match="has no masked-language-model head"):
        from_pretrained(released[0]).mlm_logits(ids)


IDS = np.array([[1, 5, 2], [1, 6, 2]])


@pytest.mark.parametrize(
    ("input_ids", "attention_mask", "complaint"),
    [
        (IDS + 58, None, "input_ids holds 64; this model has 0 to 63"),
        (IDS - 2, None, "input_ids holds -1; this model has 0 to 63"),
        (IDS[0], None, r"input_ids has shape \(3,\); it must be \[sequences, tokens\]"),
        (IDS[:, :0], None, r"input_ids has shape \(2, 0\)"),
        (IDS[:0], None, r"input_ids has shape \(0, 3\)"),
        (IDS / 2, None, "input_ids has the type float64; it must hold integers"),
        ([[1, 2], [1, 5, 2]], None, "input_ids has rows of different lengths"),
        (IDS, np.ones((2, 4), int), r"attention_mask has shape \(2, 4\) and input_ids \(2, 3\)"),
        (IDS, np.ones(3, int), r"attention_mask has shape \(3,\)"),
        (IDS, np.ones((2, 3)), "attention_mask has the type float64"),
    ],
)
def test_arrays_that_are_no_batch(model, input_ids, attention_mask, complaint):
    for call in (model.hidden_states, model.mlm_logits):
        with pytest.raises(UserError, match=complaint):
            call(input_ids, attention_mask)


def test_token_types_that_the_model_lacks(model):
    with pytest.raises(UserError, match="token_type_ids holds 2; this model has 0 to 1"):
        model.hidden_states(IDS, token_type_ids=np.full_like(IDS, 2))
    with pytest.raises(UserError, match="token_type_ids has shape"):
        model.hidden_states(IDS, token_type_ids=np.zeros(3, int))


def test_lists_and_truth_values_are_arrays_too(model):
    expected = model.hidden_states(IDS, np.array([[1, 1, 1], [1, 1, 0]]))
    found = model.hidden_states(IDS.tolist(), [[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(found, expected)


def test_predictions_need_classes(model):
    with pytest.raises(UserError, match="was not fine-tuned"):
        model.predict(["ACGT"])


def test_requests_that_make_no_sense(model, tiny_model):
    with pytest.raises(UserError, match="pooling is 'sum'"):
        model.embed(["ACGT"], pooling="sum")
    with pytest.raises(UserError, match="dtype is 'float8'"):
        from_pretrained(tiny_model, dtype="float8")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="one string"):
        model.embed("ACGT")
    for stranger in (float("nan"), None, b"ACGT", ("A", "C", "G"), ("A", 1)):
        with pytest.raises(UserError, match=r"sequence 2: is .*; it must be text, or a pair of texts"):
            model.embed(["ACGT", stranger])
    with pytest.raises(UserError, match="batch_size is 0"):
        model.embed(["ACGT"], batch_size=0)
