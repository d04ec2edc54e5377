"""The table of sharding rules: it covers every parameter once, and says what lies where."""

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.parallel.sharding import parameter_sharding


def mesh_of(**axes: int) -> Mesh:
    """A mesh for which there need be no devices."""
    return AbstractMesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))  # pyright: ignore[reportReturnType]


def specs_of(mesh: Mesh, class_names=None, architecture=None) -> dict[str, PartitionSpec]:
    _, shapes = ModelDescription(architecture or Architecture(), class_names).abstract()
    return {name: parameter_sharding(mesh, name, shape.shape).spec for name, shape in shapes.items()}


@pytest.mark.parametrize("class_names", [None, ("no", "yes", "maybe")])
def test_every_parameter_has_one_rule_that_fits_its_shape(class_names):
    _, shapes = ModelDescription(Architecture(), class_names).abstract()
    mesh = mesh_of(data=2, fsdp=2, tensor=2)
    for name, shape in shapes.items():
        sharding = parameter_sharding(mesh, name, shape.shape)
        sharding.shard_shape(shape.shape)  # raises where it does not divide


def test_the_117m_model_on_two_axes():
    specs = specs_of(mesh_of(fsdp=4, tensor=2)) | specs_of(mesh_of(fsdp=4, tensor=2), ("0", "1"))
    block = "encoder.blocks.11"
    both = {
        "encoder.embeddings.word": ("tensor", "fsdp"),
        f"{block}.attention.qkv.kernel": ("fsdp", "tensor"),
        f"{block}.attention.qkv.bias": ("tensor",),
        f"{block}.attention.output.kernel": ("tensor", "fsdp"),
        f"{block}.feed_forward.gated.kernel": ("fsdp", "tensor"),
        f"{block}.feed_forward.output.kernel": ("tensor", "fsdp"),
        "head.bias": ("tensor",),
        "head.dense.kernel": ("fsdp",),
        "pooler.dense.kernel": ("fsdp",),
        "classifier.kernel": ("fsdp",),
    }
    for name, axes in both.items():
        assert specs[name] == PartitionSpec(*axes), name
    whole = {name for name, spec in specs.items() if not any(spec)}
    assert {name.rsplit(".", 1)[1] for name in whole} == {"scale", "bias", "token_type"}


def test_axes_that_are_missing_or_do_not_divide_are_left_out():
    assert not any(any(spec) for spec in specs_of(mesh_of(data=8)).values())
    qkv, word = "encoder.blocks.0.attention.qkv.kernel", "encoder.embeddings.word"
    assert specs_of(mesh_of(tensor=2))[qkv] == PartitionSpec(None, "tensor")
    odd = Architecture(vocab_size=63, hidden_size=32, num_attention_heads=4, num_hidden_layers=1)
    assert specs_of(mesh_of(fsdp=2, tensor=2), architecture=odd)[word] == PartitionSpec(None, "fsdp")


def test_a_mesh_with_explicit_axes_leaves_the_computation_to_the_compiler():
    mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(AxisType.Explicit,))
    sharding = parameter_sharding(mesh, "encoder.embeddings.word", (64, 32))
    assert sharding.mesh.axis_types == (AxisType.Auto,)


def test_a_parameter_without_a_rule_is_a_fault():
    with pytest.raises(LookupError, match=r"0 sharding rules are for the parameter 'encoder\.positions'"):
        parameter_sharding(mesh_of(fsdp=2), "encoder.positions", (4, 4))
