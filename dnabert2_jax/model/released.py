"""The released model's own names: its state-dict keys and its config.json.

Everything that knows how the PyTorch code spells things is here. In: arrays under released keys, or our
parameters; out: the other.
"""

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

import jax
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture, check_architecture
from dnabert2_jax.problem import Problem

HUB_ID = "zhihan1996/DNABERT-2-117M"

_MODULES = {
    "encoder.embeddings.norm": "bert.embeddings.LayerNorm",
    "encoder.blocks.N.attention.qkv": "bert.encoder.layer.N.attention.self.Wqkv",
    "encoder.blocks.N.attention.output": "bert.encoder.layer.N.attention.output.dense",
    "encoder.blocks.N.attention_norm": "bert.encoder.layer.N.attention.output.LayerNorm",
    "encoder.blocks.N.feed_forward.gated": "bert.encoder.layer.N.mlp.gated_layers",
    "encoder.blocks.N.feed_forward.output": "bert.encoder.layer.N.mlp.wo",
    "encoder.blocks.N.feed_forward_norm": "bert.encoder.layer.N.mlp.layernorm",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "pooler.dense": "bert.pooler.dense",
    "classifier": "classifier",
}
_ARRAYS = {
    "encoder.embeddings.word": "bert.embeddings.word_embeddings.weight",
    "encoder.embeddings.token_type": "bert.embeddings.token_type_embeddings.weight",
    "head.bias": "cls.predictions.decoder.bias",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_TIED_DECODER = "cls.predictions.decoder.weight"


def released_key(name: str) -> str:
    """The released state-dict key of the parameter called `name` here."""
    if name in _ARRAYS:
        return _ARRAYS[name]
    module, leaf = name.rsplit(".", 1)
    layer = re.search(r"\.(\d+)\.", module)
    general = re.sub(r"\.\d+\.", ".N.", module)
    key = f"{_MODULES[general]}.{_LEAVES[leaf]}"
    return key.replace(".N.", f".{layer[1]}.") if layer else key


def to_released(parameters: Mapping[str, jax.Array | np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters as a released state dict: kernels become [O, I], the tied decoder is written out."""
    state = {
        released_key(name): np.ascontiguousarray(_transpose_kernel(name, np.asarray(value)))
        for name, value in parameters.items()
    }
    if "cls.predictions.decoder.bias" in state:
        state[_TIED_DECODER] = state["bert.embeddings.word_embeddings.weight"]
    return state


def from_released(
    state: Mapping[str, np.ndarray], wanted: Mapping[str, jax.ShapeDtypeStruct], source: str
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Finds our parameters in a released state dict.

    Args:
      state: arrays under released keys.
      wanted: name → shape of each parameter that the model has.
      source: the file, for messages.

    Returns:
      The parameters found, the names not found, and the released keys not used.

    Raises:
      UserError: an array has another shape than the configuration says, or the decoder is not the word
        embeddings.
    """
    found, missing = {}, []
    unused = set(state)
    for name, shape in wanted.items():
        key = released_key(name)
        if key not in state:
            missing.append(name)
            continue
        array = _transpose_kernel(name, state[key])
        if array.shape != shape.shape:
            raise UserError(
                f"{source}: {key} has shape {state[key].shape}, which config.json does not describe"
            )
        found[name] = array
        unused.discard(key)
    if _TIED_DECODER in unused:
        word = state.get("bert.embeddings.word_embeddings.weight")
        if word is None or not np.array_equal(state[_TIED_DECODER], word):
            raise UserError(
                f"{source}: {_TIED_DECODER} differs from the word embeddings, to which it is tied"
            )
        unused.discard(_TIED_DECODER)
    return found, missing, sorted(unused)


def is_layer_beyond(key: str, layers: int) -> bool:
    """Whether a released state-dict key belongs to a layer that a model with so many layers lacks."""
    layer = re.match(r"bert\.encoder\.layer\.(\d+)\.", key)
    return layer is not None and int(layer[1]) >= layers


def _transpose_kernel(name: str, array: np.ndarray) -> np.ndarray:
    return array.T if name.endswith(".kernel") else array


def architecture_from_config(config: Mapping[str, Any], source: str) -> Architecture:
    """Reads the architecture from a released config.json.

    Raises:
      UserError: a number is missing or out of range, or it describes what this encoder does not compute.
    """
    values = {}
    for name in Architecture.__struct_fields__:
        value = config.get(name)
        expected = float if name in ("hidden_dropout_prob", "layer_norm_eps", "initializer_range") else int
        if isinstance(value, bool) or not isinstance(value, (int, expected)):
            raise UserError(f"{source}: {name} is {value!r}; a DNABERT-2 configuration gives a number")
        values[name] = expected(value)
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise UserError(f"{source}: hidden_act is {activation!r}; DNABERT-2 uses 'gelu'")
    if config.get("attention_probs_dropout_prob", 0.0) != 0.0:
        raise UserError(
            f"{source}: attention_probs_dropout_prob is not 0; attention dropout is not supported"
        )
    architecture = Architecture(**values)
    check_architecture(architecture, source)
    return architecture


def config_from_architecture(
    architecture: Architecture, class_names: tuple[str, ...] | None, problem: Problem
) -> dict[str, Any]:
    """The released config.json of a masked-language model, or of a fine-tuned one where classes are given."""
    task = "BertForMaskedLM" if class_names is None else "BertForSequenceClassification"
    config = {
        "architectures": [task],
        "alibi_starting_size": 512,
        "attention_probs_dropout_prob": 0.0,
        # With the hub id before the class, transformers finds the code without a copy of it here.
        "auto_map": {
            "AutoConfig": f"{HUB_ID}--configuration_bert.BertConfig",
            "AutoModel": f"{HUB_ID}--bert_layers.BertModel",
            "AutoModelForMaskedLM": f"{HUB_ID}--bert_layers.BertForMaskedLM",
            "AutoModelForSequenceClassification": f"{HUB_ID}--bert_layers.BertForSequenceClassification",
        },
        "classifier_dropout": None,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "model_type": "bert",
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "use_cache": True,
        **{name: getattr(architecture, name) for name in Architecture.__struct_fields__},
    }
    if class_names is not None:
        config["id2label"] = {str(index): name for index, name in enumerate(class_names)}
        config["label2id"] = {name: index for index, name in enumerate(class_names)}
        config["problem_type"] = problem
    return config


def class_names_from_config(config: Mapping[str, Any], source: str) -> tuple[str, ...] | None:
    """The classes of a fine-tuned model, by label; None for a model without a classifier."""
    if "BertForSequenceClassification" not in (config.get("architectures") or []):
        return None
    names = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    if (
        not isinstance(names, dict)
        or not names
        or sorted(names, key=str) != sorted(map(str, range(len(names))))
    ):
        raise UserError(f"{source}: id2label must name the labels 0 to n - 1")
    return tuple(str(names[str(index)]) for index in range(len(names)))


def problem_from_config(config: Mapping[str, Any], num_labels: int, source: str) -> Problem:
    """What a fine-tuned model predicts.

    Where config.json does not say, the released code decides by the labels it is given: a single one is
    regression, whole numbers are classes. That several labels apply at once cannot be known without them.

    Raises:
      UserError: the problem is none of the released code's.
    """
    problem = config.get("problem_type")
    if problem is None:
        return "regression" if num_labels == 1 else "single_label_classification"
    known = get_args(Problem.__value__)
    if problem not in known:
        raise UserError(f"{source}: problem_type is {problem!r}; it must be {', '.join(known)} or absent")
    return cast(Problem, problem)
