"""Which axes of the mesh each parameter is split over: names and shapes in, shardings out.

The one table of rules. A column-parallel kernel is split by its outputs over `tensor`, the row-parallel one
that follows it by its inputs, so that one sum over `tensor` ends each half of a block; what `tensor` leaves
whole is split over `fsdp`, and gathered where it is used.
"""

import re

from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dnabert2_jax.parallel.mesh import FSDP, TENSOR

_REPLICATED = PartitionSpec()
_COLUMNS = PartitionSpec(FSDP, TENSOR)
_ROWS = PartitionSpec(TENSOR, FSDP)

# Name of a parameter, whole → what its axes are split over. Each parameter is matched by exactly one pattern.
# The outputs of qkv are [3, H, D] and those of gated [2, I], in that order: split over `tensor`, a device has
# no whole heads and no gate beside its value. That is correct, and costs an exchange of activations where the
# output is taken apart.
_RULES = {
    r"encoder\.embeddings\.word": _ROWS,
    r"encoder\.embeddings\.token_type": _REPLICATED,
    r"encoder\.blocks\.\d+\.attention\.qkv\.kernel": _COLUMNS,
    r"encoder\.blocks\.\d+\.attention\.qkv\.bias": PartitionSpec(TENSOR),
    r"encoder\.blocks\.\d+\.attention\.output\.kernel": _ROWS,
    r"encoder\.blocks\.\d+\.feed_forward\.gated\.kernel": _COLUMNS,
    r"encoder\.blocks\.\d+\.feed_forward\.output\.kernel": _ROWS,
    r"encoder\.blocks\.\d+\.(attention|feed_forward)\.output\.bias": _REPLICATED,
    r".*norm\.(scale|bias)": _REPLICATED,
    # A row of the head's dense layer is normalised as a whole, and labels are few.
    r"(head\.dense|pooler\.dense|classifier)\.kernel": PartitionSpec(FSDP),
    r"(head\.dense|pooler\.dense|classifier)\.bias": _REPLICATED,
    r"head\.bias": PartitionSpec(TENSOR),
    r".*\.lora\.[ab]": _REPLICATED,
}


def parameter_sharding(mesh: Mesh, name: str, shape: tuple[int, ...]) -> NamedSharding:
    """Where the parts of a parameter lie.

    An axis that the mesh lacks, or that does not divide the parameter's dimension, is left out.

    Args:
      mesh: with any of the axes `fsdp` and `tensor`; over its other axes parameters are replicated.
      name: of the parameter, as in `model/parameters.py`.
      shape: of the whole parameter.

    Raises:
      LookupError: not exactly one rule is for the name; whoever adds a parameter adds its rule.
    """
    found = [spec for pattern, spec in _RULES.items() if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} sharding rules are for the parameter {name!r}; there must be one")
    # The model leaves it to the compiler to spread computations, which explicit axes would forbid.
    automatic = mesh.update(axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    axes = [_fitting(mesh, axis, size) for axis, size in zip(found[0], shape, strict=False)]
    return NamedSharding(automatic, PartitionSpec(*axes))


def _fitting(mesh: Mesh, axis: str | None, size: int) -> str | None:
    return axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None
