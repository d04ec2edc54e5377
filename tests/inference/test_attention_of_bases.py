"""Attention of one sequence: tokens with their places, and what the tokens over a base attend to, by base."""

import numpy as np
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference import attention_maps
from dnabert2_jax.inference.attention_maps import AttentionMap, attention_from, attention_map
from dnabert2_jax.inference.loading import from_pretrained

SEQUENCE = "GATTACAGGCATNGATCCGTTAAGC"


@pytest.fixture(scope="module")
def model(tiny_model):
    return from_pretrained(tiny_model)


def test_weights_are_those_of_the_model_and_tokens_have_places(model):
    found = attention_map(model, SEQUENCE)
    ids = model.tokenizer.encode(SEQUENCE)
    expected = np.asarray(model.attention_maps(ids[None]))[:, 0]
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)
    assert found.layers == (0, 1)
    assert found.tokens[0] == "[CLS]"
    assert found.tokens[-1] == "[SEP]"
    texts = [SEQUENCE[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
    assert "".join(texts) == SEQUENCE
    for token, text in zip(found.tokens[1:-1], texts[1:-1], strict=True):
        assert token == text or (token, text) == ("[UNK]", "N")


def test_what_a_base_attends_to(model):
    found = attention_map(model, SEQUENCE, layers=[-1])
    assert found.layers == (1,)
    centre = 9
    (token,) = (n for n, (a, b) in enumerate(zip(found.starts, found.ends, strict=True)) if a <= centre < b)
    weights = attention_from(found, centre, 0, len(SEQUENCE))
    for place in range(len(SEQUENCE)):
        (other,) = (
            n for n, (a, b) in enumerate(zip(found.starts, found.ends, strict=True)) if a <= place < b
        )
        expected = found.weights[0, :, token, other] / (found.ends[other] - found.starts[other])
        np.testing.assert_allclose(weights[0, :, place], expected, rtol=1e-5)
    special = found.weights[0, :, token, [0, -1]].sum(axis=0)
    np.testing.assert_allclose(weights[0].sum(axis=-1), 1 - special, atol=1e-5)
    np.testing.assert_array_equal(attention_from(found, centre, 5, 8), weights[:, :, 5:8])


def test_what_takes_too_much_memory_is_refused(model, monkeypatch):
    monkeypatch.setattr(attention_maps, "_LARGEST", 1 << 10)
    with pytest.raises(UserError, match=r"tokens in 2 layers takes .* GiB; give shorter sequences"):
        attention_map(model, SEQUENCE)
    with pytest.raises(UserError, match="no layer 7"):
        attention_map(model, SEQUENCE, layers=[7])


def test_nothing_lies_over_a_base_without_a_token():
    weights, spans = np.full((1, 2, 2, 2), 0.5, np.float32), np.zeros((2, 2), int)
    nothing = AttentionMap(weights, (0,), ["[CLS]", "[SEP]"], *spans)
    np.testing.assert_array_equal(attention_from(nothing, 0, 0, 3), np.zeros((1, 2, 3)))
