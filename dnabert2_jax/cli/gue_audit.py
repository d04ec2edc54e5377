"""`dnabert2 gue audit`: what makes the scores on data sets look better, or worse, than they should."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dnabert2_jax.cli.arguments import Parser, add_gue_arguments, comma_separated, task_words
from dnabert2_jax.errors import UserError

if TYPE_CHECKING:
    from dnabert2_jax.evaluation.audit.in_genome import Placed
    from dnabert2_jax.evaluation.audit.splits import SetRows
    from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

_EXAMPLES = """examples:
  dnabert2 gue audit --data GUE --tokenizer zhihan1996/DNABERT-2-117M
  dnabert2 gue audit --data GUE --tasks prom EMP/H3 --json --output audit.json
  dnabert2 gue audit --data GUE --tasks EMP --genome yeast.fa.gz \\
    --write-split by-chromosome --test-contigs chrIV,chrVII,chrXV --dev-contigs chrXI

--data is a folder that holds EMP, tf and so on, or sets of your own, or is one. Found are rows that are
repeated, that are in two splits (equal, on the other strand, or matching over half of their length), that
have two labels, that lie inside those of another set, and what copying a neighbour's label scores; with a
tokenizer what the recipes cut off; with a genome which windows of different splits overlap in it.

--write-split pools a set's rows and divides them by chromosome; DIR/<task> then has train, dev and test as
.csv.gz, and split.json, which says what was left out."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    arguments = _parse(words)
    from tqdm import tqdm

    from dnabert2_jax.data.gue_sets import choose_present
    from dnabert2_jax.evaluation.audit.in_genome import place_sets
    from dnabert2_jax.evaluation.audit.sets import as_document, audit_sets, load_rows
    from dnabert2_jax.evaluation.audit.text import audit_text
    from dnabert2_jax.files import atomic_file, check_writable

    if arguments.output:
        check_writable(arguments.output)
    data = Path(arguments.data)
    tokenizer = _tokenizer(arguments.tokenizer) if arguments.tokenizer else None
    sets = [load_rows(data, task) for task in choose_present(data, task_words(arguments))]
    placed = place_sets(sets, arguments.genome) if arguments.genome else None
    if placed is not None and arguments.write_split:
        _check_split(arguments, sets, placed)
    with tqdm(total=len(sets), unit="set", disable=None) as bar:
        audit = audit_sets(sets, tokenizer=tokenizer, placed=placed, on_set=bar.update)
    if arguments.json:
        document = as_document(audit, data, arguments.genome, arguments.tokenizer)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = audit_text(audit)
    if arguments.output:
        with atomic_file(arguments.output, "w") as file:
            file.write(text)
        grave = sum(finding.gravity == "grave" for one in audit.sets for finding in one.findings)
        print(f"{arguments.output}: {len(sets)} data sets audited; {grave} grave findings")
    else:
        print(text, end="")
    if placed is not None and arguments.write_split:
        _write_splits(arguments, sets, placed)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(
        "dnabert2 gue audit",
        description="Looks for what makes scores on data sets look better, or worse, than they should.",
        epilog=_EXAMPLES,
    )
    add_gue_arguments(parser)
    parser.add_argument(
        "--genome",
        action="append",
        default=[],
        metavar="FASTA",
        help="a genome that sets were cut from, plain or gzip; may be repeated",
    )
    parser.add_argument(
        "--tokenizer", metavar="T", help="a tokenizer or model folder, or the hub id of a model"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document with all counts and examples")
    parser.add_argument("--output", metavar="FILE", help="write it there, and not to standard output")
    parser.add_argument(
        "--write-split", metavar="DIR", help="divide the sets by chromosome, into a new folder"
    )
    for split in ("test", "dev"):
        parser.add_argument(
            f"--{split}-contigs",
            type=comma_separated,
            default=[],
            metavar="A,B,…",
            help=f"contigs for {split}",
        )
    arguments = parser.parse_args(words)
    contigs = bool(arguments.test_contigs) and bool(arguments.dev_contigs)
    if arguments.write_split and not (arguments.genome and contigs):
        parser.error("--write-split needs --genome, --test-contigs and --dev-contigs; give all three")
    if not arguments.write_split and (arguments.test_contigs or arguments.dev_contigs):
        parser.error("--test-contigs and --dev-contigs are for --write-split; name its folder")
    return arguments


def _tokenizer(source: str) -> "SequenceTokenizer":
    from dnabert2_jax.tokenizer.loading import load_tokenizer

    if Path(source).expanduser().exists():
        return load_tokenizer(Path(source).expanduser())
    # Only here, as the hub's names lead to modules that know JAX.
    from dnabert2_jax.inference.hub import model_folder

    return load_tokenizer(model_folder(source))


def _check_split(
    arguments: argparse.Namespace, sets: "list[SetRows]", placed: "dict[str, dict[str, Placed]]"
) -> None:
    """Refuses, before the audit takes its time, what could not be written after it."""
    from dnabert2_jax.evaluation.audit.chromosome_split import check_contigs
    from dnabert2_jax.files import refuse_existing

    chosen = _of_genome(sets, placed)
    if not chosen:
        raise UserError(
            f"{', '.join(arguments.genome)}: none of the data sets lies there; name the genome that they were"
            " cut from"
        )
    for rows in chosen:
        check_contigs(placed[rows.task.name], arguments.test_contigs, arguments.dev_contigs)
        refuse_existing(Path(arguments.write_split) / rows.task.name)


def _write_splits(
    arguments: argparse.Namespace, sets: "list[SetRows]", placed: "dict[str, dict[str, Placed]]"
) -> None:
    from dnabert2_jax.evaluation.audit.chromosome_split import write_chromosome_split

    for rows in _of_genome(sets, placed):
        split = write_chromosome_split(
            Path(arguments.write_split),
            rows,
            placed[rows.task.name],
            arguments.genome,
            test_contigs=arguments.test_contigs,
            dev_contigs=arguments.dev_contigs,
        )
        if arguments.output or not arguments.json:
            print(f"{Path(arguments.write_split) / rows.task.name}: {split}")


def _of_genome(sets: "list[SetRows]", placed: "dict[str, dict[str, Placed]]") -> "list[SetRows]":
    from dnabert2_jax.evaluation.audit.in_genome import is_of_genome

    return [rows for rows in sets if is_of_genome(placed[rows.task.name])]
