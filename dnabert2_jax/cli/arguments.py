"""What the commands' parsers share: one-line errors, and settings such as `--training.steps 100`."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from dnabert2_jax.errors import UserError
from dnabert2_jax.host_memory import keep_freed_memory

if TYPE_CHECKING:
    from dnabert2_jax.inference.answers import Running
    from dnabert2_jax.inference.jobs import Files, Outcome
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


def not_negative(text: str) -> int:
    """An argument that is a whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


not_negative.__name__ = "whole number"


def window_size(text: str) -> int | None:
    """An argument that is a number of tokens, or `none`."""
    return None if text == "none" else positive(text)


window_size.__name__ = "whole number above 0, or none"


def comma_separated(text: str) -> list[str]:
    """An argument that is words with commas between them."""
    return [word for part in text.split(",") if (word := part.strip())]


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the genomes that a BPE vocabulary is learnt from, and how much of them."""
    parser.add_argument(
        "--fasta", nargs="+", required=True, metavar="FILE", help="FASTA files, plain or gzip"
    )
    parser.add_argument(
        "--sample-bases",
        type=positive,
        default=100_000_000,
        help="learn from a random sample of so many bases (default 100000000; 100 bytes of memory each)",
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="of the sample (default 0)")


def add_gue_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names data sets of GUE; `task_words` reads --tasks."""
    parser.add_argument(
        "--data", default="gue", metavar="DIR", help="the folder of the data sets (default gue)"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=[],
        metavar="T",
        help="groups such as EMP, names such as tf/0, patterns such as 'prom/*' (default: all there are)",
    )


def task_words(arguments: argparse.Namespace) -> list[str]:
    """What --tasks asks for: words, separated by blanks or commas."""
    words = [word for part in arguments.tasks for word in comma_separated(part)]
    if arguments.tasks and not words:
        raise UserError("--tasks is empty; name tasks, or leave it out for all")
    return words


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names a model."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="M",
        help="a model folder, a LoRA adapter, or a hub id such as zhihan1996/DNABERT-2-117M",
    )
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a hub id")


def add_computing_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how much of a model's work is done at once, and how exactly."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="sequences of 128 tokens at once on a device, fewer of longer ones (default 32)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="type of activations (default float32)",
    )


def add_inference_arguments(parser: argparse.ArgumentParser, outputs: str) -> None:
    """Adds what commands have in common that run a model over sequences; `outputs` says what they write."""
    add_model_arguments(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="FASTA, or CSV/TSV with a column sequence, or sequence1 and sequence2 for pairs, or BED with"
        " --genome; - for stdin",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help=outputs)
    parser.add_argument(
        "--genome",
        metavar="FASTA",
        help="--input is BED: its regions are cut out of this file, plain or bgzip",
    )
    parser.add_argument(
        "--windows", type=positive, metavar="N", help="cut the records of a FASTA --input into N bases each"
    )
    parser.add_argument(
        "--step",
        type=positive,
        metavar="N",
        help="bases from one of --windows to the next (default: no gaps)",
    )
    add_computing_arguments(parser)
    parser.add_argument(
        "--reverse-complement",
        action="store_true",
        help="average over both strands, and tell how far they are apart",
    )
    parser.add_argument(
        "--window",
        type=window_size,
        default=4096,
        metavar="N",
        help="longer sequences are computed in windows of so many tokens; none for no limit (default 4096)",
    )
    parser.add_argument(
        "--overlap",
        type=not_negative,
        default=256,
        metavar="N",
        help="tokens that windows share (default 256)",
    )
    parser.add_argument(
        "--shard",
        type=not_negative,
        metavar="I",
        help="do part I, from 0 on, of --num-shards, for job arrays",
    )
    parser.add_argument(
        "--num-shards", type=positive, metavar="N", help="in how many parts: record i is of part i modulo N"
    )


def inference_request(arguments: argparse.Namespace) -> "tuple[Pretrained, Files, Running]":
    """The model, the files and how to run, out of the arguments that `add_inference_arguments` added."""
    if (arguments.shard is None) != (arguments.num_shards is None):
        raise UserError("--shard and --num-shards go together; give both, or none")

    from dnabert2_jax.inference.answers import Running
    from dnabert2_jax.inference.jobs import Files
    from dnabert2_jax.inference.loading import from_pretrained
    from dnabert2_jax.inference.output import check_output

    files = Files(
        arguments.input,
        arguments.output,
        arguments.shard or 0,
        arguments.num_shards or 1,
        arguments.genome,
        arguments.windows,
        arguments.step,
    )
    check_output(files.output)
    keep_freed_memory()
    running = Running(arguments.batch_size, arguments.reverse_complement, arguments.window, arguments.overlap)
    model = from_pretrained(arguments.model, dtype=arguments.dtype, revision=arguments.revision)
    return model, files, running


@contextmanager
def sequence_bar() -> Iterator[Callable[[int], object]]:
    """A progress bar of sequences on a terminal: what is yielded is called with how many more are done."""
    from tqdm import tqdm

    with tqdm(unit="sequence", disable=None) as bar:
        yield bar.update


def tell(arguments: argparse.Namespace, outcome: "Outcome", what: str) -> None:
    """Says in a line what was written, and in another how far the strands are apart."""
    kept = f" ({outcome.kept:,} sequences were done before)" if outcome.kept else ""
    print(f"{arguments.output}: {what}{kept}")
    if outcome.consistency is not None:
        print(outcome.consistency)
