"""Dense, layer norm and dropout against float64 NumPy, autodiff and the binomial distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert2_jax.model.layers import Dense, LayerNorm, Layout, dropout, matmul, split_key

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("shape", [(5, 12), (2, 7, 12), (2, 3, 4, 12)])
def test_matmul_and_its_gradients_are_those_of_autodiff(shape):
    x, kernel, dy = (RNG.standard_normal(size) for size in (shape, (12, 9), (*shape[:-1], 9)))
    with jax.enable_x64(True):
        ours, ours_back = jax.vjp(matmul, jnp.asarray(x), jnp.asarray(kernel))
        plain, plain_back = jax.vjp(lambda x, kernel: x @ kernel, jnp.asarray(x), jnp.asarray(kernel))
        np.testing.assert_allclose(ours, plain, rtol=1e-13, atol=1e-13)
        for ours_gradient, gradient in zip(
            ours_back(jnp.asarray(dy)), plain_back(jnp.asarray(dy)), strict=True
        ):
            assert ours_gradient.dtype == jnp.float64
            np.testing.assert_allclose(ours_gradient, gradient, rtol=1e-13, atol=1e-13)


def test_matmul_in_bfloat16_keeps_the_kernel_and_its_gradient_in_float32():
    x = jnp.asarray(RNG.standard_normal((2, 16, 64)), jnp.bfloat16)
    kernel = jnp.asarray(RNG.standard_normal((64, 8)), jnp.float32)
    y, back = jax.vjp(matmul, x, kernel)
    dx, dkernel = back(jnp.ones_like(y))
    assert (y.dtype, dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    # The kernel is rounded to 8 bits, and so is the sum: two errors of 2^-9 in sums of 64 terms.
    size = np.abs(np.asarray(x, np.float64)) @ np.abs(np.asarray(kernel, np.float64))
    assert (np.abs(np.asarray(y, np.float64) - exact) <= 2 * 2.0**-9 * size).all()
    exact_dkernel = np.asarray(x, np.float64).reshape(32, 64).sum(axis=0)
    np.testing.assert_allclose(
        dkernel[:, 0], exact_dkernel, rtol=0, atol=2.0**-8 * np.abs(exact_dkernel).max()
    )


def test_dense_adds_its_bias(rngs):
    dense = Dense(6, 4, std=0.5, rngs=rngs)
    assert dense.bias is not None
    dense.bias[...] = jnp.arange(4.0)
    x = jnp.asarray(RNG.standard_normal((3, 6)), jnp.float32)
    expected = np.asarray(x, np.float64) @ np.asarray(dense.kernel[...], np.float64) + np.arange(4)
    np.testing.assert_allclose(dense(x), expected, atol=1e-5)
    assert Dense(6, 4, std=0.5, use_bias=False, rngs=rngs).bias is None


def test_initial_kernels_have_the_asked_spread(rngs):
    kernel = np.asarray(Dense(200, 300, std=0.02, rngs=rngs).kernel[...], np.float64)
    # The relative error of a standard deviation from n draws is 1 / sqrt(2 n): 0.3 %; five of those.
    assert kernel.std() == pytest.approx(0.02, rel=5 / np.sqrt(2 * kernel.size))
    assert abs(kernel.mean()) < 5 * 0.02 / np.sqrt(kernel.size)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float64, 1e-12), (jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)]
)
def test_layer_norm(dtype, tolerance):
    with jax.enable_x64(True):
        x = jnp.asarray(3 + 2 * RNG.standard_normal((4, 5, 48)), dtype)
        norm = LayerNorm(48, epsilon=1e-12)
        wide = np.float64 if dtype == jnp.float64 else np.float32
        scale, bias = (RNG.standard_normal(48).astype(wide) for _ in range(2))
        norm.scale[...], norm.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
        y = norm(x)
    exact = np.asarray(x, np.float64)
    centred = exact - exact.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12) * scale + bias
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0, atol=tolerance * 3)


def test_layer_norm_survives_a_large_mean_and_a_constant_row():
    norm = LayerNorm(64, epsilon=1e-12)
    x = 1000 + RNG.standard_normal((2, 64)).astype(np.float32)
    exact = x.astype(np.float64) - x.astype(np.float64).mean(axis=-1, keepdims=True)
    # A one-pass variance would have lost all its digits here; two passes lose those of the mean, 1e3 * 6e-8.
    np.testing.assert_allclose(norm(jnp.asarray(x)), exact / exact.std(axis=-1, keepdims=True), atol=1e-3)
    assert (np.asarray(norm(jnp.ones((1, 64)))) == 0).all()


def test_layer_norm_gives_the_type_that_is_asked_for():
    assert LayerNorm(8, epsilon=1e-12)(jnp.ones((2, 8)), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_the_asked_share_and_keeps_the_mean(rate):
    x = jnp.ones((1000, 1000))
    y = np.asarray(dropout(x, rate, jax.random.key(3)), np.float64)
    # Five standard deviations of a binomial share of a million draws; the rate itself is met to 2^-17.
    assert (y == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate)) / 1000 + 2.0**-17)
    kept = y[y != 0]
    assert kept.max() == kept.min() == pytest.approx(1 / (1 - rate), rel=1e-4)
    assert y.mean() == pytest.approx(1, abs=5 * np.sqrt(rate / (1 - rate)) / 1000)


def test_dropout_is_a_pure_function_of_its_key():
    x = jnp.ones((64, 64))
    first = dropout(x, 0.3, jax.random.key(1))
    np.testing.assert_array_equal(first, dropout(x, 0.3, jax.random.key(1)))
    assert (first != dropout(x, 0.3, jax.random.key(2))).any()


@pytest.mark.parametrize("lag", [(0, 1), (0, 2), (0, 64), (1, 0), (7, 3)])
def test_what_is_dropped_does_not_hang_together(lag):
    drawn = np.asarray(dropout(jnp.ones((512, 768)), 0.3, jax.random.key(5))) > 0
    other = np.roll(drawn, lag, axis=(0, 1))
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 4 / drawn.size**0.5


@pytest.mark.parametrize(
    "other", [jax.random.key(6), jax.random.fold_in(jax.random.key(5), 1)], ids=["another", "folded"]
)
def test_what_is_dropped_with_two_keys_does_not_hang_together(other):
    first, second = (
        np.asarray(dropout(jnp.ones((512, 768)), 0.3, key)) > 0 for key in (jax.random.key(5), other)
    )
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / first.size**0.5


def test_dropout_is_off_without_a_key_or_a_rate():
    x = jnp.ones((3, 3))
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_dropout_keeps_the_type():
    assert dropout(jnp.ones((4, 4), jnp.bfloat16), 0.5, jax.random.key(0)).dtype == jnp.bfloat16


def test_what_a_row_drops_with_a_key_of_its_own_does_not_depend_on_the_others():
    x = jnp.ones((6, 50, 8))
    keys = jax.random.split(jax.random.key(3), 6)
    together = dropout(x, 0.3, keys)
    np.testing.assert_array_equal(dropout(x[2:4], 0.3, keys[2:4]), together[2:4])
    assert (np.asarray(together[0]) != np.asarray(together[1])).any()
    for row, of_rows in enumerate(zip(*split_key(keys, 3), strict=True)):
        for ours, alone in zip(of_rows, split_key(keys[row], 3), strict=True):
            np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(alone))


def test_outputs_in_parts_are_the_same_outputs():
    x, kernel, dy = (jnp.asarray(RNG.standard_normal(size)) for size in ((2, 5, 8), (8, 12), (2, 5, 12)))
    plain, plain_back = jax.vjp(matmul, x, kernel)
    parts, parts_back = jax.vjp(lambda x, kernel: matmul(x, kernel, Layout(parts=3)), x, kernel)
    np.testing.assert_array_equal(parts, plain.reshape(2, 5, 3, 4))
    for ours, theirs in zip(parts_back(dy.reshape(2, 5, 3, 4)), plain_back(dy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
