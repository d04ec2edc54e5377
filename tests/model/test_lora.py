"""Adapters: which layers get one, what they add and learn in float64, and that merging changes nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.layers import LowRankAdapter
from dnabert2_jax.model.lora import (
    abstract_adapted,
    adapted_modules,
    build_adapted,
    dense_modules,
    is_adapter,
    merge_adapters,
    unmerge_adapters,
)
from dnabert2_jax.model.lora_settings import Lora, select_modules
from dnabert2_jax.model.parameters import merge, split

RNG = np.random.default_rng(0)
ALL_FOUR = ("Wqkv", "dense", "gated_layers", "wo")
IDS = RNG.integers(5, 64, (3, 11)).astype(np.int32)
MASK = (np.arange(11) < np.array([[11], [7], [9]])).astype(np.int32)


@pytest.fixture
def description(tiny_architecture):
    return ModelDescription(tiny_architecture, ("no", "yes"))


def adapted(description, lora, *, trained=True):
    """Graph and parameters; b is no longer zero where the adapters are trained."""
    graph, parameters = split(build_adapted(description, lora, nnx.Rngs(0)))
    if trained:
        parameters |= {
            name: jnp.asarray(RNG.normal(scale=0.3, size=array.shape), array.dtype)
            for name, array in parameters.items()
            if name.endswith(".lora.b")
        }
    return graph, parameters


def logits_of(graph, parameters, key=None):
    model = merge(graph, parameters)
    keys = (None, None) if key is None else jax.random.split(key)
    dtype = parameters["classifier.kernel"].dtype
    return model.logits(model.encoder(IDS, MASK, dtype=dtype, dropout_key=keys[0]), dropout_key=keys[1])


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (("Wqkv",), ["attention.qkv"]),
        (("self.Wqkv", "mlp.wo"), ["attention.qkv", "feed_forward.output"]),
        (("dense",), ["attention.output"]),
        (ALL_FOUR, ["attention.output", "attention.qkv", "feed_forward.gated", "feed_forward.output"]),
        (r".*\.mlp\.\w+", ["feed_forward.gated", "feed_forward.output"]),
    ],
)
def test_patterns_speak_of_released_names(description, targets, layers):
    _, shapes = abstract_adapted(description, Lora(targets=targets))
    expected = [f"encoder.blocks.{block}.{layer}" for block in range(2) for layer in layers]
    assert sorted(adapted_modules(shapes)) == expected


def test_a_whole_name_and_an_expression_can_choose_one_layer(description):
    one = "bert.encoder.layer.1.attention.self.Wqkv"
    for targets in ((one,), r"bert\.encoder\.layer\.1\..*Wqkv"):
        _, shapes = abstract_adapted(description, Lora(targets=targets))
        assert adapted_modules(shapes) == ["encoder.blocks.1.attention.qkv"]


def test_dense_is_the_head_of_a_masked_language_model_too(tiny_architecture):
    _, shapes = abstract_adapted(ModelDescription(tiny_architecture), Lora(targets=("dense",)))
    assert "head.dense" in adapted_modules(shapes)


def test_modules_are_chosen_as_peft_chooses_them():
    names = ["bert.x.Wqkv", "bert.x.notWqkv", "Wqkv", "bert.pooler.dense", "classifier", "bert.x.wo"]
    assert select_modules(["Wqkv"], names, (), "here") == ["bert.x.Wqkv", "Wqkv"]
    assert select_modules(["wo", "dense"], names, (), "here") == ["bert.pooler.dense", "bert.x.wo"]
    with pytest.raises(UserError, match="'dense' matches no dense layer"):
        select_modules(["wo", "dense"], names, ("pooler", "classifier"), "here")


@pytest.mark.parametrize("targets", [("query", "value"), ("Wqkv", "Wqk"), ("classifier",), "Wqkv", ("qkv",)])
def test_a_pattern_that_matches_nothing_names_what_there_is(description, targets):
    with pytest.raises(UserError) as raised:
        abstract_adapted(description, Lora(targets=targets))
    assert "matches no dense layer; there are Wqkv, dense, gated_layers, wo, such as bert." in str(
        raised.value
    )


def test_patterns_that_are_none(description):
    with pytest.raises(UserError, match="names no layers to adapt"):
        abstract_adapted(description, Lora(targets=()))
    with pytest.raises(UserError, match=r"'\(' is not a regular expression"):
        abstract_adapted(description, Lora(targets="("))


def test_an_adapter_is_its_formula_and_starts_as_peft_starts_it():
    adapter = LowRankAdapter(300, 40, rank=8, scale=1.5, dropout_rate=0.0, rngs=nnx.Rngs(0))
    a = np.asarray(adapter.a[...], np.float64)
    assert a.shape == (300, 8)
    assert np.abs(a).max() == pytest.approx(300**-0.5, rel=1e-2)
    # A uniform distribution within ± w has the deviation w / √3; five errors of 2,400 draws.
    assert a.std() == pytest.approx((300 * 3) ** -0.5, rel=5 / np.sqrt(2 * a.size))
    assert (np.asarray(adapter.b[...]) == 0).all()
    adapter.b[...] = jnp.asarray(RNG.standard_normal((8, 40)), jnp.float32)
    x = RNG.standard_normal((5, 300)).astype(np.float32)
    expected = 1.5 * x.astype(np.float64) @ a @ np.asarray(adapter.b[...], np.float64)
    np.testing.assert_allclose(adapter(jnp.asarray(x), None), expected, atol=1e-5)
    assert adapter(jnp.asarray(x, jnp.bfloat16), None).dtype == jnp.bfloat16


def test_the_start_is_the_base_model_bit_by_bit_with_dropout_too(description):
    """Which also says that adapters leave the draws of the model's own dropout alone."""
    lora = Lora(targets=ALL_FOUR, dropout=0.5)
    base_graph, base = split(description.build(nnx.Rngs(0)))
    graph, parameters = adapted(description, lora, trained=False)
    assert {name for name in parameters if not is_adapter(name)} == set(base)
    for name, array in base.items():
        np.testing.assert_array_equal(parameters[name], array)
    for key in (None, jax.random.key(3)):
        np.testing.assert_array_equal(logits_of(graph, parameters, key), logits_of(base_graph, base, key))


