"""`from_pretrained`: a model folder in, a model that is ready to use out."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.pretrained import ComputeType, Pretrained
from dnabert2_jax.model.folder import read_description, read_weights
from dnabert2_jax.model.released import from_released, is_layer_beyond
from dnabert2_jax.tokenizer.loading import load_tokenizer


def from_pretrained(source: str | Path, dtype: ComputeType = "float32") -> Pretrained:
    """Loads a model folder.

    Args:
      source: a folder with config.json, model.safetensors and a tokenizer.
      dtype: the type of activations; parameters are float32, or float64 with "float64".

    Raises:
      UserError: the folder is not that of a DNABERT-2 model, or its parts do not fit together.
    """
    if dtype not in ("float32", "bfloat16", "float64"):
        raise UserError(f"dtype is {dtype!r}; choose 'float32', 'bfloat16' or 'float64'")
    description = read_description(source)
    tokenizer = load_tokenizer(source)
    if tokenizer.vocab_size != description.architecture.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{description.architecture.vocab_size}; they do not belong together"
        )
    _, shapes = description.abstract()
    found, missing, unused = from_released(read_weights(source), shapes, str(source))
    if missing:
        raise UserError(f"{source}: the weights lack {', '.join(missing[:3])}")
    # A head that this model does not use may lie in the file; anything else is of another architecture.
    foreign = [
        key for key in unused if not key.startswith(("bert.pooler.", "cls.predictions.", "classifier."))
    ]
    if foreign:
        layers = description.architecture.num_hidden_layers
        if any(is_layer_beyond(key, layers) for key in foreign):
            raise UserError(
                f"{source}: config.json describes {layers} layers (num_hidden_layers) and the weights more; "
                "they do not belong together"
            )
        raise UserError(f"{source}: the weights hold {', '.join(foreign[:3])}, which DNABERT-2 does not have")
    parameter_type = np.float64 if dtype == "float64" else np.float32
    with jax.enable_x64(dtype == "float64"):
        parameters = {name: jnp.asarray(array, parameter_type) for name, array in found.items()}
    return Pretrained(description, parameters, tokenizer, dtype)
