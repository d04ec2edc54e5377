# pyright: reportMissingImports=false
"""`torch_adapter.py GIVEN.npz RESULT.npz FOLDER CODE ADAPTER load|train`: PEFT on a model folder, in float64.

`load` sets an adapter folder on the model; `train` makes an adapter with PEFT, moves it away from its start,
and saves it. The result is what the model with its adapter computes, and what it computed without.
"""

import sys

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch_models import load, outputs

TARGETS = ["Wqkv", "attention.output.dense", "gated_layers", "wo"]


def main(given: str, result: str, folder: str, code: str, adapter: str, task: str) -> None:
    """Computes without and with the adapter."""
    arrays = dict(np.load(given))
    model = load(folder, code, "float64")
    base = {f"base_{name}": array for name, array in outputs(model, arrays).items()}
    if task == "load":
        adapted = PeftModel.from_pretrained(model, adapter)
    else:
        whole = ["pooler", "classifier"] if hasattr(model, "classifier") else None
        adapted = get_peft_model(
            model,
            LoraConfig(r=4, lora_alpha=12, lora_dropout=0.1, target_modules=TARGETS, modules_to_save=whole),
        )
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    # The file holds float32.
                    parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).float())
        # PEFT saves in the type that it computes in.
        adapted.float().save_pretrained(adapter)
    model = adapted.double().eval().base_model.model
    np.savez(result, **base, **outputs(model, arrays))


if __name__ == "__main__":
    main(*sys.argv[1:])
