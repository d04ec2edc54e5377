# pyright: reportMissingImports=false
"""A DNABERT-2 encoder and its training loop in plain PyTorch, float64: the peer of test_against_torch.py.

Run by an interpreter that has PyTorch: `python torch_reference.py INPUT.npz OUTPUT.npz`. It shares no code
with the package. INPUT holds the weights under released keys, the batches with their masks, and the
optimizer's numbers.
"""

import math
import sys

import numpy as np
import torch
from torch.nn import functional


def hidden_states(weights, config, input_ids, attention_mask):
    """The encoder, as published: post-norm, ALiBi, gated feed-forward, no dropout."""
    heads, epsilon = int(config["heads"]), float(config["epsilon"])

    def norm(x, prefix):
        return functional.layer_norm(
            x, x.shape[-1:], weights[prefix + ".weight"], weights[prefix + ".bias"], epsilon
        )

    x = weights["bert.embeddings.word_embeddings.weight"][input_ids]
    x = x + weights["bert.embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "bert.embeddings.LayerNorm")
    batch, length, width = x.shape
    positions = torch.arange(length)
    distance = (positions[:, None] - positions[None, :]).abs().float()
    slopes = torch.tensor([2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)])
    bias = -(slopes[:, None, None] * distance)[None].double()
    bias = bias + (1 - attention_mask[:, None, None, :].double()) * -10000.0
    for layer in range(int(config["layers"])):
        prefix = f"bert.encoder.layer.{layer}."
        qkv = functional.linear(
            x, weights[prefix + "attention.self.Wqkv.weight"], weights[prefix + "attention.self.Wqkv.bias"]
        )
        q, k, v = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads) + bias
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        dense = prefix + "attention.output.dense"
        attended = functional.linear(attended, weights[dense + ".weight"], weights[dense + ".bias"])
        x = norm(x + attended, prefix + "attention.output.LayerNorm")
        gate, value = functional.linear(x, weights[prefix + "mlp.gated_layers.weight"]).chunk(2, -1)
        inner = functional.gelu(gate) * value
        fed = functional.linear(inner, weights[prefix + "mlp.wo.weight"], weights[prefix + "mlp.wo.bias"])
        x = norm(x + fed, prefix + "mlp.layernorm")
    return x


def loss_of(weights, config, batch):
    """Mean cross entropy over the hidden tokens."""
    hidden = hidden_states(weights, config, batch["input_ids"], batch["attention_mask"])
    rows = torch.arange(len(hidden))[:, None]
    chosen = hidden[rows, batch["positions"]]
    transform = "cls.predictions.transform."
    x = functional.linear(chosen, weights[transform + "dense.weight"], weights[transform + "dense.bias"])
    x = functional.gelu(x)
    x = functional.layer_norm(
        x,
        x.shape[-1:],
        weights[transform + "LayerNorm.weight"],
        weights[transform + "LayerNorm.bias"],
        float(config["epsilon"]),
    )
    logits = functional.linear(
        x, weights["bert.embeddings.word_embeddings.weight"], weights["cls.predictions.decoder.bias"]
    )
    nats = functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="none")
    counted = batch["weights"].flatten().double()
    return (nats * counted).sum() / counted.sum()


def main(source: str, target: str) -> None:
    """Trains and writes the losses."""
    given = dict(np.load(source))
    weights = {
        key.removeprefix("weight/"): torch.from_numpy(value).double().requires_grad_()
        for key, value in given.items()
        if key.startswith("weight/") and not key.endswith("decoder.weight")
    }
    config = {key.removeprefix("config/"): value for key, value in given.items() if key.startswith("config/")}
    free = [w for key, w in weights.items() if key.endswith(".bias") or "norm" in key.lower()]
    decayed = [w for key, w in weights.items() if not (key.endswith(".bias") or "norm" in key.lower())]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": float(config["weight_decay"])},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=(float(config["beta1"]), float(config["beta2"])),
        eps=float(config["adam_epsilon"]),
    )
    peak, warmup, steps = float(config["peak"]), int(config["warmup"]), int(config["steps"])

    def rate(step: int) -> float:
        return peak * (step / warmup if step < warmup else (steps - step) / (steps - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    for step in range(steps):
        batch = {
            name: torch.from_numpy(given[f"batch/{name}"][step])
            for name in ("input_ids", "attention_mask", "positions", "targets", "weights")
        }
        optimizer.zero_grad()
        loss = loss_of(weights, config, batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    np.savez(target, losses=np.array(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
