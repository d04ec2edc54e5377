"""What the tests here share: a small model with random numbers, a batch for it, and our own logits."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import merge, split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

# Twelve heads have slopes of both kinds; 600 tokens are more than the released code prepares its bias for.
SMALL = Architecture(
    vocab_size=64,
    hidden_size=96,
    num_hidden_layers=3,
    num_attention_heads=12,
    intermediate_size=192,
    initializer_range=0.1,
)
# Hidden states of this size, by the type that both sides compute in.
DIFFERENCE = {"float64": 1e-10, "float32": 2e-5}


def describe(architecture: Architecture, kind: str) -> ModelDescription:
    return ModelDescription(architecture, None if kind == "masked-lm" else ("promoter", "enhancer", "other"))


def model_folder(folder: Path, description: ModelDescription, tokenizer: Path) -> Path:
    """A model with random numbers, norms and biases too, saved by `save_pretrained`."""
    _, parameters = split(description.build(nnx.Rngs(0)))
    keys = jax.random.split(jax.random.key(1), len(parameters))
    parameters = {
        name: array + 0.05 * jax.random.normal(key, array.shape)
        for key, (name, array) in zip(keys, parameters.items(), strict=True)
    }
    Pretrained(description, parameters, Tokenizer.load(tokenizer)).save_pretrained(folder)
    return folder


def batch(shape: tuple[int, int], vocabulary: int) -> dict[str, np.ndarray]:
    """Rows of different lengths, the first of them whole, each a pair of two halves."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(shape[1], 5, shape[0]).astype(int)
    attention_mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int32)
    input_ids = np.where(attention_mask == 1, rng.integers(5, vocabulary, shape), 3).astype(np.int32)
    token_type_ids = ((np.arange(shape[1]) > lengths[:, None] // 2) & (attention_mask == 1)).astype(np.int32)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}


def our_logits(model: Pretrained, hidden: jax.Array) -> np.ndarray:
    graph, _ = model.description.abstract()
    with jax.enable_x64(hidden.dtype == np.float64):
        return np.asarray(merge(graph, model.parameters).logits(hidden))


def needed(code: str) -> tuple[str, ...]:
    return ("safetensors",) if code == "plain" else ("safetensors", "transformers", "einops")
