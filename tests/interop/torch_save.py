"""`torch_save.py GIVEN.npz RESULT.npz FOLDER CODE OUTPUT`: a model as the released code itself saves it."""

import sys

import numpy as np
from torch_models import load, outputs


def main(given: str, result: str, folder: str, code: str, output: str) -> None:
    """Saves what was loaded, and computes."""
    model = load(folder, code, "float32")
    np.savez(result, **outputs(model, dict(np.load(given))))
    # Its decoder shares memory with the word embeddings, which transformers refuses to write as safetensors.
    model.save_pretrained(output, safe_serialization=hasattr(model, "classifier"))


if __name__ == "__main__":
    main(*sys.argv[1:])
