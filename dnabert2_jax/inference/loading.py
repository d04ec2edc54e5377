"""`from_pretrained`: a model's name in, a model that is ready to use out, its parameters on their devices."""

import os
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.hub import model_folder
from dnabert2_jax.inference.pretrained import ComputeType, Pretrained
from dnabert2_jax.model.adapter import attach_adapter
from dnabert2_jax.model.adapter_folder import base_of, is_adapter_folder, read_adapter
from dnabert2_jax.model.folder import ModelDescription, read_description, read_parameters
from dnabert2_jax.model.lora import merge_adapters
from dnabert2_jax.model.mapped_file import copy_out, release_pages
from dnabert2_jax.model.parameters import Parameters, split
from dnabert2_jax.parallel.sharding import parameter_sharding
from dnabert2_jax.tokenizer.kmer_files import stored_rows
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

# The parameters that have a row for each token.
_BY_TOKEN = {"encoder.embeddings.word", "head.bias"}


def from_pretrained(
    source: str | Path,
    dtype: ComputeType = "float32",
    *,
    revision: str | None = None,
    mesh: Mesh | None = None,
) -> Pretrained:
    """Loads a model.

    The weights are mapped, and copied to the devices one after another: beside the parameters, memory holds
    the largest of them.

    Args:
      source: a hub id such as "zhihan1996/DNABERT-2-117M", or "zhihan1996/DNA_bert_6" of DNABERT; or a folder
        with config.json, weights (model.safetensors or pytorch_model.bin, whole or sharded with an index) and
        a tokenizer; or a LoRA adapter in PEFT's layout, which is merged into the base model that it names.
      dtype: the type of activations; parameters are float32, or float64 with "float64".
      revision: branch, tag or commit of a hub id.
      mesh: where the parameters lie, split over its axes `fsdp` and `tensor`, each device reading its own
        part; None means whole, on the default device.

    Raises:
      UserError: there is no such model, it is not a DNABERT-2 model, or its parts do not fit together.

    Warns:
      InputWarning: the weights lack a head, or hold one without a use; the hub cannot be reached and an
        earlier download is used.

    Examples:
      >>> model = from_pretrained("run/model")
      >>> model.embed(["ACGTTGCA", "TTGACAGCTA"]).shape
      (2, 32)
      >>> model.description.architecture.hidden_size
      32
    """
    if dtype not in ("float32", "bfloat16", "float64"):
        raise UserError(f"dtype is {dtype!r}; choose 'float32', 'bfloat16' or 'float64'")
    folder = model_folder(source, revision)
    if is_adapter_folder(folder):
        return _with_adapter(folder, dtype, mesh)
    return _from_folder(folder, dtype, mesh)


def _with_adapter(folder: Path, dtype: ComputeType, mesh: Mesh | None) -> Pretrained:
    adapter = read_adapter(folder)
    base_name = base_of(folder, adapter)
    # PEFT notes a revision for folders too, of which it says nothing.
    is_folder = os.path.isdir(os.path.expanduser(base_name))
    base_folder = model_folder(base_name, None if is_folder else adapter.revision)
    if is_adapter_folder(base_folder):
        raise UserError(f"{folder}: its base model {adapter.base} is an adapter too; name the model below it")
    base = _from_folder(base_folder, dtype, mesh)
    with jax.enable_x64(dtype == "float64"):
        description, parameters = attach_adapter(base.description, base.parameters, adapter, str(folder))
        merged = merge_adapters(parameters, adapter.lora.scale)
        if mesh is not None:
            merged = {
                name: jax.device_put(array, parameter_sharding(mesh, name, array.shape))
                for name, array in merged.items()
            }
    return Pretrained(description, merged, base.tokenizer, dtype, mesh=mesh)


def _from_folder(folder: Path, dtype: ComputeType, mesh: Mesh | None) -> Pretrained:
    description = read_description(folder)
    stored, missing = read_parameters(folder, description)
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size != description.architecture.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{description.architecture.vocab_size}; they do not belong together"
        )
    rows = _rows_of_tokens(folder, tokenizer)
    with jax.enable_x64(dtype == "float64"):
        parameter_type = np.dtype(np.float64 if dtype == "float64" else np.float32)
        parameters = _random(description, missing, mesh)
        for name, view in stored.items():
            if rows is not None and name in _BY_TOKEN:
                view = view[rows]
            parameters[name] = _on_devices(name, view, parameter_type, mesh)
            release_pages(view)
    untrained = {name.partition(".")[0] for name in missing}
    return Pretrained(description, parameters, tokenizer, dtype, mesh=mesh, untrained=untrained)


def _rows_of_tokens(folder: Path, tokenizer: SequenceTokenizer) -> np.ndarray | None:
    """The row of each token in the stored arrays: files of DNABERT count in another order than we do."""
    if not (isinstance(tokenizer, KmerTokenizer) and tokenizer.overlapping):
        return None
    rows = stored_rows(folder)
    if rows is not None and len(rows) != tokenizer.vocab_size:
        raise UserError(
            f"{folder}: vocab.txt has {len(rows)} tokens and the tokenizer {tokenizer.vocab_size}; "
            "they do not belong together"
        )
    return rows


def _on_devices(name: str, view: np.ndarray, dtype: np.dtype, mesh: Mesh | None) -> jax.Array:
    def read(index) -> np.ndarray:
        return copy_out(view[index], dtype)

    if mesh is None:
        return jax.device_put(read(...))
    return jax.make_array_from_callback(view.shape, parameter_sharding(mesh, name, view.shape), read)


def _random(description: ModelDescription, names: Iterable[str], mesh: Mesh | None) -> Parameters:
    """Some of the model's initial parameters; the compiler leaves the others out."""
    _, shapes = description.abstract()
    chosen = sorted(names)
    if not chosen:
        return {}

    def initial() -> Parameters:
        _, parameters = split(description.build(nnx.Rngs(0)))
        return {name: parameters[name] for name in chosen}

    shardings = (
        None
        if mesh is None
        else {name: parameter_sharding(mesh, name, shapes[name].shape) for name in chosen}
    )
    return jax.jit(initial, out_shardings=shardings)()
