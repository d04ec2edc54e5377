"""Low-rank adapters on disk, in PEFT's layout: adapter_config.json and adapter_model.safetensors.

In: a folder, by us or by PEFT. Out: an adapter, to be set on its base model. Folders of ours hold a
config.json too, as of a fine-tuned model: PEFT has no place for class names, and passes that file over.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, atomic_folder
from dnabert2_jax.model.adapter import Adapter
from dnabert2_jax.model.folder import CONFIG_FILE, ModelDescription, read_description
from dnabert2_jax.model.lora import adapted_modules, released_module, whole_modules
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.released import config_from_architecture, to_released, with_released_prefixes
from dnabert2_jax.model.safetensors_file import read_safetensors, write_safetensors
from dnabert2_jax.model.torch_file import read_torch_file
from dnabert2_jax.model.weight_files import read_json_object

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER_TORCH_FILE = "adapter_model.bin"

_PREFIX = "base_model.model."
_LAYER_KEY = re.compile(r"(.+)\.(lora_[AB])\.weight")

# These are read, or say nothing that the arrays do not say. What else PEFT knows changes what is computed.
_UNDERSTOOD = {
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
}
# Other starts than these change the base model too, so that the adapter does not fit it as it was published.
_NEUTRAL = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian", "orthogonal")}


def is_adapter_folder(folder: str | Path) -> bool:
    """Whether a folder holds an adapter in the place of a model."""
    return (Path(folder) / ADAPTER_CONFIG_FILE).is_file()


def write_adapter(
    folder: str | Path,
    lora: Lora,
    base: str,
    description: ModelDescription,
    parameters: Mapping[str, jax.Array],
    *,
    revision: str | None = None,
) -> None:
    """Writes an adapter folder, whole or not at all; one that is there gives way.

    Args:
      folder: the folder to make.
      lora: what the adapters are like.
      base: the model that they belong to, a hub id or a folder.
      description: of the model with its head.
      parameters: adapters and head; the rest of the model may be among them, and is not written.
      revision: branch, tag or commit of a base model on the hub.
    """
    whole = whole_modules(description)
    head = {name: value for name, value in parameters.items() if name.split(".")[0] in whole}
    arrays = {_PREFIX + key: array for key, array in to_released(head).items()}
    for module in adapted_modules(parameters):
        for half, ours in (("lora_A", "a"), ("lora_B", "b")):
            key = f"{_PREFIX}{released_module(module)}.{half}.weight"
            arrays[key] = np.asarray(parameters[f"{module}.lora.{ours}"]).T
    contents = {
        ADAPTER_CONFIG_FILE: _config(lora, base, revision, whole),
        CONFIG_FILE: config_from_architecture(
            description.architecture, description.class_names, description.problem
        ),
    }
    with atomic_folder(folder, replace=True) as temporary:
        with atomic_file(temporary / ADAPTER_WEIGHTS_FILE) as file:
            write_safetensors(file, arrays, np.dtype(np.float32), {"format": "pt"})
        for name, content in contents.items():
            with atomic_file(temporary / name, "w") as file:
                json.dump(content, file, indent=2, sort_keys=True)
                file.write("\n")


def read_adapter(folder: str | Path) -> Adapter:
    """Reads an adapter folder.

    Raises:
      UserError: a file is missing or damaged, the adapter is of a kind that is not computed here, or half of
        one is missing.
    """
    lora, base, revision = _read_config(Path(folder) / ADAPTER_CONFIG_FILE)
    path = Path(folder) / ADAPTER_WEIGHTS_FILE
    if path.is_file():
        arrays = read_safetensors(path)
    elif (path := Path(folder) / ADAPTER_TORCH_FILE).is_file():
        arrays = read_torch_file(path)
    else:
        raise UserError(f"{folder}: holds neither {ADAPTER_WEIGHTS_FILE} nor {ADAPTER_TORCH_FILE}")
    halves: dict[str, dict[str, np.ndarray]] = {}
    whole = {}
    for key, array in _released_keys(arrays, path).items():
        half = _LAYER_KEY.fullmatch(key)
        if half is None:
            whole[key] = array
        elif array.ndim == 2 and jnp.issubdtype(array.dtype, np.floating):
            halves.setdefault(half[1], {})[half[2]] = array.T
        else:
            raise UserError(f"{path}: {key} is not a matrix of floating-point numbers")
    for layer, found in halves.items():
        if len(found) != 2:
            raise UserError(f"{path}: holds one of lora_A and lora_B of {layer} without the other")
    if not halves:
        raise UserError(f"{path}: holds no low-rank adapters")
    layers = {layer: (found["lora_A"], found["lora_B"]) for layer, found in halves.items()}
    described = (Path(folder) / CONFIG_FILE).is_file()
    description = read_description(folder) if described else None
    return Adapter(lora, base, layers, whole, description, revision)


def base_of(folder: str | Path, adapter: Adapter) -> str:
    """The adapter's base model: a folder, looked for from the adapter's own too, or otherwise a hub id.

    Raises:
      UserError: the adapter does not say.
    """
    if not adapter.base:
        path = Path(folder) / ADAPTER_CONFIG_FILE
        raise UserError(f"{path}: base_model_name_or_path is empty; write the base model's name there")
    beside = Path(folder) / adapter.base
    return str(beside) if beside.is_dir() else adapter.base


def _config(lora: Lora, base: str, revision: str | None, whole: tuple[str, ...]) -> dict[str, Any]:
    return {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": list(whole) or None,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "revision": revision,
        "target_modules": lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        "task_type": "SEQ_CLS" if whole else None,
        "use_dora": False,
        "use_rslora": False,
    }


def _read_config(path: Path) -> tuple[Lora, str | None, str | None]:
    config = read_json_object(path)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type is {config.get('peft_type')!r}; only 'LORA' can be loaded")
    for key, value in config.items():
        harmless = value in _NEUTRAL[key] if key in _NEUTRAL else not value
        if key not in _UNDERSTOOD and not harmless:
            raise UserError(f"{path}: {key} is {value!r}; an adapter with it is not computed here")
    given = {
        "rank": config.get("r"),
        "alpha": config.get("lora_alpha"),
        "dropout": config.get("lora_dropout", 0.0),
        "targets": config.get("target_modules"),
    }
    base, revision = _name(config, "base_model_name_or_path", path), _name(config, "revision", path)
    try:
        lora = msgspec.convert(given, Lora)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{path}: r, lora_alpha, lora_dropout and target_modules are not those of an adapter: {error}"
        ) from error
    if not math.isfinite(lora.alpha):
        raise UserError(f"{path}: lora_alpha is {lora.alpha}; it must be a finite number")
    if config.get("use_rslora"):
        # The one number of it that counts: alpha / √r is the scale of r and alpha · √r.
        lora = msgspec.structs.replace(lora, alpha=lora.alpha * math.sqrt(lora.rank))
    return lora, base, revision


def _name(config: Mapping[str, Any], key: str, path: Path) -> str | None:
    name = config.get(key)
    if not isinstance(name, str | None):
        raise UserError(f"{path}: {key} is {name!r}, which is not a name")
    return name


def _released_keys(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    strange = [key for key in arrays if not key.startswith(_PREFIX)]
    if strange:
        raise UserError(f"{path}: {strange[0][:80]} does not begin with {_PREFIX}, as PEFT's keys do")
    # PEFT may have been given the encoder alone, whose keys lack what it is called in the larger models.
    return with_released_prefixes({key.removeprefix(_PREFIX): array for key, array in arrays.items()})
