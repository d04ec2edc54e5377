"""Parts that train and parts that do not: each parameter in exactly one, no memory for the frozen ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.lora import abstract_adapted, build_adapted, is_adapter
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.parameters import split
from dnabert2_jax.settings import OptimizerSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.partition import (
    ALL_TRAIN,
    LORA_RULES,
    combine_parameters,
    label_parameters,
    partition_optimizer,
    partition_parameters,
)
from dnabert2_jax.training.state import apply_gradients, new_state

ALL_FOUR = Lora(targets=("Wqkv", "dense", "gated_layers", "wo"))
SETTINGS = OptimizerSettings(learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, gradient_clip=0.5)


@pytest.mark.parametrize("class_names", [None, ("a", "b")])
@pytest.mark.parametrize("lora", [None, Lora(), ALL_FOUR])
def test_every_parameter_has_exactly_one_label(class_names, lora):
    _, shapes = abstract_adapted(ModelDescription(Architecture(), class_names), lora)
    labels = label_parameters(shapes, LORA_RULES)
    assert list(labels) == list(shapes)
    trained = {name for name, label in labels.items() if label == "trainable"}
    head = {f"{part}.{leaf}" for part in ("pooler.dense", "classifier") for leaf in ("kernel", "bias")}
    assert trained == {name for name in shapes if is_adapter(name)} | (head if class_names else set())
    assert set(label_parameters(shapes, ALL_TRAIN).values()) == {"trainable"}


@pytest.mark.parametrize(
    ("name", "count"), [("encoder.blocks.0.gate", 0), ("pooler", 0), ("classifier.kernel", 2)]
)
def test_a_parameter_without_a_rule_or_with_two_is_refused(name, count):
    rules = [*LORA_RULES, (r"classifier\.kernel", "frozen")]
    with pytest.raises(ValueError, match=f"{name} has {count} rules"):
        label_parameters([name], rules)


@pytest.fixture
def parts(tiny_architecture):
    """Labels, the tree of what trains, and what is frozen."""
    description = ModelDescription(tiny_architecture, ("a", "b"))
    _, parameters = split(build_adapted(description, ALL_FOUR, nnx.Rngs(0)))
    labels = label_parameters(parameters, LORA_RULES)
    return labels, *partition_parameters(parameters, labels)


def test_parts_combine_to_the_whole(parts):
    labels, tree, frozen = parts
    assert list(tree) == list(labels)
    leaves = {name for name, node in tree.items() if not isinstance(node, optax.MaskedNode)}
    assert leaves.isdisjoint(frozen)
    assert leaves | set(frozen) == set(labels)
    whole = combine_parameters(tree, frozen)
    assert list(whole) == list(labels)
    assert all(isinstance(array, jax.Array) for array in whole.values())


def test_the_optimizer_is_adamw_on_what_trains_and_holds_nothing_for_the_rest(parts):
    """The partitioned step equals plain AdamW on a tree that never heard of the frozen parameters."""
    labels, tree, _ = parts
    plain = make_optimizer(SETTINGS, 10)
    ours = partition_optimizer(plain, labels)
    alone = {name: array for name, array in tree.items() if labels[name] == "trainable"}
    state, expected = new_state(tree, ours), new_state(alone, plain)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(part.optimizer)) for part in (state, expected)]
    assert sizes[0] == sizes[1]
    rng = np.random.default_rng(0)
    for _ in range(3):
        drawn = {name: jnp.asarray(rng.standard_normal(a.shape), jnp.float32) for name, a in alone.items()}
        gradients: dict = {name: drawn.get(name, optax.MaskedNode()) for name in tree}
        state, expected = apply_gradients(state, gradients, ours), apply_gradients(expected, drawn, plain)
        for name, array in expected.parameters.items():
            np.testing.assert_array_equal(state.parameters[name], array)
    assert jax.tree.structure(state.parameters) == jax.tree.structure(tree)
    assert (np.asarray(state.parameters["classifier.kernel"]) != np.asarray(tree["classifier.kernel"])).any()


def test_adapters_decay_as_other_matrices_do(parts):
    labels, tree, _ = parts
    optimizer = partition_optimizer(make_optimizer(SETTINGS, 10), labels)
    still = jax.tree.map(jnp.zeros_like, tree)
    after = apply_gradients(new_state(tree, optimizer), still, optimizer).parameters
    for name in tree:
        if labels[name] == "trainable":
            shrunk = np.asarray(tree[name]) * (1 if name.endswith(".bias") else 1 - 1e-2 * 0.1)
            np.testing.assert_allclose(after[name], shrunk, rtol=1e-6)
