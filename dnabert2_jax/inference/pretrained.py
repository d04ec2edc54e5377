"""The object that a trained model is: configuration, parameters and tokenizer, ready to use.

In: a model folder. Out: hidden states, logits, embeddings, predictions, and a model folder again.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_folder
from dnabert2_jax.inference.answers import Answer, Running, answer, check_pooling, refuse_pairs
from dnabert2_jax.inference.batching import BatchPlanner, Inputs, Row
from dnabert2_jax.inference.consistency import (
    AnswerKind,
    StrandConsistency,
    compare_strands,
    summarise_strands,
)
from dnabert2_jax.inference.devices import RowSharding
from dnabert2_jax.inference.engine import Compute, Example, Named, Plan, Result, compute_rows, run
from dnabert2_jax.inference.forward import Forward, answers
from dnabert2_jax.inference.inputs import check_inputs, check_layers
from dnabert2_jax.inference.pooling import TOKEN_POOLINGS, Pooling, TokenPooling, VectorPooling
from dnabert2_jax.inference.windows import Stitch, check_window
from dnabert2_jax.model.card import CARD_FILE, NOTHING_KNOWN
from dnabert2_jax.model.folder import CONFIG_FILE, ModelDescription, StoredType, write_model
from dnabert2_jax.model.parameters import Parameters
from dnabert2_jax.model.weight_files import WEIGHTS_FILE
from dnabert2_jax.problem import Problem
from dnabert2_jax.tokenizer.released import TOKENIZER_FILES
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

type ComputeType = Literal["float32", "bfloat16", "float64"]

# Bases of a block, and, where each base or token has a vector, numbers in a block: a quarter of a gigabyte.
_BLOCK_BASES = 1 << 21
_BLOCK_NUMBERS = 1 << 26

# What `save_pretrained` writes, and may therefore replace.
_SAVED_FILES = {CONFIG_FILE, CARD_FILE, WEIGHTS_FILE, *TOKENIZER_FILES}


class Pretrained:
    """A trained model: a masked-language model, or what it was fine-tuned to predict.

    Attributes:
      description: architecture, class names and problem.
      parameters: by name; float32, or float64 when loaded so.
      tokenizer: the tokenizer that the model was trained with.
      dtype: the type that activations are computed in.
      mesh: the devices that the parameters lie on; None where they lie on one, and the engine splits batches
        over all that this process has.
      untrained: which of "pooler", "classifier" and "head" the weights lacked, so that they are random.
    """

    def __init__(
        self,
        description: ModelDescription,
        parameters: Parameters,
        tokenizer: SequenceTokenizer,
        dtype: ComputeType = "float32",
        *,
        mesh: Mesh | None = None,
        untrained: Collection[str] = (),
    ):
        self.description = description
        self.parameters = parameters
        self.tokenizer = tokenizer
        self.dtype: ComputeType = dtype
        self.mesh = mesh
        self.untrained = frozenset(untrained)
        self._forward = Forward(description, dtype)

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
        with self._forward.precision():
            return self._forward.hidden_states(self.parameters, *inputs, all_layers=all_layers)

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

        Examples:
          >>> from dnabert2_jax import from_pretrained
          >>> model = from_pretrained("run/model")
          >>> ids, mask, _ = model.tokenizer.encode_batch(["ACGTTGCATTGACC"])
          >>> maps = model.attention_maps(ids, mask, layers=[-1])
          >>> maps.shape[:3], bool(jnp.allclose(maps.sum(-1), 1))
          ((1, 1, 4), True)
        """
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        chosen = check_layers(self.description.architecture, layers)
        with self._forward.precision():
            return self._forward.attention_maps(self.parameters, *inputs, layers=chosen)

    def mlm_logits(
        self,
        input_ids: np.ndarray,
        attention_mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> jax.Array:
        """The masked-language-model logits: [B, S, V] in float32 (float64 when loaded so).

        Raises:
          UserError: as `check_masked_head`, or the arrays are not as `hidden_states` wants them.
        """
        self.check_masked_head()
        inputs = check_inputs(self.description.architecture, input_ids, attention_mask, token_type_ids)
        with self._forward.precision():
            return self._forward.mlm_logits(self.parameters, *inputs)

    def check_masked_head(self) -> None:
        """Raises UserError where the model has no masked-language-model head, or one that knows nothing."""
        if self.description.class_names is not None:
            raise UserError("this model was fine-tuned: it has no masked-language-model head")
        if "head" in self.untrained:
            raise UserError(
                "the weights of this model lack the masked-language-model head; name a model that has it, or"
                " pre-train this one further"
            )

    def masked_log_probabilities(
        self, rows: Sequence[Row], batch_size: int = 32
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Log probabilities of all tokens in one masked place of each row, batch by batch.

        Args:
          rows: token ids with [CLS] and [SEP]; the token at `start` is masked. Rows may share their arrays.
          batch_size: as in `embed`.

        Yields:
          Which rows a batch holds, int64 [b], and float32 [b, V] (float64 when loaded so). Each row comes
          once, in an order that depends on the lengths.

        Raises:
          UserError: as `check_masked_head`; memory is short.
        """
        self.check_masked_head()
        planner = BatchPlanner(batch_size, self._rows.num_devices)
        return compute_rows(self._compute(self._forward.masked_log_probabilities), rows, planner, batch_size)

    @overload
    def embed(
        self,
        sequences: Iterable[Example],
        pooling: VectorPooling = "mean",
        batch_size: int = 32,
        reverse_complement: bool = False,
        *,
        window: int | None = 4096,
        overlap: int = 256,
    ) -> np.ndarray: ...
    @overload
    def embed(
        self,
        sequences: Iterable[str],
        pooling: TokenPooling,
        batch_size: int = 32,
        reverse_complement: bool = False,
        *,
        window: int | None = 4096,
        overlap: int = 256,
    ) -> list[np.ndarray]: ...
    def embed(
        self,
        sequences,
        pooling: Pooling = "mean",
        batch_size: int = 32,
        reverse_complement: bool = False,
        *,
        window: int | None = 4096,
        overlap: int = 256,
    ) -> np.ndarray | list[np.ndarray]:
        """Vectors of sequences, in the order given.

        A result depends on its sequence alone, to rounding: not on the others, their order, `batch_size` or
        the number of devices.

        Args:
          sequences: DNA text of any lengths, or pairs `(first, second)` of such. Any iterable; it is drawn
            from in a thread of its own.
          pooling: "mean" or "max" over the real tokens, [CLS] and [SEP] included; "cls" is the first
            token's vector, which means little before fine-tuning. "token" is every token's vector, without
            [CLS] and [SEP]; "nucleotide" gives each base the vector of its token, where unknown letters are
            tokens of their own and white space is nothing. The last two take no pairs.
          batch_size: most sequences computed at once on a device, fewer of those with more than 128 tokens.
          reverse_complement: average with the opposite strand: the vectors, or, of nucleotides, base by base.
            Not of tokens, which differ between the strands.
          window: sequences of more tokens than this, [CLS] and [SEP] included, are computed in windows of so
            many. Each token is taken from one window, the overlap of two being shared out in its middle;
            "mean" and "max" are over all of them, "cls" is the mean of the windows' [CLS] vectors, each
            counting as much as the tokens taken from it. None computes everything in one piece, with memory
            for its attention that grows with the square of its length. Pairs are always computed so. A model
            with learned positions takes no more tokens than these: longer sequences, of pairs both of them,
            are computed in pieces that share nothing, or for "token" in windows of so many.
          overlap: tokens that two neighbouring windows share at least.

        Returns:
          float32 [n, E]; for "token" and "nucleotide" a list of n arrays, float32 [tokens, E] or [bases, E].

        Warns:
          InputWarning: some sequences were computed in windows.

        Raises:
          UserError: no such pooling, or none for these sequences or this tokenizer; `sequences` is one
            string, or holds something that is neither text nor a pair; a number makes no sense; memory is
            short.
        """
        running = Running(batch_size, reverse_complement, window, overlap)
        blocks = self.embed_blocks(_named(sequences), pooling, running)
        values = [answer.values for block in blocks for answer in block]
        if pooling in TOKEN_POOLINGS:
            return values
        return np.stack(values) if values else np.zeros((0, self._width), np.float32)

    def predict(
        self,
        sequences: Iterable[Example],
        batch_size: int = 32,
        reverse_complement: bool = False,
        *,
        window: int | None = 4096,
        overlap: int = 256,
    ) -> np.ndarray:
        """What the model was fine-tuned to predict: float32 [n, labels], in the order given.

        Of classes that exclude each other it is their probabilities, which add up to 1; of several labels the
        probability of each; in regression the value itself.

        Args:
          sequences, batch_size, reverse_complement, window, overlap: as in `embed`. Of a sequence in windows
            it is the mean of what each window gives, which counts as much as the tokens taken from it; of a
            sequence in pieces what follows from the mean of their logits, as in fine-tuning.

        Warns:
          InputWarning: some sequences were computed in windows.

        Raises:
          UserError: the model was not fine-tuned, or its weights lack the classifier; or as in `embed`.
        """
        running = Running(batch_size, reverse_complement, window, overlap)
        blocks = self.predict_blocks(_named(sequences), running)
        values = [answer.values for block in blocks for answer in block]
        return np.stack(values) if values else np.zeros((0, len(self.class_names)), np.float32)

    def strand_consistency(
        self,
        sequences: Iterable[Example],
        batch_size: int = 32,
        *,
        pooling: VectorPooling = "mean",
        window: int | None = 4096,
        overlap: int = 256,
    ) -> StrandConsistency:
        """How much it changes the answer to read the opposite strand: of predictions, or else of embeddings.

        Args:
          sequences, batch_size, window, overlap: as in `embed`.
          pooling: of the embeddings of a model that was not fine-tuned.

        Raises:
          UserError: as in `embed`.
        """
        running = Running(batch_size, True, window, overlap)
        if self.description.class_names is None:
            kind, blocks = "vectors", self.embed_blocks(_named(sequences), pooling, running)
        else:
            kind, blocks = self.prediction_kind, self.predict_blocks(_named(sequences), running)
        measures = [compare_strands(kind, [answer.strands for answer in block]) for block in blocks]
        return summarise_strands(kind, np.concatenate(measures) if measures else np.empty((0, 1)))

    @property
    def prediction_kind(self) -> AnswerKind:
        """What `predict` gives."""
        kinds: dict[Problem, AnswerKind] = {
            "single_label_classification": "classes",
            "multi_label_classification": "labels",
            "regression": "numbers",
        }
        return kinds[self.description.problem]

    def embed_blocks(
        self, examples: Iterable[Named], pooling: Pooling, running: Running
    ) -> Iterator[list[Answer]]:
        """`embed` as a stream: blocks of answers, in order, in memory that does not grow with their number.

        Of a sequence all is held at once: of "token" and "nucleotide" its length times E numbers.

        Args:
          examples: names and sequences, or pairs.
          pooling: as in `embed`.
          running: as the arguments of `embed`.

        Raises:
          UserError: as in `embed`; what is wrong with the request, at once.
        """
        check_pooling(pooling, self.tokenizer, running.reverse_complement)
        bases = _BLOCK_BASES
        stitch: Stitch = "max" if pooling == "max" else "mean"
        if pooling in TOKEN_POOLINGS:
            examples = refuse_pairs(iter(examples), pooling)
            bases = min(bases, _BLOCK_NUMBERS // self._width)
            stitch = "tokens"
        plan = self._plan(running, stitch, bases)
        results = run(
            self._compute(partial(self._forward.embedding, pooling=pooling)), self.tokenizer, examples, plan
        )
        return ([answer(result, self.tokenizer, pooling) for result in block] for block in results)

    def predict_blocks(self, examples: Iterable[Named], running: Running) -> Iterator[list[Answer]]:
        """`predict` as a stream, as `embed_blocks` is of `embed`.

        Raises:
          UserError: the model was not fine-tuned, or its weights lack the classifier; or as in
            `embed_blocks`.
        """
        self._check_classifier()
        if not self.description.architecture.learned_positions:
            plan = self._plan(running, "mean", _BLOCK_BASES)
            results = run(self._compute(self._forward.predictions), self.tokenizer, examples, plan)
        else:
            results = (
                [self._answered(result) for result in block] for block in self._logits(examples, running)
            )
        return ([answer(result, self.tokenizer, None) for result in block] for block in results)

    def logit_blocks(self, examples: Iterable[Named], running: Running) -> Iterator[list[Answer]]:
        """What `predict_blocks` makes predictions of, as a stream: the logit of each label, or the number.

        Of a sequence in windows or pieces it is the mean of their logits.

        Raises:
          UserError: as in `predict_blocks`.
        """
        self._check_classifier()
        results = self._logits(examples, running)
        return ([answer(result, self.tokenizer, None) for result in block] for block in results)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that stand for parameters, tokenizer, and how the two are used."""
        digest = hashlib.sha256(repr((self.description, self.dtype, self.tokenizer.case)).encode())
        digest.update(self.tokenizer.sha256.encode())
        for name, array in sorted(self.parameters.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        facts: Mapping[str, str] = NOTHING_KNOWN,
        dtype: StoredType = "float32",
    ) -> None:
        """Writes a model folder in the released layout, whole or not at all; one written so gives way.

        Args:
          folder: the folder to make.
          facts: what its README.md tells of the training, name → value.
          dtype: of the stored numbers; all but float32 round them.

        Raises:
          UserError: the folder is there and holds anything else, or cannot be written; no such `dtype`.
        """
        refuse_other_files(Path(folder))
        with atomic_folder(folder, replace=True) as temporary:
            write_model(temporary, self.description, self.parameters, facts=facts, dtype=dtype)
            self.tokenizer.save(temporary)

    def _check_classifier(self) -> None:
        _ = self.class_names  # refuses a model that has none
        if self.untrained:
            raise UserError(
                "the weights of this model lack its classifier, or the pooler in front of it; run dnabert2"
                " finetune, and name the model that it makes"
            )

    @property
    def _width(self) -> int:
        return self.description.architecture.hidden_size

    def _logits(self, examples: Iterable[Named], running: Running) -> Iterator[list[Result]]:
        in_pieces = bool(self.description.architecture.learned_positions)
        plan = self._plan(running, "average" if in_pieces else "mean", _BLOCK_BASES)
        return run(self._compute(self._forward.label_logits), self.tokenizer, examples, plan)

    def _answered(self, result: Result) -> Result:
        return result._replace(
            values=[np.asarray(answers(jnp.asarray(v), self.description.problem)) for v in result.values]
        )

    def _plan(self, running: Running, stitch: Stitch, block_bases: int) -> Plan:
        window, overlap = running.window, running.overlap
        most = self.description.architecture.learned_positions
        if most and (window is None or window > most):
            check_window(window, overlap)
            window, overlap = most, min(overlap, most // 2)
        return Plan(
            stitch=stitch,
            batch_size=running.batch_size,
            both_strands=running.reverse_complement,
            window=window,
            overlap=overlap,
            in_pieces=bool(most) and stitch != "tokens",
            devices=self._rows.num_devices,
            block_bases=block_bases,
        )

    @cached_property
    def _rows(self) -> RowSharding:
        return RowSharding(self.mesh)

    @cached_property
    def _placed(self) -> Parameters:
        """The parameters on all devices that the engine uses."""
        if self.mesh is not None or self._rows.num_devices == 1:
            return self.parameters
        with self._forward.precision():
            return jax.device_put(self.parameters, self._rows.replicated)

    def _compute(self, function: Callable) -> Compute:
        def compute(inputs: Inputs) -> jax.Array:
            with self._forward.precision():
                return function(self._placed, *self._rows.put(inputs))

        return compute


def _named(sequences: Iterable[Example]) -> Iterator[Named]:
    if isinstance(sequences, str):
        raise UserError("sequences is one string, which would count as many of one base; give a list")
    return (_checked(f"sequence {number}", sequence) for number, sequence in enumerate(sequences, start=1))


def _checked(name: str, example: object) -> Named:
    match example:
        case str():
            return name, example
        case (str() as first, str() as second):
            return name, (first, second)
    raise UserError(f"{name}: is {repr(example)[:40]}; it must be text, or a pair of texts")


def refuse_other_files(folder: Path) -> None:
    """Raises UserError where a model saved at `folder` would replace files that no model folder has."""
    others = sorted({path.name for path in folder.iterdir()} - _SAVED_FILES) if folder.is_dir() else []
    if others:
        raise UserError(
            f"{folder}: holds {others[0]}, and a model would replace the folder as a whole; name another one"
        )
