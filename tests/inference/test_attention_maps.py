"""Attention maps and the states of all layers: against the model itself and plain NumPy."""

import numpy as np
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.kernels.alibi import alibi_slopes

IDS = np.array([[1, 7, 9, 12, 30, 2, 3, 3], [1, 5, 6, 8, 40, 41, 42, 2]], np.int32)
MASK = np.array([[1] * 6 + [0] * 2, [1] * 8], np.int32)


@pytest.fixture(scope="module")
def model(tiny_model):
    return from_pretrained(tiny_model, dtype="float64")


def test_a_row_sums_to_one_over_real_tokens_and_is_zero_at_padding(model):
    maps = np.asarray(model.attention_maps(IDS, MASK))
    layers, heads = (
        model.description.architecture.num_hidden_layers,
        model.description.architecture.num_attention_heads,
    )
    assert maps.shape == (layers, 2, heads, 8, 8)
    np.testing.assert_allclose(
        maps.sum(-1), np.broadcast_to(MASK[None, :, None, :], maps.shape[:-1]), atol=1e-12
    )
    assert not maps[:, 0, :, :, 6:].any()


def test_maps_are_the_softmax_of_scores_with_the_alibi_bias(model):
    a = model.description.architecture
    states = np.asarray(model.hidden_states(IDS, MASK, all_layers=True))
    maps = np.asarray(model.attention_maps(IDS, MASK))
    distance = np.abs(np.arange(8)[:, None] - np.arange(8))
    bias = -(alibi_slopes(a.num_attention_heads)[:, None, None] * distance.astype(np.float32))
    for layer in range(a.num_hidden_layers):
        name = f"encoder.blocks.{layer}.attention.qkv"
        kernel, offset = (np.asarray(model.parameters[f"{name}.{leaf}"]) for leaf in ("kernel", "bias"))
        packed = (states[layer] @ kernel + offset).reshape(2, 8, 3, a.num_attention_heads, a.head_width)
        scores = np.einsum("bihd,bjhd->bhij", packed[:, :, 0], packed[:, :, 1]) / np.sqrt(a.head_width) + bias
        scores = np.where(MASK[:, None, None, :] == 1, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True) * MASK[:, None, :, None]
        np.testing.assert_allclose(maps[layer], weights, atol=1e-12)


def test_the_last_of_all_layers_is_the_hidden_states(model):
    states = np.asarray(model.hidden_states(IDS, MASK, all_layers=True))
    assert states.shape[0] == model.description.architecture.num_hidden_layers + 1
    np.testing.assert_array_equal(states[-1], np.asarray(model.hidden_states(IDS, MASK)))
    assert not states[:, 0, 6:].any()


def test_the_first_of_all_layers_is_the_normalised_embeddings(model):
    first = np.asarray(model.hidden_states(IDS, MASK, all_layers=True))[0]
    np.testing.assert_allclose(first[MASK == 1].mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(first[MASK == 1].std(-1), 1, atol=1e-6)


def test_layers_are_chosen_by_number(model):
    every = np.asarray(model.attention_maps(IDS, MASK))
    np.testing.assert_array_equal(np.asarray(model.attention_maps(IDS, MASK, layers=[-1]))[0], every[-1])
    np.testing.assert_array_equal(np.asarray(model.attention_maps(IDS, MASK, layers=[1, 0])), every[[1, 0]])


@pytest.mark.parametrize("layers", [[99], [-99], []])
def test_a_layer_that_is_not_there_is_refused(model, layers):
    with pytest.raises(UserError, match="layer"):
        model.attention_maps(IDS, MASK, layers=layers)


def test_token_types_reach_the_masked_language_model_head(model):
    types = np.zeros_like(IDS)
    types[:, 4:] = 1
    plain, typed = (np.asarray(model.mlm_logits(IDS, MASK, kind)) for kind in (np.zeros_like(IDS), types))
    np.testing.assert_array_equal(plain, np.asarray(model.mlm_logits(IDS, MASK)))
    assert np.abs(plain - typed).max() > 1e-6
