"""A model on disk in the released layout: config.json with model.safetensors, or with pytorch_model.bin."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.heads import MaskedLanguageModel, SequenceClassifier
from dnabert2_jax.model.parameters import abstract
from dnabert2_jax.model.released import (
    architecture_from_config,
    class_names_from_config,
    config_from_architecture,
    problem_from_config,
    to_released,
)
from dnabert2_jax.model.torch_file import read_torch_file
from dnabert2_jax.problem import Problem

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"


@dataclass(frozen=True)
class ModelDescription:
    """What config.json says.

    Attributes:
      architecture: of the encoder.
      class_names: the labels of a fine-tuned model, in order; None for a masked-language model.
      problem: what a fine-tuned model predicts.
    """

    architecture: Architecture
    class_names: tuple[str, ...] | None = None
    problem: Problem = "single_label_classification"

    def build(self, rngs: nnx.Rngs) -> MaskedLanguageModel | SequenceClassifier:
        """The model that this describes, with random parameters."""
        if self.class_names is None:
            return MaskedLanguageModel(self.architecture, rngs=rngs)
        return SequenceClassifier(self.architecture, len(self.class_names), rngs=rngs)

    def abstract(self) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
        """The model's graph, and the shape of each parameter; nothing is computed."""
        return abstract(lambda: self.build(nnx.Rngs(0)))


def read_description(folder: str | Path) -> ModelDescription:
    """Reads config.json.

    Raises:
      UserError: the folder or file is missing, or the file is not a DNABERT-2 configuration.
    """
    path = Path(folder) / CONFIG_FILE
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no {CONFIG_FILE}, so it is not a model folder") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: is not a JSON object")
    architecture = architecture_from_config(config, str(path))
    class_names = class_names_from_config(config, str(path))
    if class_names is None:
        return ModelDescription(architecture)
    return ModelDescription(
        architecture, class_names, problem_from_config(config, len(class_names), str(path))
    )


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Reads every array of model.safetensors, or of pytorch_model.bin where that is all there is.

    Returns:
      Arrays under their released keys.

    Raises:
      UserError: there is neither file, or it is damaged.
    """
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        if (Path(folder) / TORCH_FILE).is_file():
            return read_torch_file(Path(folder) / TORCH_FILE)
        raise UserError(f"{folder}: holds neither {WEIGHTS_FILE} nor {TORCH_FILE}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise UserError(f"{path}: is not a readable safetensors file: {error}") from error


def write_model(folder: str | Path, description: ModelDescription, parameters) -> None:
    """Writes config.json and model.safetensors (float32, released keys), each whole or not at all."""
    config = config_from_architecture(description.architecture, description.class_names, description.problem)
    state = {key: np.asarray(array, np.float32) for key, array in sorted(to_released(parameters).items())}
    with atomic_file(Path(folder) / WEIGHTS_FILE) as file:
        file.write(save(state, metadata={"format": "pt"}))
    with atomic_file(Path(folder) / CONFIG_FILE, "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")
