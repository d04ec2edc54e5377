"""`dnabert2 corpus build | stats | verify`."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnabert2_jax.cli.arguments import Parser, positive
from dnabert2_jax.errors import UserError

if TYPE_CHECKING:
    from dnabert2_jax.data.inputs import CorpusInput

_BUILD_EXAMPLE = """examples:
  dnabert2 corpus build --fasta yeast.fa.gz ecoli.fa.gz --tokenizer tokenizer --output corpus
  dnabert2 corpus build --genomes genomes.tsv --tokenizer tokenizer --output corpus
  dnabert2 corpus build --text train.txt --validation-text dev.txt --tokenizer tokenizer --output corpus

The stem of a file's name is its species. A table has the columns path (relative to the table), species, and
if wanted split (train, validation, or empty), weight, expected_bases, keep_bed and drop_bed, separated by
tabs; files may share a species. Both strands are tokenised.

Validation text never touches training text. --holdout region takes contiguous regions of each genome,
chromosome takes whole contigs, species takes whole species: those that the table marks, or some.

What is done is kept in OUTPUT.partial, where the same command goes on after an interruption. To share a build
among machines, run it on each with --shard I --num-shards N, into one folder or into folders whose
OUTPUT.partial are then copied together; the command without --shard does what is missing and ends it."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 corpus", description="Corpora: tokenised genomes, ready for pre-training.")
    actions = parser.add_subparsers(dest="action", required=True)
    _add_build(
        actions.add_parser(
            "build",
            help="tokenise genomes into a corpus",
            description="Tokenises genomes into a corpus.",
            epilog=_BUILD_EXAMPLE,
        )
    )

    stats = actions.add_parser(
        "stats",
        help="say what a corpus holds",
        description="Says what a corpus holds.",
        epilog="example:\n  dnabert2 corpus stats corpus",
    )
    stats.add_argument("folder", metavar="DIR")
    stats.add_argument("--json", action="store_true", help="as JSON")
    stats.set_defaults(run=_stats)

    verify = actions.add_parser(
        "verify",
        help="read and check every byte",
        description="Reads every byte of a corpus and checks it.",
        epilog="example:\n  dnabert2 corpus verify corpus",
    )
    verify.add_argument("folder", metavar="DIR")
    verify.set_defaults(run=_verify)

    arguments = parser.parse_args(words)
    arguments.run(arguments)


def _add_build(build) -> None:
    inputs = build.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--fasta", nargs="+", metavar="FILE", help="FASTA files, plain or gzip")
    inputs.add_argument("--genomes", metavar="TABLE", help="a table (TSV) of FASTA files and species")
    inputs.add_argument(
        "--text", nargs="+", metavar="FILE", help="files of one sequence a line, plain or gzip"
    )
    build.add_argument(
        "--validation-text", nargs="+", default=[], metavar="FILE", help="with --text: held out as they are"
    )
    build.add_argument("--tokenizer", required=True, metavar="DIR", help="a tokenizer or model folder")
    build.add_argument("--output", required=True, metavar="DIR", help="the corpus folder to make")
    build.add_argument(
        "--holdout",
        choices=("region", "chromosome", "species"),
        default="region",
        help="what validation holds out (default region)",
    )
    build.add_argument(
        "--holdout-contigs", nargs="+", default=[], metavar="NAME", help="with --holdout chromosome: which"
    )
    build.add_argument(
        "--validation-share", type=float, default=0.05, help="share of each genome to hold out (default 0.05)"
    )
    build.add_argument(
        "--region-bases", type=positive, default=20_000, help="length of a held-out region (default 20000)"
    )
    build.add_argument(
        "--stretch-bases",
        type=positive,
        default=36_000,
        help="bases of a record at most (default 36000); 1000 cuts genomes as the paper did",
    )
    build.add_argument(
        "--max-bases-per-species", type=positive, metavar="N", help="use the first N bases of each"
    )
    build.add_argument(
        "--drop-impure-lines",
        action="store_true",
        help="with --text: drop lines with other letters than A, C, G, T, as the paper did, not split them",
    )
    build.add_argument("--keep-bed", metavar="BED", help="with one FASTA file: use these regions only")
    build.add_argument("--drop-bed", metavar="BED", help="with one FASTA file: leave these regions out")
    build.add_argument("--shard", type=int, metavar="I", help="do part I, from 0 on, of --num-shards")
    build.add_argument("--num-shards", type=positive, metavar="N", help="in how many parts the build is done")
    build.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="threads that tokenise (default: all cores)",
    )
    build.set_defaults(run=_build)


def species_names(files: list[str]) -> list[tuple[str, str]]:
    """Each file with its species, the stem of its name.

    Raises:
      UserError: two files have the same stem.
    """
    stems = [Path(file).name.removesuffix(".gz").rsplit(".", 1)[0] for file in files]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(f"two of the files are named {twice[0]}; a file's name is its species, so rename one")
    return list(zip(stems, files, strict=True))


