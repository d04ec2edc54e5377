"""The object that a trained model is: configuration, parameters and tokenizer, ready to use.

In: a model folder. Out: hidden states, logits, embeddings, predictions, and a model folder again.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_folder
from dnabert2_jax.genome.sequence import reverse_complement as reverse_complement_of
from dnabert2_jax.inference.engine import Compute, Example, map_sequences
from dnabert2_jax.inference.inputs import check_inputs
from dnabert2_jax.model.folder import ModelDescription, read_description, read_weights, write_model
from dnabert2_jax.model.parameters import Parameters, merge
from dnabert2_jax.model.released import from_released, is_layer_beyond
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

type Pooling = Literal["mean", "cls", "max"]
type ComputeType = Literal["float32", "bfloat16", "float64"]


class Pretrained:
    """A trained model: a masked-language model, or what it was fine-tuned to predict.

    Attributes:
      description: architecture, class names and problem.
      parameters: by name; float32, or float64 when loaded so.
      tokenizer: the tokenizer that the model was trained with.
      dtype: the type that activations are computed in.
    """

    def __init__(
        self,
        description: ModelDescription,
        parameters: Parameters,
        tokenizer: SequenceTokenizer,
        dtype: ComputeType = "float32",
    ):
        self.description = description
        self.parameters = parameters
        self.tokenizer = tokenizer
        self.dtype: ComputeType = dtype
        self._graph, _ = description.abstract()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels of a fine-tuned model, in order: its classes, or the numbers that it predicts.

        Raises:
          UserError: the model was not fine-tuned.
        """
        if self.description.class_names is None:
            raise UserError("this model was not fine-tuned and has no classes; run dnabert2 finetune")
        return self.description.class_names

    def hidden_states(
        self,
        input_ids: np.ndarray,
        attention_mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> jax.Array:
        """The last layer's vectors: [B, S, E] in float32 (float64 when loaded so), 0 at padding.

        Args:
          input_ids: [B, S] token ids.
          attention_mask: [B, S], 1 at real tokens, 0 at padding; None means no padding.
          token_type_ids: [B, S], 0 and 1 for the two sequences of a pair; None means all 0.

        Raises:
          UserError: an array is not of integers, has another shape, or holds an id that the model lacks.
        """
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        with self._precision():
            return self._hidden_states(self.parameters, *inputs)

    def mlm_logits(self, input_ids: np.ndarray, attention_mask: np.ndarray | None = None) -> jax.Array:
        """The masked-language-model logits: [B, S, V] in float32 (float64 when loaded so).

        Raises:
          UserError: the model is a classifier and has no such head, or the arrays are not as
            `hidden_states` wants them.
        """
        if self.description.class_names is not None:
            raise UserError("this model was fine-tuned: it has no masked-language-model head")
        input_ids, attention_mask, _ = check_inputs(self.description.architecture, input_ids, attention_mask)
        with self._precision():
            return self._mlm_logits(self.parameters, input_ids, attention_mask)

    def embed(
        self,
        sequences: Iterable[Example],
        pooling: Pooling = "mean",
        batch_size: int = 32,
        reverse_complement: bool = False,
    ) -> np.ndarray:
        """One vector per sequence: float32 [n, E], in the order given.

        Args:
          sequences: DNA text of any lengths, or pairs `(first, second)` of such.
          pooling: "mean" or "max" over the real tokens, [CLS] and [SEP] included; "cls" is the first
            token's vector, which means little before fine-tuning.
          batch_size: most sequences computed at once; never changes the result beyond rounding.
          reverse_complement: average with the vector of the opposite strand.

        Raises:
          UserError: no such pooling, `sequences` is one string, `batch_size` is below 1, or memory is short.
        """
        if pooling not in ("mean", "cls", "max"):
            raise UserError(f"pooling is {pooling!r}; choose 'mean', 'cls' or 'max'")
        compute = partial(self._embedding, pooling=pooling)
        return self._both_strands(
            compute, sequences, self.description.architecture.hidden_size, batch_size, reverse_complement
        )

    def predict(
        self, sequences: Iterable[Example], batch_size: int = 32, reverse_complement: bool = False
    ) -> np.ndarray:
        """What the model was fine-tuned to predict: float32 [n, labels], in the order given.

        Of classes that exclude each other it is their probabilities, which add up to 1; of several labels the
        probability of each; in regression the value itself.

        Args:
          sequences, batch_size, reverse_complement: as in `embed`.

        Raises:
          UserError: the model was not fine-tuned, `sequences` is one string, `batch_size` is below 1, or
            memory is short.
        """
        return self._both_strands(
            self._predictions, sequences, len(self.class_names), batch_size, reverse_complement
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a model folder in the released layout, whole or not at all; one that is there gives way."""
        with atomic_folder(folder, replace=True) as temporary:
            write_model(temporary, self.description, self.parameters)
            self.tokenizer.save(temporary)

    def _both_strands(self, compute, sequences, width, batch_size, reverse_complement) -> np.ndarray:
        if isinstance(sequences, str):
            raise UserError("sequences is one string, which would count as many of one base; give a list")

        def forward(parts: Iterable[Example]) -> np.ndarray:
            rows = list(map_sequences(self._run(compute), self.tokenizer, parts, batch_size=batch_size))
            return np.stack(rows) if rows else np.zeros((0, width), np.float32)

        if not reverse_complement:
            return forward(sequences)
        sequences = list(sequences)
        opposite = forward(_opposite_strand(example) for example in sequences)
        return (forward(sequences) + opposite) / 2

    def _run(self, compute: Callable) -> Compute:
        def run(input_ids, attention_mask, token_type_ids) -> np.ndarray:
            with self._precision():
                results = compute(self.parameters, input_ids, attention_mask, token_type_ids)
                return np.asarray(results, np.float32)

        return run

    def _precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if self.dtype == "float64" else nullcontext()

    def _encode(self, parameters, input_ids, attention_mask=None, token_type_ids=None):
        encoder = merge(self._graph, parameters).encoder
        return encoder(input_ids, attention_mask, token_type_ids, dtype=jnp.dtype(self.dtype))

    @cached_property
    def _hidden_states(self):
        def hidden_states(parameters, input_ids, attention_mask, token_type_ids):
            hidden = self._encode(parameters, input_ids, attention_mask, token_type_ids)
            return hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))

        return jax.jit(hidden_states)

    @cached_property
    def _mlm_logits(self):
        def mlm_logits(parameters, input_ids, attention_mask):
            hidden = self._encode(parameters, input_ids, attention_mask)
            return merge(self._graph, parameters).logits(hidden)

        return jax.jit(mlm_logits)

    @cached_property
    def _predictions(self):
        def predictions(parameters, input_ids, attention_mask, token_type_ids):
            hidden = self._encode(parameters, input_ids, attention_mask, token_type_ids)
            logits = merge(self._graph, parameters).logits(hidden)
            match self.description.problem:
                case "single_label_classification":
                    return jax.nn.softmax(logits, axis=-1)
                case "multi_label_classification":
                    return jax.nn.sigmoid(logits)
                case "regression":
                    return logits

        return jax.jit(predictions)

    @cached_property
    def _embedding(self):
        def embedding(parameters, input_ids, attention_mask, token_type_ids, *, pooling: Pooling):
            hidden = self._encode(parameters, input_ids, attention_mask, token_type_ids)
            return pool(hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32)), attention_mask, pooling)

        return jax.jit(embedding, static_argnames="pooling")


def pool(hidden: jax.Array, attention_mask: jax.Array, pooling: Pooling) -> jax.Array:
    """One vector per row, [B, E], from hidden states [B, S, E]; padding never counts."""
    if pooling == "cls":
        return hidden[:, 0]
    real = attention_mask[:, :, None] != 0
    if pooling == "max":
        return jnp.where(real, hidden, -jnp.inf).max(axis=1)
    return jnp.where(real, hidden, 0).sum(axis=1) / real.sum(axis=1)


def _opposite_strand(example: Example) -> Example:
    if isinstance(example, str):
        return reverse_complement_of(example)
    first, second = example
    return reverse_complement_of(first), reverse_complement_of(second)


def from_pretrained(source: str | Path, dtype: ComputeType = "float32") -> Pretrained:
    """Loads a model folder.

    Args:
      source: a folder with config.json, model.safetensors and a tokenizer.
      dtype: the type of activations; parameters are float32, or float64 with "float64".

    Raises:
      UserError: the folder is not that of a DNABERT-2 model, or its parts do not fit together.
    """
    if dtype not in ("float32", "bfloat16", "float64"):
        raise UserError(f"dtype is {dtype!r}; choose 'float32', 'bfloat16' or 'float64'")
    description = read_description(source)
    tokenizer = load_tokenizer(source)
    if tokenizer.vocab_size != description.architecture.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{description.architecture.vocab_size}; they do not belong together"
        )
    _, shapes = description.abstract()
    found, missing, unused = from_released(read_weights(source), shapes, str(source))
    if missing:
        raise UserError(f"{source}: the weights lack {', '.join(missing[:3])}")
    # A head that this model does not use may lie in the file; anything else is of another architecture.
    foreign = [
        key for key in unused if not key.startswith(("bert.pooler.", "cls.predictions.", "classifier."))
    ]
    if foreign:
        layers = description.architecture.num_hidden_layers
        if any(is_layer_beyond(key, layers) for key in foreign):
            raise UserError(
                f"{source}: config.json describes {layers} layers (num_hidden_layers) and the weights more; "
                "they do not belong together"
            )
        raise UserError(f"{source}: the weights hold {', '.join(foreign[:3])}, which DNABERT-2 does not have")
    parameter_type = np.float64 if dtype == "float64" else np.float32
    with jax.enable_x64(dtype == "float64"):
        parameters = {name: jnp.asarray(array, parameter_type) for name, array in found.items()}
    return Pretrained(description, parameters, tokenizer, dtype)
