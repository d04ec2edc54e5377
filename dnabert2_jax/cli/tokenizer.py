"""`dnabert2 tokenizer train | kmers | inspect`: makes tokenizers, and shows how they cut sequences."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dnabert2_jax.cli.arguments import Parser, add_sample_arguments, positive
from dnabert2_jax.files import atomic_folder, check_writable, refuse_existing

if TYPE_CHECKING:
    from dnabert2_jax.tokenizer.inspection import TokenCounts
    from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

_TRAIN_EXAMPLE = """example:
  dnabert2 tokenizer train --fasta yeast.fa.gz ecoli.fa.gz --vocab-size 512 --output tokenizer"""

_KMERS_EXAMPLE = """example:
  dnabert2 tokenizer kmers --k 6 --overlapping --output tokenizer"""

_INSPECT_EXAMPLE = """examples:
  dnabert2 tokenizer inspect --tokenizer tokenizer --sequence GATTACAGATTACANNGATTACA
  dnabert2 tokenizer inspect --tokenizer run/model --input sequences.fa --html tokens.html

Tokens take turns in two colours, or have bars between them where there is no colour (in a pipe, or where the
environment has NO_COLOR). Letters that are [UNK] are white on red, or in brackets. Positions are 0-based and
half open."""

_MOST_LETTERS = 2000  # of a sequence that is shown
_MOST_FREQUENT = 20


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 tokenizer", description="Tokenizers of DNA.")
    actions = parser.add_subparsers(dest="action", required=True)
    _add_train(actions)
    _add_kmers(actions)
    _add_inspect(actions)
    arguments = parser.parse_args(words)
    {"train": _train, "kmers": _kmers, "inspect": _inspect}[arguments.action](arguments)


def _add_train(actions) -> None:
    train = actions.add_parser(
        "train",
        help="learn a BPE vocabulary from genomes",
        description="Learns a BPE vocabulary, with SentencePiece, from both strands of genomes.\n"
        "The same files and options give the same tokenizer.",
        epilog=_TRAIN_EXAMPLE,
    )
    train.add_argument("--vocab-size", type=positive, default=4096, help="tokens in all (default 4096)")
    train.add_argument("--output", required=True, metavar="DIR", help="the tokenizer folder to make")
    add_sample_arguments(train)


def _add_kmers(actions) -> None:
    kmers = actions.add_parser(
        "kmers",
        help="make a tokenizer of all words of k letters",
        description="Makes a tokenizer whose tokens are all words of k letters. Words follow each other, as\n"
        "in the Nucleotide Transformer (what is left over is written in single letters), or\n"
        "overlap: one begins at every base, as in DNABERT.",
        epilog=_KMERS_EXAMPLE,
    )
    kmers.add_argument("--k", type=positive, default=6, help="letters of a word, 3 to 8 (default 6)")
    kmers.add_argument("--overlapping", action="store_true", help="a word at every base")
    kmers.add_argument("--output", required=True, metavar="DIR", help="the tokenizer folder to make")


def _add_inspect(actions) -> None:
    inspect = actions.add_parser(
        "inspect",
        help="show how sequences are cut into tokens",
        description="Shows how a sequence is cut, counts the tokens of a file, and compares the cuts with\n"
        "those of the reverse complement.",
        epilog=_INSPECT_EXAMPLE,
    )
    inspect.add_argument(
        "--tokenizer", required=True, metavar="DIR", help="a tokenizer folder, or a model folder"
    )
    given = inspect.add_mutually_exclusive_group(required=True)
    given.add_argument("--sequence", metavar="ACGT…", help="letters to cut")
    given.add_argument(
        "--input", metavar="FILE", help="FASTA, or CSV/TSV with a column sequence; - for stdin"
    )
    inspect.add_argument("--html", metavar="FILE", help="write a page too")


def _train(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from dnabert2_jax.tokenizer.training import train_from_fasta

    refuse_existing(Path(arguments.output))
    tokenizer, summary = train_from_fasta(
        arguments.fasta,
        arguments.vocab_size,
        sample_bases=arguments.sample_bases,
        seed=arguments.seed,
        progress=_tell if sys.stderr.isatty() else None,
    )
    with atomic_folder(arguments.output) as folder:
        tokenizer.save(folder)
    print(
        f"{arguments.output}: {tokenizer.vocab_size} tokens learnt from {summary.used_bases:,} of "
        f"{summary.acgt_bases:,} bases, both strands; the longest has {tokenizer.token_lengths.max()} bases"
    )


def _kmers(arguments: argparse.Namespace) -> None:
    from dnabert2_jax.tokenizer.kmers import KmerTokenizer

    tokenizer = KmerTokenizer(arguments.k, arguments.overlapping)
    with atomic_folder(arguments.output) as folder:
        tokenizer.save(folder)
    kind = "overlapping" if arguments.overlapping else "not overlapping"
    print(f"{arguments.output}: {tokenizer.vocab_size} tokens for words of {arguments.k} letters, {kind}")


def _inspect(arguments: argparse.Namespace) -> None:
    from dnabert2_jax.genome.sequence import reverse_complement
    from dnabert2_jax.reports.tokens import columns_text, terminal_text, write_token_page
    from dnabert2_jax.tokenizer.inspection import count_tokens, cut_sequence
    from dnabert2_jax.tokenizer.loading import load_tokenizer

    if arguments.html is not None:
        check_writable(arguments.html)
    tokenizer = load_tokenizer(arguments.tokenizer)
    sequences = _Sequences(arguments)
    found = count_tokens(tokenizer, sequences)
    shown = sequences.first[:_MOST_LETTERS]
    part = f", its first {_MOST_LETTERS:,} letters" if len(sequences.first) > _MOST_LETTERS else ""
    drawn = {
        f"{sequences.name}{part}": cut_sequence(tokenizer, shown),
        "Its reverse complement": cut_sequence(tokenizer, reverse_complement(shown)),
    }
    facts = {"tokenizer": f"{arguments.tokenizer}, {tokenizer.vocab_size:,} tokens"} | _facts(found)
    tables = _tables(found, tokenizer)
    if arguments.sequence is not None:
        (pieces, _) = drawn.values()
        rows = [(piece.start, piece.end, piece.token_id, piece.letters) for piece in pieces]
        tables = {"Tokens": (("start", "end", "id", "letters"), rows)} | tables
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns
    for heading, tokens in drawn.items():
        print(f"{heading}:\n{terminal_text(tokens, width=width, colour=colour)}\n")
    for name, value in facts.items():
        print(f"{name}: {value}")
    for heading, (columns, rows) in tables.items():
        print(f"\n{heading}:\n{columns_text(columns, rows)}")
    if arguments.html is not None:
        write_token_page(arguments.html, f"Tokens of {sequences.source}", facts, drawn, tables)
        print(f"\n{arguments.html}: the same as a page")


def _facts(found: "TokenCounts") -> dict[str, str]:
    from dnabert2_jax.reports.formats import format_percent

    share = f", {format_percent(found.shared / found.boundaries)}" if found.boundaries else ""
    return {
        "sequences": f"{found.sequences:,}",
        "letters": f"{found.letters:,}",
        "tokens": f"{found.tokens:,}",
        "letters per token": f"{found.letters / max(found.tokens, 1):.3f}",
        "unknown letters, [UNK]": f"{found.unknown:,}",
        "boundaries shared with the reverse complement": f"{found.shared:,} of {found.boundaries:,}{share}",
    }


def _tables(
    found: "TokenCounts", tokenizer: "SequenceTokenizer"
) -> dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    from dnabert2_jax.reports.formats import format_percent

    def share(count: int) -> str:
        return format_percent(count / found.tokens)

    lengths = [(length, count, share(count)) for length, count in found.by_length(tokenizer).items()]
    frequent = [
        (number, count, share(count), tokenizer.id_to_token(number))
        for number, count in found.most_frequent(_MOST_FREQUENT)
    ]
    return {
        "Lengths of tokens": (("letters", "tokens", "share"), lengths),
        f"The {len(frequent)} most frequent tokens": (("id", "tokens", "share", "token"), frequent),
    }


class _Sequences:
    """The sequences that are asked for, one by one; keeps the first."""

    def __init__(self, arguments: argparse.Namespace):
        self.source = "a sequence" if arguments.input is None else os.path.basename(arguments.input)
        self.name, self.first = "The sequence", arguments.sequence or ""
        self._input = arguments.input

    def __iter__(self) -> Iterator[str]:
        from dnabert2_jax.data.sequences import read_sequences

        if self._input is None:
            yield self.first
            return
        for number, entry in enumerate(read_sequences(self._input)):
            if not number:
                self.name, self.first = entry.name, str(entry.example)
            yield str(entry.example)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
