"""Continued pre-training: a model that is there already in, the parameters that a run starts from out."""

from pathlib import Path

import msgspec
from jax.sharding import Mesh

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.hub import model_folder
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.folder import read_description
from dnabert2_jax.model.parameters import Parameters
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

# What training may choose anew: neither is stored in a parameter, nor changes what the model computes.
_FREE = {"hidden_dropout_prob", "initializer_range"}


def check_initial_model(settings: PretrainSettings, tokenizer: SequenceTokenizer, corpus: str | Path) -> None:
    """Makes sure, before anything is computed, that a run can start from `training.initial_model`.

    Args:
      settings: of the run.
      tokenizer: of the corpus.
      corpus: its folder, for the message.

    Raises:
      UserError: there is no such model, it is of another architecture than [model] says, or its tokens are
        not those of the corpus.
    """
    source = settings.training.initial_model
    folder = model_folder(source)
    theirs = msgspec.structs.asdict(read_description(folder).architecture)
    ours = msgspec.structs.asdict(settings.model)
    different = [name for name in ours if name not in _FREE and ours[name] != theirs[name]]
    if different:
        remedy = " ".join(f"--model.{name} {theirs[name]}" for name in different)
        raise UserError(f"training.initial_model {source}: is another model than [model] says; add {remedy}")
    if load_tokenizer(folder).tokens != tokenizer.tokens:
        raise UserError(
            f"{corpus}: was built with another tokenizer than that of training.initial_model {source}; "
            "build the corpus with that one"
        )


def initial_parameters(settings: PretrainSettings, mesh: Mesh) -> Parameters:
    """The parameters of `training.initial_model`, on the mesh; of a classifier the encoder alone.

    Raises:
      UserError: the model cannot be read.
    """
    parameters = from_pretrained(settings.training.initial_model, mesh=mesh).parameters
    return {name: array for name, array in parameters.items() if name.startswith(("encoder.", "head."))}
