# pyright: reportMissingImports=false
"""The PyTorch side of embedding_speed.py, run by the Python that has PyTorch.

    python embedding_speed_torch.py CODE MODEL_FOLDER THREADS

For each batch one JSON line comes in and one goes out: seconds and embeddings. The first line out holds
versions.
"""

import importlib
import json
import sys
import time
import types
from contextlib import nullcontext

import torch
import transformers
from safetensors.torch import load_file


def main(code: str, folder: str, threads: str) -> None:
    """Loads the model and answers until the input ends."""
    torch.set_num_threads(int(threads))
    encoder = load_encoder(code, folder)
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "released_code": "bert_layers.py, its attention in plain PyTorch, as it is without Triton",
    }
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        input_ids = torch.tensor(request["input_ids"])
        mask = torch.ones_like(input_ids)
        precision = torch.autocast("cpu", torch.bfloat16) if request["autocast"] else nullcontext()
        with torch.inference_mode(), precision:
            start = time.perf_counter()
            hidden = encoder(input_ids, attention_mask=mask)[0]
            embeddings = hidden.float().sum(1) / mask.sum(1, keepdim=True)
            seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "embeddings": embeddings.tolist()}), flush=True)


def load_encoder(code: str, folder: str) -> torch.nn.Module:
    """The encoder of a masked-language model in the released classes."""
    package = types.ModuleType("released")
    package.__path__ = [code]
    sys.modules["released"] = package
    layers = importlib.import_module("released.bert_layers")
    layers.flash_attn_qkvpacked_func = None
    config = importlib.import_module("released.configuration_bert").BertConfig.from_pretrained(folder)
    model = layers.BertForMaskedLM(config)
    model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=True)
    return model.eval().bert


if __name__ == "__main__":
    main(*sys.argv[1:])
