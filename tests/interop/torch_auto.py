# pyright: reportMissingImports=false
"""`torch_auto.py GIVEN.npz RESULT.npz FOLDER CLASS`: a model folder through transformers' Auto classes.

With the remote code that config.json names, taken from the hub's cache.
"""

import sys

import numpy as np
import torch
import transformers


def main(given: str, result: str, folder: str, auto_class: str) -> None:
    """Loads, sees to it that every key was used, and computes."""
    model, report = getattr(transformers, auto_class).from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    for problem in ("missing_keys", "mismatched_keys"):
        assert not report[problem], (problem, report[problem])
    # Transformers wants Triton to be there before it loads the code, whose kernel then fails on a CPU.
    vars(sys.modules[type(model).__module__])["flash_attn_qkvpacked_func"] = None
    arrays = np.load(given)
    inputs = {name: torch.from_numpy(arrays[name]).long() for name in arrays.files}
    with torch.no_grad():
        output = model.eval()(**inputs)
    np.savez(
        result,
        output=(output[0] if isinstance(output, tuple) else output.logits).numpy(),
        unexpected=np.array(sorted(report["unexpected_keys"]), str),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
