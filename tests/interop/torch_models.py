# pyright: reportMissingImports=false
"""DNABERT-2 in plain PyTorch, and the released classes, behind one way to load them.

Run by an interpreter that has PyTorch; shares no code with the package. The plain models are written after
the paper, with modules named so that the released state dict fits them key by key.
"""

import importlib
import json
import math
import sys
import types
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


class Embeddings(nn.Module):
    """Word plus token-type vectors, normalised."""

    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    def forward(self, input_ids, token_type_ids):
        return self.LayerNorm(self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids))


class Block(nn.Module):
    """Attention and gated feed-forward, each followed by its norm; no dropout."""

    def __init__(self, config):
        super().__init__()
        width, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({"Wqkv": nn.Linear(width, 3 * width)}),
                "output": nn.ModuleDict(
                    {"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, epsilon)}
                ),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gated_layers": nn.Linear(width, 2 * inner, bias=False),
                "wo": nn.Linear(inner, width),
                "layernorm": nn.LayerNorm(width, epsilon),
            }
        )

    def forward(self, x, bias):
        batch, length, width = x.shape
        qkv = self.attention["self"]["Wqkv"](x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) + bias).softmax(-1)
        attended = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        output = self.attention["output"]
        x = output["LayerNorm"](x + output["dense"](attended))
        gate, value = self.mlp["gated_layers"](x).chunk(2, -1)
        return self.mlp["layernorm"](x + self.mlp["wo"](functional.gelu(gate) * value))


class Pooler(nn.Module):
    """One vector per row, from its first token."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config["hidden_size"], config["hidden_size"])

    def forward(self, hidden):
        return torch.tanh(self.dense(hidden[:, 0]))


class Bert(nn.Module):
    """The encoder, and a pooler where there is a classifier: (hidden states, pooled vector or None)."""

    def __init__(self, config, pooler: bool):
        super().__init__()
        self.heads = config["num_attention_heads"]
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))}
        )
        self.pooler = Pooler(config) if pooler else None

    def forward(self, input_ids, attention_mask, token_type_ids):
        x = self.embeddings(input_ids, token_type_ids)
        positions = torch.arange(input_ids.shape[1])
        distance = (positions[:, None] - positions[None, :]).abs().float()
        # The slopes are float32 numbers, whatever the model computes in.
        bias = -(torch.tensor(slopes(self.heads))[:, None, None] * distance)[None].to(x.dtype)
        bias = bias + (1 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for block in self.encoder["layer"]:
            x = block(x, bias)
        x = x * attention_mask[:, :, None].to(x.dtype)
        return x, None if self.pooler is None else self.pooler(x)


class MaskedLanguageModel(nn.Module):
    """The encoder with the head whose decoder is the word embeddings."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.bert = Bert(config, pooler=False)
        self.cls = nn.ModuleDict(
            {
                "predictions": nn.ModuleDict(
                    {
                        "transform": nn.ModuleDict(
                            {
                                "dense": nn.Linear(width, width),
                                "LayerNorm": nn.LayerNorm(width, config["layer_norm_eps"]),
                            }
                        ),
                        "decoder": nn.Linear(width, config["vocab_size"]),
                    }
                )
            }
        )
        self.cls["predictions"]["decoder"].weight = self.bert.embeddings.word_embeddings.weight

    def head(self, hidden):
        """Logits over the vocabulary."""
        transform = self.cls["predictions"]["transform"]
        return self.cls["predictions"]["decoder"](
            transform["LayerNorm"](functional.gelu(transform["dense"](hidden)))
        )

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.head(self.bert(input_ids, attention_mask, token_type_ids)[0])


class SequenceClassifier(nn.Module):
    """The encoder, its pooler, and one linear layer."""

    def __init__(self, config):
        super().__init__()
        self.bert = Bert(config, pooler=True)
        self.classifier = nn.Linear(config["hidden_size"], len(config["id2label"]))

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.classifier(self.bert(input_ids, attention_mask, token_type_ids)[1])


def slopes(heads: int) -> list[float]:
    """ALiBi's: a geometric series, filled up from the one of twice as many heads."""
    power = 1 << (heads.bit_length() - 1)
    return _series(power) + _series(2 * power)[::2][: heads - power]


def _series(heads: int) -> list[float]:
    return [2.0 ** (-8 * (head + 1) / heads) for head in range(heads)]


def load(folder: str, code: str, dtype: str) -> nn.Module:
    """The model of a model folder, every key in its place.

    Args:
      folder: with config.json and model.safetensors.
      code: "plain", or the folder of the released code.
      dtype: "float32" or "float64".
    """
    from safetensors.torch import load_file

    config = json.loads((Path(folder) / "config.json").read_text())
    kind = config["architectures"][0]
    if code == "plain":
        plain = {"BertForMaskedLM": MaskedLanguageModel, "BertForSequenceClassification": SequenceClassifier}
        model = plain[kind](config)
    else:
        layers, configuration = released(code)
        model = getattr(layers, kind)(configuration.BertConfig.from_pretrained(folder))
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)
    return model.to(getattr(torch, dtype)).eval()


def released(code: str) -> tuple[types.ModuleType, types.ModuleType]:
    """The released modules bert_layers and configuration_bert, with attention in plain PyTorch."""
    package = types.ModuleType("released")
    package.__path__ = [code]
    sys.modules["released"] = package
    layers = importlib.import_module("released.bert_layers")
    # Its Triton kernel is for GPUs and computes in float16.
    vars(layers)["flash_attn_qkvpacked_func"] = None
    return layers, importlib.import_module("released.configuration_bert")


def outputs(model: nn.Module, given: dict) -> dict:
    """Hidden states and logits for `input_ids`, `attention_mask` and `token_type_ids`."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: torch.from_numpy(given[name]).long() for name in names}
    with torch.no_grad():
        hidden, result = model.bert(**inputs)[0], model(**inputs)
    return {"hidden": hidden.numpy(), "logits": getattr(result, "logits", result).numpy()}
