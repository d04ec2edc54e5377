"""Results of the released PyTorch code in float64, with the weights that they were computed from."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import Parameters
from dnabert2_jax.model.released import from_released, released_key


@dataclass(frozen=True)
class Reference:
    """Released weights, and per case the arrays that the released code made of them."""

    architecture: Architecture
    state: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

    def case(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of one case, the ids as int32."""
        found = {
            key.removeprefix(f"{name}/"): array
            for key, array in self.arrays.items()
            if key.startswith(f"{name}/")
        }
        return {
            key: array.astype(np.int32) if array.dtype == np.int64 else array for key, array in found.items()
        }

    def load(self, class_names: tuple[str, ...] | None = None) -> tuple[nnx.GraphDef, Parameters]:
        """The masked-language model, or the classifier, in float32 or, under x64, float64."""
        graph, shapes = ModelDescription(self.architecture, class_names).abstract()
        found, missing, _ = from_released(self.state, shapes, "reference")
        assert not missing
        dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
        return graph, {name: jax.numpy.asarray(array, dtype) for name, array in found.items()}


@pytest.fixture(scope="session")
def tiny_reference(shared: Path) -> Reference:
    arrays = dict(np.load(shared / "golden" / "golden_tiny.npz"))
    state = {key.removeprefix("param/"): a for key, a in arrays.items() if key.startswith("param/")}
    architecture = Architecture(
        vocab_size=64, hidden_size=96, num_hidden_layers=2, num_attention_heads=12, intermediate_size=192
    )
    return Reference(architecture, state, arrays)


@pytest.fixture(scope="module")
def base_reference(shared: Path) -> Reference:
    """The full size; its weights follow the recipe in README.json."""
    arrays = dict(np.load(shared / "golden" / "golden_base12L_random.npz"))
    shapes = released_shapes(Architecture(), None) | released_shapes(Architecture(), ("0", "1", "2"))
    state = {key: _recipe(key, shape) for key, shape in shapes.items()}
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    return Reference(Architecture(), state, arrays)


def released_shapes(
    architecture: Architecture, class_names: tuple[str, ...] | None
) -> dict[str, tuple[int, ...]]:
    """The released key and the released shape of each parameter; kernels are [O, I] there."""
    _, shapes = ModelDescription(architecture, class_names).abstract()
    return {
        released_key(name): shape.shape[::-1] if name.endswith(".kernel") else shape.shape
        for name, shape in shapes.items()
    }


def _recipe(key: str, shape: tuple[int, ...]) -> np.ndarray:
    draws = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    is_norm_scale = key.endswith(("LayerNorm.weight", "layernorm.weight"))
    return (1 + 0.1 * draws if is_norm_scale else 0.04 * draws).astype(np.float32)


@pytest.fixture
def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)
