# pyright: reportMissingImports=false
"""The PyTorch side of embedding_speed.py, run by the Python that has PyTorch.

    python embedding_speed_torch.py CODE MODEL_FOLDER THREADS

For each batch one JSON line comes in and one goes out: seconds and embeddings. The first line out holds
versions.
"""

import json
import sys
import time
from contextlib import nullcontext

import torch
from torch_released import describe_torch, load_released


def main(code: str, folder: str, threads: str) -> None:
    """Loads the model and answers until the input ends."""
    torch.set_num_threads(int(threads))
    encoder = load_released(code, folder).eval().bert
    print(json.dumps(describe_torch()), flush=True)
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


if __name__ == "__main__":
    main(*sys.argv[1:])
