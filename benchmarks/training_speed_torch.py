# pyright: reportMissingImports=false
"""The PyTorch side of training_speed.py, run by the Python that has PyTorch.

    python training_speed_torch.py CODE MODEL_FOLDER THREADS

For each request one step of AdamW is made on the same masked batch, and its seconds and loss go out.
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
    torch.manual_seed(0)
    model = load_released(code, folder).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-5, fused=True
    )
    print(json.dumps(describe_torch()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        input_ids, labels = (torch.tensor(request[name]) for name in ("input_ids", "labels"))
        precision = torch.autocast("cpu", torch.bfloat16) if request["autocast"] else nullcontext()
        start = time.perf_counter()
        with precision:
            loss = model(input_ids, attention_mask=torch.ones_like(input_ids), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
