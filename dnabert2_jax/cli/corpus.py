"""`dnabert2 corpus build | stats | verify`."""

import json
import os
from collections import Counter
from pathlib import Path

from dnabert2_jax.cli.arguments import Parser, positive
from dnabert2_jax.errors import UserError

_BUILD_EXAMPLE = """example:
  dnabert2 corpus build --fasta yeast.fa.gz ecoli.fa.gz --tokenizer tokenizer --output corpus

The stem of a file's name is its species. Both strands are tokenised. A share of each genome is held out for
validation, in contiguous regions that no training window touches."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 corpus", description="Corpora: tokenised genomes, ready for pre-training.")
    actions = parser.add_subparsers(dest="action", required=True)

    build = actions.add_parser("build", description="Tokenises genomes into a corpus.", epilog=_BUILD_EXAMPLE)
    build.add_argument("--fasta", nargs="+", required=True, metavar="FILE", help="FASTA files, plain or gzip")
    build.add_argument("--tokenizer", required=True, metavar="DIR", help="a tokenizer or model folder")
    build.add_argument("--output", required=True, metavar="DIR", help="the corpus folder to make")
    build.add_argument(
        "--validation-share", type=float, default=0.05, help="share of each genome to hold out (default 0.05)"
    )
    build.add_argument(
        "--region-bases", type=positive, default=20_000, help="length of a held-out region (default 20000)"
    )
    build.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="threads that tokenise (default: all cores)",
    )
    build.set_defaults(run=_build)

    stats = actions.add_parser(
        "stats", description="Says what a corpus holds.", epilog="example:\n  dnabert2 corpus stats corpus"
    )
    stats.add_argument("folder", metavar="DIR")
    stats.add_argument("--json", action="store_true", help="as JSON")
    stats.set_defaults(run=_stats)

    verify = actions.add_parser(
        "verify",
        description="Reads every byte of a corpus and checks it.",
        epilog="example:\n  dnabert2 corpus verify corpus",
    )
    verify.add_argument("folder", metavar="DIR")
    verify.set_defaults(run=_verify)

    arguments = parser.parse_args(words)
    arguments.run(arguments)


def species_names(files: list[str]) -> list[tuple[str, str]]:
    """Each file with its species, the stem of its name.

    Raises:
      UserError: two files have the same stem.
    """
    stems = [Path(file).name.removesuffix(".gz").rsplit(".", 1)[0] for file in files]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(
            f"two of the FASTA files are named {twice[0]}; a file's name is its species, so rename one"
        )
    return list(zip(stems, files, strict=True))


def _build(arguments) -> None:
    from tqdm import tqdm

    from dnabert2_jax.data.corpus_build import build_corpus

    with tqdm(unit="b", unit_scale=True, desc="bases", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        metadata = build_corpus(
            species_names(arguments.fasta),
            arguments.tokenizer,
            arguments.output,
            validation_share=arguments.validation_share,
            region_bases=arguments.region_bases,
            workers=arguments.workers,
            progress=progress,
        )
    train = sum(counts.train_tokens for counts in metadata.species)
    validation = sum(counts.validation_tokens for counts in metadata.species)
    print(
        f"{arguments.output}: {train:,} training and {validation:,} validation tokens of "
        f"{len(metadata.species)} species, both strands; {len(metadata.validation_regions)} regions held out"
    )


def _stats(arguments) -> None:
    from dnabert2_jax.data.corpus import corpus_statistics

    statistics = corpus_statistics(arguments.folder)
    if arguments.json:
        print(json.dumps(statistics, indent=1))
        return
    by_species = statistics.pop("by_species")
    for name, value in statistics.items():
        print(f"{name.replace('_', ' '):<22}{_shown(value)}")
    columns = ("species", "bases", "train_tokens", "validation_tokens", "bases_per_token")
    print("\n" + "  ".join(f"{column.replace('_', ' '):>18}" for column in columns))
    for row in by_species:
        print("  ".join(f"{_shown(row[column]):>18}" for column in columns))


def _verify(arguments) -> None:
    from dnabert2_jax.data.corpus_check import verify_corpus

    problems = verify_corpus(arguments.folder)
    if problems:
        raise UserError("; ".join(problems))
    print(f"{arguments.folder}: every shard, count and token id is right")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
