"""`dnabert2 quickstart`: runs the other commands in order, on simulated genomes or on the user's own.

Every step after the making of data is a command, shown as it would be typed.
"""

import io
import json
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from dnabert2_jax.cli import corpus, embed, finetune, pretrain, tokenizer
from dnabert2_jax.cli.arguments import Parser, positive
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import folder_lock

_EXAMPLE = """examples:
  dnabert2 quickstart                                     on simulated genomes
  dnabert2 quickstart --fasta ecoli.fa.gz yeast.fa.gz     on genomes of your own, one file a species

It takes about five minutes on two CPU cores and ends in a page to open, report.html.
A former quickstart in the output folder gives way."""

_MARK = ".quickstart"
_SEED = 0
_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "tokenizer": tokenizer.main,
    "corpus": corpus.main,
    "pretrain": pretrain.main,
    "finetune": finetune.main,
    "embed": embed.main,
}


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 quickstart",
        description="From genomes to a fine-tuned model and a page about it, on a small scale.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("--fasta", nargs="+", metavar="FILE", help="your own genomes, plain or gzip")
    parser.add_argument("--output", default="quickstart", metavar="DIR", help="default quickstart")
    parser.add_argument("--steps", type=positive, default=600, help="pre-training steps (default 600)")
    arguments = parser.parse_args(words)

    output = Path(arguments.output)
    species = None if arguments.fasta is None else _checked_genomes(arguments.fasta, output)
    _require_room(output)
    with folder_lock(output):
        _clear(output)
        _run(output, species, arguments.steps)


