# pyright: reportMissingImports=false
"""The released PyTorch code, run by the Python that has PyTorch: two folders in, a model out."""

import importlib
import sys
import types

import torch
import transformers
from safetensors.torch import load_file


def load_released(code: str, folder: str) -> torch.nn.Module:
    """The model folder in the released BertForMaskedLM, its attention in plain PyTorch."""
    package = types.ModuleType("released")
    package.__path__ = [code]
    sys.modules["released"] = package
    layers = importlib.import_module("released.bert_layers")
    layers.__dict__["flash_attn_qkvpacked_func"] = None
    config = importlib.import_module("released.configuration_bert").BertConfig.from_pretrained(folder)
    model = layers.BertForMaskedLM(config)
    model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=True)
    return model


def describe_torch() -> dict[str, object]:
    """What computes there."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "released_code": "bert_layers.py, its attention in plain PyTorch, as it is without Triton",
    }
