"""`dnabert2 tokenizer train | kmers`: a BPE vocabulary from genomes, or all words of k letters."""

import argparse
import sys

from dnabert2_jax.cli.arguments import Parser, positive
from dnabert2_jax.files import atomic_folder, refuse_existing

_TRAIN_EXAMPLE = """example:
  dnabert2 tokenizer train --fasta yeast.fa.gz ecoli.fa.gz --vocab-size 512 --output tokenizer"""

_KMERS_EXAMPLE = """example:
  dnabert2 tokenizer kmers --k 6 --overlapping --output tokenizer"""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 tokenizer", description="Tokenizers of DNA.")
    actions = parser.add_subparsers(dest="action", required=True)
    _add_train(actions)
    _add_kmers(actions)
    arguments = parser.parse_args(words)
    {"train": _train, "kmers": _kmers}[arguments.action](arguments)


def _add_train(actions) -> None:
    train = actions.add_parser(
        "train",
        help="learn a BPE vocabulary from genomes",
        description="Learns a BPE vocabulary, with SentencePiece, from both strands of genomes.\n"
        "The same files and options give the same tokenizer.",
        epilog=_TRAIN_EXAMPLE,
    )
    train.add_argument("--fasta", nargs="+", required=True, metavar="FILE", help="FASTA files, plain or gzip")
    train.add_argument("--vocab-size", type=positive, default=4096, help="tokens in all (default 4096)")
    train.add_argument("--output", required=True, metavar="DIR", help="the tokenizer folder to make")
    train.add_argument(
        "--sample-bases",
        type=positive,
        default=100_000_000,
        help="learn from a random sample of so many bases (default 100000000; 100 bytes of memory each)",
    )
    train.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")


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


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
