"""What a model says of each example: results of its strands come in, one answer goes out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.encoding import check_one_token_per_base, spread_over_bases
from dnabert2_jax.inference.engine import Example, Named, Result
from dnabert2_jax.inference.pooling import TOKEN_POOLINGS, VECTOR_POOLINGS, Pooling
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer


@dataclass(frozen=True)
class Running:
    """How a model is run over examples; each is described in `Pretrained.embed`."""

    batch_size: int = 32
    reverse_complement: bool = False
    window: int | None = 4096
    overlap: int = 256


class Answer(NamedTuple):
    """What is said of an example.

    Attributes:
      name: of the example.
      example: what came in.
      ids: its token ids, int32 [S], with [CLS] and [SEP].
      values: float32 [k], [tokens, E] or [bases, E].
      strands: what each strand alone gives, which `values` is the mean of, bases in the order of the strand
        given; the one strand where the other was not asked for.
    """

    name: str
    example: Example
    ids: np.ndarray
    values: np.ndarray
    strands: list[np.ndarray]


def check_pooling(pooling: Pooling, tokenizer: SequenceTokenizer, reverse_complement: bool) -> None:
    """Raises UserError where there is no such pooling, or none for this tokenizer, or for both strands."""
    known = (*VECTOR_POOLINGS, *TOKEN_POOLINGS)
    if pooling not in known:
        listing = ", ".join(map(repr, known[:-1]))
        raise UserError(f"pooling is {pooling!r}; choose {listing} or {known[-1]!r}")
    if pooling == "nucleotide":
        check_one_token_per_base(tokenizer)
    if pooling == "token" and reverse_complement:
        raise UserError(
            "the two strands have different tokens, so that their vectors cannot be averaged token by token;"
            " choose pooling 'nucleotide'"
        )


def refuse_pairs(examples: Iterator[Named], pooling: Pooling) -> Iterator[Named]:
    """The examples, of which none may be a pair.

    Raises:
      UserError: one is.
    """
    for name, example in examples:
        if not isinstance(example, str):
            raise UserError(
                f"{name}: is a pair, and pooling {pooling!r} takes single sequences; choose 'mean'"
            )
        yield name, example


def answer(result: Result, tokenizer: SequenceTokenizer, pooling: Pooling | None) -> Answer:
    """One answer out of what the strands of an example gave.

    Args:
      result: of the engine.
      tokenizer: of the model.
      pooling: of an embedding; None for a prediction.
    """
    values = result.values
    if pooling == "nucleotide":
        values = [
            spread_over_bases(tokenizer, ids[1:-1], vectors)
            for ids, vectors in zip(result.ids, values, strict=True)
        ]
        # The opposite strand's first base lies on the last base of the one given.
        values[1:] = [vectors[::-1] for vectors in values[1:]]
    mean = values[0] if len(values) == 1 else (values[0] + values[1]) / 2
    return Answer(result.name, result.example, result.ids[0], mean, values)
