"""`dnabert2 tokenizer train`: a BPE vocabulary from genomes."""

from dnabert2_jax.cli.arguments import Parser, positive
from dnabert2_jax.files import atomic_folder, refuse_existing

_EXAMPLE = """example:
  dnabert2 tokenizer train --fasta yeast.fa.gz ecoli.fa.gz --vocab-size 512 --output tokenizer"""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 tokenizer", description="Tokenizers of DNA.")
    train = parser.add_subparsers(dest="action", required=True).add_parser(
        "train",
        description="Learns a BPE vocabulary, with SentencePiece, from both strands of genomes.",
        epilog=_EXAMPLE,
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
    arguments = parser.parse_args(words)

    from pathlib import Path

    from dnabert2_jax.tokenizer.training import train_from_fasta

    refuse_existing(Path(arguments.output))
    tokenizer, summary = train_from_fasta(
        arguments.fasta, arguments.vocab_size, sample_bases=arguments.sample_bases, seed=arguments.seed
    )
    with atomic_folder(arguments.output) as folder:
        tokenizer.save(folder)
    print(
        f"{arguments.output}: {tokenizer.vocab_size} tokens learnt from {summary.used_bases:,} of "
        f"{summary.acgt_bases:,} bases, both strands; the longest has {tokenizer.token_lengths.max()} bases"
    )
