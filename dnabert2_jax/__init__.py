"""DNABERT-2 in JAX: point it at genomes for a DNA language model, at sequences for embeddings and labels.

The public names load on first use, so that `import dnabert2_jax` stays fast and needs no JAX.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Tokenizer", "UserError", "__version__", "from_pretrained"]

if TYPE_CHECKING:
    from dnabert2_jax.errors import UserError
    from dnabert2_jax.inference.loading import from_pretrained
    from dnabert2_jax.tokenizer.tokenizer import Tokenizer

_HOMES = {
    "Tokenizer": "dnabert2_jax.tokenizer.tokenizer",
    "UserError": "dnabert2_jax.errors",
    "from_pretrained": "dnabert2_jax.inference.loading",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