def _inputs(arguments) -> "list[CorpusInput]":
    from dnabert2_jax.data.genome_table import read_genome_table
    from dnabert2_jax.data.inputs import CorpusInput

    if arguments.validation_text and not arguments.text:
        raise UserError("--validation-text goes with --text; a table marks species as validation")
    if arguments.drop_impure_lines and not arguments.text:
        raise UserError("--drop-impure-lines goes with --text; genomes are split at other letters")
    keep_bed, drop_bed = (path and Path(path) for path in (arguments.keep_bed, arguments.drop_bed))
    if (keep_bed or drop_bed) and (arguments.fasta is None or len(arguments.fasta) > 1):
        raise UserError(
            "--keep-bed and --drop-bed go with one FASTA file; for several, give a table with the columns"
            " keep_bed and drop_bed"
        )
    if arguments.genomes:
        return read_genome_table(arguments.genomes)
    if arguments.fasta:
        return [
            CorpusInput(species=species, path=Path(path), keep_bed=keep_bed, drop_bed=drop_bed)
            for species, path in species_names(arguments.fasta)
        ]
    names = species_names(arguments.text + arguments.validation_text)
    return [
        CorpusInput(
            species=species,
            path=Path(path),
            kind="text",
            split="auto" if number < len(arguments.text) else "validation",
        )
        for number, (species, path) in enumerate(names)
    ]


def _build(arguments) -> None:
    from tqdm import tqdm

    from dnabert2_jax.data.corpus_build import BuildOptions, build_corpus, build_corpus_part
    from dnabert2_jax.data.statistics import size_warnings

    if (arguments.shard is None) != (arguments.num_shards is None):
        raise UserError("--shard and --num-shards go together; give both, or none")
    options = BuildOptions(
        validation_share=arguments.validation_share,
        holdout=arguments.holdout,
        holdout_contigs=tuple(arguments.holdout_contigs),
        region_bases=arguments.region_bases,
        stretch_bases=arguments.stretch_bases,
        max_bases_per_species=arguments.max_bases_per_species,
        drop_impure_lines=arguments.drop_impure_lines,
    )
    # With a validation file of its own, text is not split further.
    if arguments.validation_text:
        options["holdout"] = "species"
    with tqdm(unit="b", unit_scale=True, desc="bases", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        where: dict[str, Any] = {
            "inputs": _inputs(arguments),
            "tokenizer_folder": arguments.tokenizer,
            "output": arguments.output,
            "workers": arguments.workers,
            "progress": progress,
        }
        if arguments.shard is not None:
            done, units = build_corpus_part(
                **where, part=arguments.shard, parts=arguments.num_shards, **options
            )
            bar.close()
            print(
                f"{arguments.output}.partial: part {arguments.shard} of {arguments.num_shards} is done, and"
                f" {done} of {units} units in all; the same command without --shard ends the build"
            )
            return
        metadata = build_corpus(**where, **options)
    for warning in size_warnings(metadata):
        print(f"dnabert2: {warning}", file=sys.stderr)
    train = sum(counts.train_tokens for counts in metadata.species)
    validation = sum(counts.validation_tokens for counts in metadata.species)
    print(
        f"{arguments.output}: {train:,} training and {validation:,} validation tokens of "
        f"{len(metadata.species)} species, both strands; {len(metadata.validation_regions)} regions held out"
    )


def _stats(arguments) -> None:
    from dnabert2_jax.data.statistics import corpus_statistics

    statistics = corpus_statistics(arguments.folder)
    if arguments.json:
        print(json.dumps(statistics, indent=1))
        return
    by_species = statistics.pop("by_species")
    sentences = [statistics.pop("holdout"), *statistics.pop("size_warnings")]
    for name, value in statistics.items():
        print(f"{name.replace('_', ' '):<22}{_shown(value)}")
    print("\n" + "\n".join(sentences))
    columns = (
        "species",
        "bases",
        "expected_bases",
        "train_tokens",
        "validation_tokens",
        "bases_per_token",
        "unigram_entropy",
        "training_share",
    )
    table = [[column.replace("_", " ") for column in columns]]
    table += [[_shown(row[column]) for column in columns] for row in by_species]
    if all(row["expected_bases"] is None for row in by_species):
        table = [
            [cell for place, cell in enumerate(row) if columns[place] != "expected_bases"] for row in table
        ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for row in table:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def _verify(arguments) -> None:
    from dnabert2_jax.data.corpus_check import verify_corpus

    problems = verify_corpus(arguments.folder)
    if problems:
        raise UserError("; ".join(problems))
    print(f"{arguments.folder}: every shard, count and token id is right")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