def _run(output: Path, species: list[tuple[str, str]] | None, steps: int) -> None:
    diary = _Diary()
    labelled = output / "sequences"
    fasta = _simulate(diary, labelled) if species is None else _draw(diary, species, labelled)
    model, classifier = output / "pretraining" / "model", output / "classifier"
    diary.run(
        "Learn a vocabulary",
        ["tokenizer", "train", "--fasta", *fasta, "--vocab-size", "256", "--output", output / "tokenizer"],
    )
    diary.run(
        "Tokenise the genomes",
        [
            "corpus",
            "build",
            "--fasta",
            *fasta,
            "--tokenizer",
            output / "tokenizer",
            "--output",
            output / "corpus",
        ],
    )
    diary.run(
        "Pre-train a language model",
        [
            "pretrain",
            "tiny",
            "--corpus",
            output / "corpus",
            "--output",
            output / "pretraining",
            "--training.steps",
            steps,
            "--training.evaluate_every",
            max(1, steps // 6),
            "--optimizer.warmup_steps",
            steps // 10,
        ],
        report="pretraining/report.html",
    )
    diary.run(
        "Fine-tune it to classify sequences",
        [
            "finetune",
            "--model",
            model,
            "--data",
            labelled,
            "--output",
            classifier,
            "--optimizer.learning_rate",
            "5e-4",
            "--training.evaluate_every",
            "50",
        ],
        report="classifier/report.html",
    )
    diary.run(
        "Embed the test sequences",
        [
            "embed",
            "--model",
            classifier / "model",
            "--input",
            labelled / "test.csv",
            "--output",
            output / "vectors.npz",
        ],
    )
    next_steps = [
        (
            "dnabert2 pretrain small --corpus CORPUS --output RUN",
            "an hour on a CPU, for a model worth using; its corpus needs a tokenizer of 512 tokens",
        ),
        (
            f"dnabert2 finetune --model {shlex.quote(str(model))} --data YOUR_FOLDER --output RUN",
            "your own labels: train.csv, dev.csv and test.csv with the columns sequence and label",
        ),
        (
            f"dnabert2 predict --model {shlex.quote(str(classifier / 'model'))} --input YOURS.fa "
            "--output classes.csv",
            "the classifier on sequences of your own",
        ),
    ]
    _write_report(output, diary, next_steps)
    print(f"\n{output}/report.html: all of this as a page. What to do next:")
    for command, meaning in next_steps:
        print(f"  {command}\n      {meaning}")


def _checked_genomes(files: list[str], output: Path) -> list[tuple[str, str]]:
    """Species and file of each genome; refuses what could not be read, or would be removed."""
    from dnabert2_jax.genome.fasta import read_chunks

    species = corpus.species_names(files)
    for file in files:
        if Path(file).resolve().is_relative_to(output.resolve()):
            raise UserError(f"{file}: lies in the output folder, which a quickstart clears; name another")
        next(iter(read_chunks(file)), None)
    return species


def _require_room(output: Path) -> None:
    """Makes the output folder, or makes sure that it is one that a quickstart made."""
    if output.is_dir() and any(output.iterdir()) and not (output / _MARK).exists():
        raise UserError(f"{output}: exists and is no former quickstart; name another output folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / _MARK).touch()
    except OSError as error:
        raise UserError(f"{output}: cannot be made the output folder: {error.strerror}") from error


def _clear(output: Path) -> None:
    """Removes what a former quickstart made, and nothing else."""
    for name in ("genomes", "sequences", "tokenizer", "corpus", "pretraining", "classifier"):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("vectors.npz", "report.html"):
        (output / name).unlink(missing_ok=True)


class _Diary:
    """Runs steps, tells of them, and remembers them for the report."""

    def __init__(self):
        self.steps: list[dict] = []

    def run(self, title: str, command: list, report: str | None = None) -> None:
        """Runs a command of ours; what it prints is the step's summary."""
        words = [str(word) for word in command]

        def call() -> str:
            printed = io.StringIO()
            with redirect_stdout(printed):
                _COMMANDS[words[0]](words[1:])
            return printed.getvalue().strip()

        self.note(title, f"dnabert2 {shlex.join(words)}", call)
        if report is not None:
            self.steps[-1]["link"] = report

    def note(self, title: str, command: str, call: Callable[[], str]) -> None:
        """Runs `call`, which returns a summary."""
        print(f"\n{len(self.steps) + 1}. {title}\n   $ {command}", flush=True)
        start = time.perf_counter()
        summary = call()
        seconds = time.perf_counter() - start
        print(f"   {summary} ({seconds:.0f} s)", flush=True)
        self.steps.append({"title": title, "command": command, "seconds": seconds, "summary": summary})


def _simulate(diary: _Diary, labelled: Path) -> list[str]:
    from dnabert2_jax.data.demonstration import write_simulated_data

    files: list[str] = []

    def call() -> str:
        files.extend(map(str, write_simulated_data(labelled.parent / "genomes", labelled, seed=_SEED)))
        return f"{len(files)} genomes; {labelled}: promoters and other sequences, apart by region"

    diary.note("Simulate genomes", "(three species with genes, repeats and promoters)", call)
    return files


def _draw(diary: _Diary, species: list[tuple[str, str]], labelled: Path) -> list[str]:
    from dnabert2_jax.data.demonstration import write_genome_windows

    def call() -> str:
        write_genome_windows(species, labelled, seed=_SEED)
        return f"{labelled}: sequences with their species as label, apart by region"

    diary.note("Draw labelled sequences", "(windows of 300 bases of each genome)", call)
    return [file for _, file in species]


def _write_report(output: Path, diary: _Diary, next_steps: list[tuple[str, str]]) -> None:
    import numpy as np

    from dnabert2_jax.data.labelled import load_labelled
    from dnabert2_jax.inference.projection import principal_components
    from dnabert2_jax.reports.quickstart import write_quickstart_report
    from dnabert2_jax.training.run_log import read_rows

    labelled = load_labelled(output / "sequences")
    with np.load(output / "vectors.npz") as vectors:
        points = principal_components(vectors["values"])
    write_quickstart_report(
        output / "report.html",
        steps=diary.steps,
        pretraining={"rows": read_rows(output / "pretraining" / "metrics.jsonl")},
        test=json.loads((output / "classifier" / "test_scores.json").read_text()),
        embedding_points=points,
        embedding_labels=labelled.test.labels,
        class_names=labelled.class_names,
        next_steps=next_steps,
    )
