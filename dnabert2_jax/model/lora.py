"""Low-rank adapters on a model's dense layers: attached to its graph, or merged into its kernels.

The adapter of the layer `encoder.blocks.0.attention.qkv` is two parameters beside the layer's own,
`encoder.blocks.0.attention.qkv.lora.a` [I, r] and `….lora.b` [r, O]. b starts at zero: so does the difference
to the base model.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.layers import Dense, LowRankAdapter
from dnabert2_jax.model.lora_settings import WHOLE_MODULES, Lora, select_modules
from dnabert2_jax.model.parameters import Parameters, abstract
from dnabert2_jax.model.released import released_key

_KERNEL = ".kernel"


def released_module(module: str) -> str:
    """The released name of the dense layer called `module` here."""
    return released_key(module + _KERNEL).removesuffix(".weight")


def dense_modules(names: Iterable[str]) -> dict[str, str]:
    """Released name → our name of each dense layer among these parameters."""
    modules = [name.removesuffix(_KERNEL) for name in names if name.endswith(_KERNEL)]
    return {released_module(module): module for module in modules}


def whole_modules(description: ModelDescription) -> tuple[str, ...]:
    """The modules that train whole beside adapters, by their last name: those of a classifier's head."""
    return () if description.class_names is None else WHOLE_MODULES


def build_adapted(description: ModelDescription, lora: Lora | None, rngs: nnx.Rngs) -> Any:
    """The model that is described, with random parameters and, unless `lora` is None, with adapters.

    Raises:
      UserError: a pattern of `lora.targets` matches no layer.
    """
    model = description.build(rngs)
    if lora is None:
        return model
    _, shapes = description.abstract()
    modules = dense_modules(shapes)
    for name in select_modules(lora.targets, modules, whole_modules(description), "lora.targets"):
        dense = _submodule(model, modules[name])
        adapter = LowRankAdapter(
            *dense.kernel.shape, rank=lora.rank, scale=lora.scale, dropout_rate=lora.dropout, rngs=rngs
        )
        dense.lora = nnx.data(adapter)
    return model


def abstract_adapted(
    description: ModelDescription, lora: Lora | None
) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    """The graph of `build_adapted`, and the shape of each parameter; nothing is computed."""
    return abstract(lambda: build_adapted(description, lora, nnx.Rngs(0)))


def adapted_modules(names: Iterable[str]) -> list[str]:
    """The layers that have an adapter among the parameters of these names."""
    return [name.removesuffix(".lora.a") for name in names if name.endswith(".lora.a")]


def is_adapter(name: str) -> bool:
    """Whether the parameter of this name belongs to an adapter."""
    return name.endswith((".lora.a", ".lora.b"))


def merge_adapters(parameters: Mapping[str, jax.Array], scale: float) -> Parameters:
    """Folds each adapter into the kernel beside it, and drops it: the same model, to rounding, at no cost.

    Args:
      parameters: of a model with adapters; they are left as they are.
      scale: of the adapters, `Lora.scale`.
    """
    merged = {name: value for name, value in parameters.items() if not is_adapter(name)}
    for module in adapted_modules(parameters):
        merged[module + _KERNEL] += _change(parameters, module, scale)
    return merged


def unmerge_adapters(
    merged: Mapping[str, jax.Array], adapters: Mapping[str, jax.Array], scale: float
) -> Parameters:
    """The inverse of `merge_adapters`: takes the adapters out of the kernels, and sets them beside these.

    A kernel comes back to rounding, within an ulp or two of the merged value. Who needs the base bit by bit
    keeps its parameters, which merging does not touch.

    Args:
      merged: of the model without adapters.
      adapters: name → value of every adapter; other parameters may be among them and are passed over.
      scale: of the adapters, `Lora.scale`.
    """
    parameters = dict(merged)
    for module in adapted_modules(adapters):
        parameters[module + _KERNEL] -= _change(adapters, module, scale)
        parameters |= {f"{module}.lora.{half}": adapters[f"{module}.lora.{half}"] for half in "ab"}
    return parameters


def _change(parameters: Mapping[str, jax.Array], module: str, scale: float) -> jax.Array:
    a, b = (jnp.asarray(parameters[f"{module}.lora.{half}"]) for half in "ab")
    # In full: by default some devices multiply float32 in less, which would be lost for good in a kernel.
    return scale * jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _submodule(model: nnx.Module, name: str) -> Dense:
    def step(module: Any, part: str) -> Any:
        return module[int(part)] if part.isdigit() else getattr(module, part)

    return reduce(step, name.split("."), model)
