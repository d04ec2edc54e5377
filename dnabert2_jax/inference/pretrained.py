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
from dnabert2_jax.inference.inputs import check_inputs, check_layers
from dnabert2_jax.inference.pooling import Pooling, pool, widen
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.model.parameters import Parameters, merge
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

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
        *,
        all_layers: bool = False,
    ) -> jax.Array:
        """The last layer's vectors: [B, S, E] in float32 (float64 when loaded so), 0 at padding.

        Args:
          input_ids: [B, S] token ids.
          attention_mask: [B, S], 1 at real tokens, 0 at padding; None means no padding.
          token_type_ids: [B, S], 0 and 1 for the two sequences of a pair; None means all 0.
          all_layers: whether to give every layer, [1 + L, B, S, E], from the embeddings to the last.

        Raises:
          UserError: an array is not of integers, has another shape, or holds an id that the model lacks.
        """
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        with self._precision():
            return self._hidden_states(self.parameters, *inputs, all_layers=all_layers)

    def attention_maps(
        self,
        input_ids: np.ndarray,
        attention_mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        layers: Iterable[int] | None = None,
    ) -> jax.Array:
        """What each token attends to: [layers, B, H, S, S] in float32 (float64 when loaded so).

        `[n, b, h, i, j]` is the weight of token j in what head h makes of token i. A row adds up to 1 over
        the real tokens, and is 0 where token i is padding. They are the weights that the model computes
        with, not an approximation, and take 4·B·H·S² bytes for each layer: 12 layers of one row of 512
        tokens 151 MB, of 2,048 tokens 2.4 GB. Ask for the layers that you need.

        Args:
          input_ids, attention_mask, token_type_ids: as in `hidden_states`.
          layers: which of the L layers, counted from 0, from the end with negative numbers; None means all.

        Raises:
          UserError: there is no such layer; the arrays are not as `hidden_states` wants them.
        """
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        chosen = check_layers(self.description.architecture, layers)
        with self._precision():
            return self._attention_maps(self.parameters, *inputs, layers=chosen)

    def mlm_logits(
        self,
        input_ids: np.ndarray,
        attention_mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> jax.Array:
        """The masked-language-model logits: [B, S, V] in float32 (float64 when loaded so).

        Raises:
          UserError: the model is a classifier and has no such head, or the arrays are not as
            `hidden_states` wants them.
        """
        if self.description.class_names is not None:
            raise UserError("this model was fine-tuned: it has no masked-language-model head")
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        with self._precision():
            return self._mlm_logits(self.parameters, *inputs)

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

    def _states(self, parameters, input_ids, attention_mask, token_type_ids):
        mask = jnp.ones_like(input_ids) if attention_mask is None else attention_mask
        encoder = merge(self._graph, parameters).encoder
        return encoder.states(input_ids, mask, token_type_ids, dtype=jnp.dtype(self.dtype)), mask

    @cached_property
    def _hidden_states(self):
        def hidden_states(parameters, input_ids, attention_mask, token_type_ids, *, all_layers: bool):
            if not all_layers:
                return widen(self._encode(parameters, input_ids, attention_mask, token_type_ids))
            states, mask = self._states(parameters, input_ids, attention_mask, token_type_ids)
            return jnp.where(mask[:, :, None] != 0, widen(jnp.stack(states)), 0)

        return jax.jit(hidden_states, static_argnames="all_layers")

    @cached_property
    def _attention_maps(self):
        def attention_maps(parameters, input_ids, attention_mask, token_type_ids, *, layers):
            states, mask = self._states(parameters, input_ids, attention_mask, token_type_ids)
            blocks = merge(self._graph, parameters).encoder.blocks
            return jnp.stack([blocks[layer].attention.weights(states[layer], mask) for layer in layers])

        return jax.jit(attention_maps, static_argnames="layers")

    @cached_property
    def _mlm_logits(self):
        def mlm_logits(parameters, input_ids, attention_mask, token_type_ids):
            hidden = self._encode(parameters, input_ids, attention_mask, token_type_ids)
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
            return pool(widen(hidden), attention_mask, pooling)

        return jax.jit(embedding, static_argnames="pooling")


def _opposite_strand(example: Example) -> Example:
    if isinstance(example, str):
        return reverse_complement_of(example)
    first, second = example
    return reverse_complement_of(first), reverse_complement_of(second)
