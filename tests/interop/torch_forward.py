"""`torch_forward.py GIVEN.npz RESULT.npz FOLDER CODE DTYPE`: what PyTorch makes of a model folder."""

import sys

import numpy as np
from torch_models import load, outputs


def main(given: str, result: str, folder: str, code: str, dtype: str) -> None:
    """Loads strictly and computes."""
    np.savez(result, **outputs(load(folder, code, dtype), dict(np.load(given))))


if __name__ == "__main__":
    main(*sys.argv[1:])
