# pyright: reportMissingImports=false
"""`torch_training.py GIVEN.npz RESULT.npz FOLDER`: AdamW steps in float64 on a model folder, the losses out.

GIVEN holds the masked batches, stacked by step, and the optimizer's numbers.
"""

import sys

import numpy as np
import torch
from torch.nn import functional
from torch_models import load


def loss_of(model, batch):
    """Mean cross entropy over the hidden tokens."""
    token_types = torch.zeros_like(batch["input_ids"])
    hidden, _ = model.bert(batch["input_ids"], batch["attention_mask"], token_types)
    logits = model.head(hidden[torch.arange(len(hidden))[:, None], batch["positions"]])
    nats = functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="none")
    counted = batch["weights"].flatten().double()
    return (nats * counted).sum() / counted.sum()


def main(source: str, target: str, folder: str) -> None:
    """Trains and writes the losses."""
    given = dict(np.load(source))
    config = {key.removeprefix("config/"): float(a) for key, a in given.items() if key.startswith("config/")}
    model = load(folder, "plain", "float64")
    free, decayed = [], []
    for name, parameter in model.named_parameters():
        (free if name.endswith(".bias") or "norm" in name.lower() else decayed).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config["weight_decay"]},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=(config["beta1"], config["beta2"]),
        eps=config["adam_epsilon"],
    )
    peak, warmup, steps = config["peak"], int(config["warmup"]), int(config["steps"])

    def rate(step: int) -> float:
        return peak * (step / warmup if step < warmup else (steps - step) / (steps - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    for step in range(steps):
        batch = {
            name: torch.from_numpy(given[name][step])
            for name in ("input_ids", "attention_mask", "positions", "targets", "weights")
        }
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    np.savez(target, losses=np.array(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