def test_the_adapters_of_every_layer_drop_inputs_when_there_is_a_key(description):
    for target in ALL_FOUR:
        outcomes = []
        for rate in (0.0, 0.5):
            lora = Lora(targets=(target,), dropout=rate)
            graph, parameters = split(build_adapted(description, lora, nnx.Rngs(0)))
            ones = {n: jnp.ones_like(a) for n, a in parameters.items() if n.endswith(".lora.b")}
            outcomes.append(logits_of(graph, parameters | ones, jax.random.key(1)))
            without_key = logits_of(graph, parameters | ones)
        assert (outcomes[0] != outcomes[1]).any()
        assert (outcomes[1] != without_key).any()


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 2e-5), (True, 1e-13)])
def test_merged_and_unmerged_models_give_the_same(description, x64, tolerance):
    with jax.enable_x64(x64):
        lora = Lora(targets=ALL_FOUR, alpha=12.0)
        graph, parameters = adapted(description, lora)
        plain_graph, shapes = description.abstract()
        before = {name: np.array(array) for name, array in parameters.items()}
        merged = merge_adapters(parameters, lora.scale)
        assert set(merged) == set(shapes)
        expected = logits_of(graph, parameters)
        assert (
            np.abs(expected - logits_of(plain_graph, {n: jnp.asarray(before[n]) for n in shapes})).max() > 0.1
        )
        np.testing.assert_allclose(logits_of(plain_graph, merged), expected, atol=tolerance, rtol=0)

        again = unmerge_adapters(merged, parameters, lora.scale)
        assert set(again) == set(parameters)
        np.testing.assert_allclose(logits_of(graph, again), expected, atol=tolerance, rtol=0)
        for name, array in before.items():
            np.testing.assert_array_equal(parameters[name], array)
            is_touched = any(name == f"{module}.kernel" for module in adapted_modules(parameters))
            error = np.abs(np.asarray(again[name]) - array).max()
            # Two roundings, each of at most half an ulp of the merged kernel.
            assert error <= (np.finfo(array.dtype).eps * np.abs(merged[name]).max() if is_touched else 0)


def test_gradients_follow_from_those_of_the_merged_kernel_and_from_differences(description):
    """With G the gradient of the merged kernel, a has s·G·bᵀ and b has s·aᵀ·G."""
    with jax.enable_x64(True):
        lora = Lora(targets=ALL_FOUR, rank=3, alpha=5.0)
        graph, parameters = adapted(description, lora)
        plain_graph, _ = description.abstract()
        weights = jnp.asarray(RNG.standard_normal((3, 2)))

        def loss_of(parameters):
            return (jnp.tanh(logits_of(graph, parameters)) * weights).sum()

        def merged_loss_of(merged):
            return (jnp.tanh(logits_of(plain_graph, merged)) * weights).sum()

        gradients = jax.jit(jax.grad(loss_of))(parameters)
        dense = jax.jit(jax.grad(merged_loss_of))(merge_adapters(parameters, lora.scale))
        for module in adapted_modules(parameters):
            a, b = (np.asarray(parameters[f"{module}.lora.{half}"]) for half in "ab")
            whole = np.asarray(dense[f"{module}.kernel"])
            expected = {"a": lora.scale * whole @ b.T, "b": lora.scale * a.T @ whole}
            for half, values in expected.items():
                found = gradients[f"{module}.lora.{half}"]
                np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-14)
        jitted = jax.jit(loss_of)
        for name in ("encoder.blocks.0.attention.qkv.lora.a", "encoder.blocks.1.feed_forward.output.lora.b"):
            step = np.zeros(parameters[name].shape)
            step[1, 2] = 1e-5
            up, down = (jitted(parameters | {name: parameters[name] + sign * step}) for sign in (1, -1))
            assert gradients[name][1, 2] == pytest.approx(float(up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("targets", "adapters", "share", "share_with_head"),
    [(("Wqkv",), 294_912, 0.0026, 0.0076), (ALL_FOUR, 1_474_560, 0.0126, 0.0177)],
)
def test_what_trains_of_the_117m_model(targets, adapters, share, share_with_head):
    description = ModelDescription(Architecture(), ("no", "yes"))
    _, shapes = abstract_adapted(description, Lora(targets=targets))
    sizes = {name: math.prod(shape.shape) for name, shape in shapes.items()}
    model = sum(size for name, size in sizes.items() if not is_adapter(name))
    found = sum(sizes.values()) - model
    head = sum(size for name, size in sizes.items() if name.startswith(("pooler.", "classifier.")))
    assert model == 117_070_082
    assert found == adapters
    assert head == 768 * 768 + 768 + 768 * 2 + 2
    assert found / model < share
    assert (found + head) / model < share_with_head < 0.02


def test_every_dense_layer_has_a_released_name(description):
    _, shapes = description.abstract()
    modules = dense_modules(shapes)
    assert len(modules) == 2 * 4 + 2
    assert modules["bert.encoder.layer.1.mlp.wo"] == "encoder.blocks.1.feed_forward.output"
