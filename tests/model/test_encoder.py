"""Padding and packing never change a result, and dropout acts where it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import merge, split

LENGTHS = (9, 17)


@pytest.fixture(scope="module")
def model(tiny_architecture):
    """(graph, parameters) of a masked-language model in float64."""
    graph, parameters = split(ModelDescription(tiny_architecture).build(nnx.Rngs(3)))
    return graph, {name: np.asarray(array, np.float64) for name, array in parameters.items()}


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 64, length, dtype=np.int32) for length in LENGTHS]


def scores_and_gradients(model, input_ids, segment_ids):
    """Logits of every token, and the gradient of a sum over the real ones that weighs all differently."""
    graph, parameters = model

    def loss(parameters):
        network = merge(graph, parameters)
        logits = network.logits(network.encoder(input_ids, segment_ids, dtype=jnp.float64))
        weights = jnp.sin(jnp.arange(logits.shape[-1]) + jnp.asarray(input_ids)[:, :, None])
        real = (jnp.asarray(segment_ids) != 0)[:, :, None]
        return jnp.where(real, logits * weights, 0).sum(), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    return np.asarray(logits), {name: np.asarray(array) for name, array in gradients.items()}


def test_alone_padded_and_packed_agree(model, rows):
    with jax.enable_x64(True):
        alone = [scores_and_gradients(model, row[None], np.ones((1, len(row)), np.int32)) for row in rows]
        expected_gradients = {name: sum(gradients[name] for _, gradients in alone) for name in model[1]}

        padded_ids = np.full((2, 24), 3, np.int32)
        padded_segments = np.zeros((2, 24), np.int32)
        for place, row in enumerate(rows):
            padded_ids[place, : len(row)] = row
            padded_segments[place, : len(row)] = 1
        padded, padded_gradients = scores_and_gradients(model, padded_ids, padded_segments)

        filling = np.full(5, 3, np.int32)
        packed_ids = np.concatenate([*rows, filling])[None]
        packed_segments = np.repeat([1, 2, 0], [*LENGTHS, 5]).astype(np.int32)[None]
        packed, packed_gradients = scores_and_gradients(model, packed_ids, packed_segments)

    starts = np.cumsum((0, *LENGTHS))
    for place, (logits, _) in enumerate(alone):
        length = LENGTHS[place]
        np.testing.assert_allclose(padded[place, :length], logits[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            packed[0, starts[place] : starts[place] + length], logits[0], rtol=0, atol=1e-12
        )
    for gradients in (padded_gradients, packed_gradients):
        for name, expected in expected_gradients.items():
            np.testing.assert_allclose(gradients[name], expected, rtol=0, atol=1e-10, err_msg=name)


def test_what_stands_at_padding_does_not_matter(model, rows):
    graph, parameters = model
    segments = np.array([[1] * 9 + [0] * 3], np.int32)
    with jax.enable_x64(True):
        encode = jax.jit(
            lambda parameters, ids: merge(graph, parameters).encoder(ids, segments, dtype=jnp.float64)
        )
        fillings = [np.full(3, token, np.int32) for token in (3, 40)]
        hidden = [encode(parameters, np.concatenate([rows[0], filling])[None]) for filling in fillings]
    np.testing.assert_array_equal(*hidden)
    assert (np.asarray(hidden[0])[0, 9:] == 0).all()


def test_a_row_of_padding_alone_is_zero_and_disturbs_no_gradient(model, rows):
    ids = np.stack([rows[0], rows[0]])
    with jax.enable_x64(True):
        logits, gradients = scores_and_gradients(model, ids, np.array([[1] * 9, [0] * 9], np.int32))
        alone, alone_gradients = scores_and_gradients(model, ids[:1], np.ones((1, 9), np.int32))
    np.testing.assert_allclose(logits[0], alone[0], rtol=0, atol=1e-12)
    for name, expected in alone_gradients.items():
        np.testing.assert_allclose(gradients[name], expected, rtol=0, atol=1e-12, err_msg=name)


def test_token_types_default_to_zero(model, rows):
    graph, parameters = model
    ids = rows[0][None]
    encoder = merge(
        graph, {name: jnp.asarray(array, jnp.float32) for name, array in parameters.items()}
    ).encoder
    plain = encoder(ids)
    np.testing.assert_array_equal(plain, encoder(ids, None, np.zeros_like(ids)))
    assert np.abs(plain - encoder(ids, None, np.ones_like(ids))).max() > 0.01


def test_dropout_depends_on_its_key_alone_and_averages_out(model, rows):
    graph, parameters = model
    network = merge(graph, {name: jnp.asarray(array, jnp.float32) for name, array in parameters.items()})

    @jax.jit
    def encode(key):
        return network.encoder(rows[1][None], dropout_key=key)

    plain = network.encoder(rows[1][None])
    first = encode(jax.random.key(1))
    np.testing.assert_array_equal(first, encode(jax.random.key(1)))
    assert np.abs(first - encode(jax.random.key(2))).max() > 0.1
    draws = np.stack([encode(jax.random.key(seed)) for seed in range(400)])
    # The mean of 400 draws of spread about 0.4 wanders by 0.02; norms after dropout bend it a little more.
    assert np.abs(draws.mean(axis=0) - plain).mean() < 0.1


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_rows(model, length):
    graph, parameters = model
    network = merge(graph, {name: jnp.asarray(array, jnp.float32) for name, array in parameters.items()})
    hidden = network.encoder(jnp.full((1, length), 7, jnp.int32))
    assert hidden.shape == (1, length, 32)
    assert np.isfinite(hidden).all()


def test_split_and_merge_are_inverses(model):
    graph, parameters = model
    again_graph, again = split(merge(graph, parameters))
    assert again_graph == graph
    assert again.keys() == parameters.keys()
    assert all(np.array_equal(again[name], array) for name, array in parameters.items())
    assert "encoder.blocks.1.attention.qkv.kernel" in again
