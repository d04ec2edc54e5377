"""Trained adapters away from their model, and how they are set on it.

In: a base model and the arrays that were trained on it, under released keys. Out: one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.lora import dense_modules
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.parameters import Parameters
from dnabert2_jax.model.released import from_released, released_key

_HEAD_REMEDY = "train with modules_to_save=['pooler', 'classifier']"


@dataclass(frozen=True, eq=False)
class Adapter:
    """Adapters, and the parameters that were trained whole with them.

    Attributes:
      lora: what they are like.
      base: the model that they belong to, a hub id or a folder; None where nothing says.
      layers: released name of a dense layer → its adapter's a [I, r] and b [r, O].
      whole: released key → array, of what was trained whole.
      description: of the fine-tuned model; None where nothing says.
      revision: branch, tag or commit of a base model on the hub; None for its main branch.
    """

    lora: Lora
    base: str | None
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]]
    whole: Mapping[str, np.ndarray]
    description: ModelDescription | None = None
    revision: str | None = None


def attach_adapter(
    base: ModelDescription, parameters: Mapping[str, jax.Array], adapter: Adapter, source: str
) -> tuple[ModelDescription, Parameters]:
    """Sets an adapter on its base model.

    Args:
      base, parameters: of the base model; arrays are taken over as they are.
      adapter: the adapter.
      source: the adapter's folder, for messages.

    Returns:
      The description of the model together, and its parameters with the adapters still apart, in float32, or
      in float64 under `jax.enable_x64`. `merge_adapters(parameters, adapter.lora.scale)` makes of them what
      the description describes.

    Raises:
      UserError: the two do not fit together, or neither has some part of the model.
    """
    description = adapter.description or _describe(base, adapter)
    if description.architecture != base.architecture:
        raise UserError(
            f"{source}: its base model {adapter.base} has another architecture than it was trained on"
        )
    _, shapes = description.abstract()
    trained, missing, foreign = from_released(adapter.whole, shapes, source)
    if foreign:
        raise UserError(f"{source}: holds {', '.join(foreign[:3])}, which the model does not have")
    lacking = [name for name in missing if name not in parameters]
    if lacking:
        keys = ", ".join(map(released_key, lacking[:3]))
        raise UserError(f"{source}: lacks {keys}, and so does its base model {adapter.base}; {_HEAD_REMEDY}")
    together: dict[str, jax.Array] = {name: parameters[name] for name in missing}
    together |= {name: _floats(array) for name, array in trained.items()}
    for name in shapes:
        if together[name].shape != shapes[name].shape:
            raise UserError(
                f"{source}: its base model {adapter.base} has {released_key(name)} in another shape"
            )
    modules = dense_modules(shapes)
    for layer, (a, b) in adapter.layers.items():
        if layer not in modules:
            raise UserError(f"{source}: adapts {layer}, which is not a dense layer of the model")
        inputs, outputs = shapes[f"{modules[layer]}.kernel"].shape
        rank = adapter.lora.rank
        if (a.shape, b.shape) != ((inputs, rank), (rank, outputs)):
            raise UserError(
                f"{source}: lora_A and lora_B of {layer} have shapes {a.shape[::-1]} and {b.shape[::-1]}; "
                f"r and the base model ask for {(rank, inputs)} and {(outputs, rank)}"
            )
        together |= {f"{modules[layer]}.lora.{half}": _floats(array) for half, array in (("a", a), ("b", b))}
    return description, together


def _describe(base: ModelDescription, adapter: Adapter) -> ModelDescription:
    """What a classifier's weights tell; PEFT writes down neither class names nor problem."""
    classifier = adapter.whole.get("classifier.weight")
    if classifier is None or len(classifier) == len(base.class_names or ()):
        return base
    names = tuple(f"LABEL_{index}" for index in range(len(classifier)))
    problem = "regression" if len(names) == 1 else "single_label_classification"
    return ModelDescription(base.architecture, names, problem)


def _floats(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.array(array), jnp.result_type(float))
