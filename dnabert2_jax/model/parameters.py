"""Models as (graph, parameters): modules describe the computation, a flat dict holds the numbers.

A parameter's name is its path in the module, such as `encoder.blocks.0.attention.qkv.kernel`. Loops,
optimizer masks, sharding rules and checkpoints all speak of these names.
"""

from collections.abc import Callable, Mapping

import jax
from flax import nnx

type Parameters = dict[str, jax.Array]


def split[M: nnx.Module](model: M) -> tuple[nnx.GraphDef[M], Parameters]:
    """Takes a model apart into its static graph and its parameters by name."""
    graph, state = nnx.split(model)
    flat = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    return graph, flat


def merge[M: nnx.Module](graph: nnx.GraphDef[M], parameters: Mapping[str, jax.Array]) -> M:
    """The inverse of `split`."""
    flat = [(_path(name), value) for name, value in parameters.items()]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def abstract[M: nnx.Module](make: Callable[[], M]) -> tuple[nnx.GraphDef[M], dict[str, jax.ShapeDtypeStruct]]:
    """As `split(make())`, with shapes and types in the place of numbers; nothing is computed."""
    graph, state = nnx.split(nnx.eval_shape(make))
    flat = {
        ".".join(map(str, path)): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for path, leaf in nnx.to_flat_state(state)
    }
    return graph, flat


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))
