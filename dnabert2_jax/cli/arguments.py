"""What the commands' parsers share: one-line errors, and settings such as `--training.steps 100`."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from dnabert2_jax.errors import UserError

if TYPE_CHECKING:
    from dnabert2_jax.inference.engine import Example
    from dnabert2_jax.inference.pretrained import Pretrained


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps an example's lines apart and reports errors as UserError."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises UserError in the place of printing the usage."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts settings, such as `--training.steps 100` or `--training.steps=100`, from all other words."""
    plain: list[str] = []
    settings: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, _ = word.partition("=")
        if name.startswith("--") and "." in name:
            settings += [word] if equals else [word, *islice(remaining, 1)]
        else:
            plain.append(word)
    return plain, settings


def positive(text: str) -> int:
    """An argument that is a whole number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


positive.__name__ = "whole number above 0"


def add_inference_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what commands have in common that run a model over sequences."""
    parser.add_argument("--model", required=True, metavar="M", help="a model folder")
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="FASTA, or CSV/TSV with a column sequence, or sequence1 and sequence2 for pairs",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help=".parquet, .npz or .csv")
    parser.add_argument("--batch-size", type=positive, default=32, help="sequences at once (default 32)")
    parser.add_argument("--reverse-complement", action="store_true", help="average over both strands")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="type of activations (default float32)",
    )


def load_and_read(arguments: argparse.Namespace) -> "tuple[Pretrained, list[str], Iterable[Example]]":
    """The model, the names of the input's sequences or pairs, and these with a progress bar around them."""
    from tqdm import tqdm

    from dnabert2_jax.data.pairs import read_examples
    from dnabert2_jax.inference.loading import from_pretrained
    from dnabert2_jax.inference.output import check_output

    check_output(arguments.output)
    model = from_pretrained(arguments.model, dtype=arguments.dtype)
    named = list(read_examples(arguments.input))
    names = [name for name, _ in named]
    examples = [example for _, example in named]
    return model, names, tqdm(examples, unit="sequence", disable=None)
