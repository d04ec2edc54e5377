"""Does pre-training help a small model on real tasks? Pre-trained, pre-trained on shuffled text, and random.

    python benchmarks/gue_evidence.py --genomes scerevisiae.fa.gz sparadoxus.fa.gz sarboricolus.fa.gz \\
        --data GUE --work DIR --output benchmarks/results/gue_evidence.json

The first genome is the one that the yeast sets were cut from. Chromosomes IV, VII, XI and XV of all
genomes are held out from pre-training, though not from the tokenizer. The dev and test files of four
yeast sets are pooled, their windows found in the genome and divided again: IV, VII and XV are the test,
XI the dev split. The sets of human and mouse are transfer to other domains. Each model is fine-tuned by
the same recipe with the learning rate of three that its own dev loss chooses, on 250, 1000 and all rows
of the yeast sets and on 1000 rows of the others. Beside them: frozen probes, k-mer regression and the
CNN. Whatever comes out is written. What is in DIR already is used again.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from learning import compare, make_corpora, train
from token_trigram import TokenTrigram

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.windows import validation_windows
from dnabert2_jax.evaluation.report.columns import make_board
from dnabert2_jax.evaluation.report.results import read_run
from dnabert2_jax.evaluation.report.summary import Findings, summarise
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.tokenizer.vocabulary import MASK_ID, SPECIAL_TOKENS
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.heldout import hide_windows
from dnabert2_jax.training.objective import Masking

HELD_OUT = ("chrIV", "chrVII", "chrXI", "chrXV")
TEST, DEV = "chrIV,chrVII,chrXV", "chrXI"
YEAST = ("EMP/H3", "EMP/H3K79me3", "EMP/H3K4me3", "EMP/H4ac")
ELSEWHERE = ("mouse/0", "mouse/2", "prom/prom_core_tata", "tf/4")
MODELS = ("pretrained", "shuffled", "random")
LEARNING_RATES = "1e-4,3e-4,1e-3"
WINDOWS = 4096


def main() -> None:
    """Does what is not done yet, and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genomes", nargs="+", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3500, help="of pre-training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", nargs="*", type=int, default=[250, 1000])
    parser.add_argument("--transfer-rows", type=int, default=1000, help="of human and mouse sets")
    arguments = parser.parse_args()

    work = arguments.work
    corpora = make_corpora(arguments.genomes, list(HELD_OUT), work)
    seconds = train(corpora, work, arguments.steps, True)
    split_by_chromosome(arguments, work / "split")
    findings = {
        name: summarise(make_board([read_run(folder) for folder in folders]))
        for name, folders in run_all(arguments, work).items()
    }
    result = {
        "genomes": [path.name for path in arguments.genomes],
        "held_out_chromosomes": HELD_OUT,
        "pretraining": {
            "steps": arguments.steps,
            "seconds": seconds,
            "held_out": what_was_learnt(corpora["real"], work),
        },
        "split": {task: json.loads((work / "split" / task / "split.json").read_text()) for task in YEAST},
        "recipe": {"epochs": arguments.epochs, "seeds": arguments.seeds, "learning_rates": LEARNING_RATES},
        "results": {name: as_numbers(found) for name, found in findings.items()},
        "environment": describe_environment(),
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["results"], indent=1))


def dnabert2(*words: object) -> None:
    """Runs a command of the package."""
    command = [sys.executable, "-m", "dnabert2_jax", *map(str, words)]
    print("dnabert2", *words, flush=True)
    if subprocess.run(command).returncode:
        sys.exit("a command failed")


def split_by_chromosome(arguments: argparse.Namespace, folder: Path) -> None:
    """Writes the yeast sets, divided by chromosome."""
    if not all((folder / task / "split.json").exists() for task in YEAST):
        shutil.rmtree(folder, ignore_errors=True)
        dnabert2(
            *("gue", "audit", "--data", arguments.data, "--tasks", ",".join(YEAST)),
            *("--genome", arguments.genomes[0], "--write-split", folder),
            *("--test-contigs", TEST, "--dev-contigs", DEV, "--output", folder.parent / "audit.txt"),
        )


def run_all(arguments: argparse.Namespace, work: Path) -> dict[str, list[Path]]:
    """Runs all models; the folders of each experiment."""
    sizes: list[int | None] = [*arguments.rows, None]
    folders: dict[str, list[Path]] = {}
    for rows in sizes:
        name = "yeast, all rows" if rows is None else f"yeast, {rows} rows"
        words = [] if rows is None else ["--training-rows", rows]
        folders[name] = run_models(arguments, work, name, work / "split", YEAST, words)
    name = f"transfer, {arguments.transfer_rows} rows"
    words = ["--training-rows", arguments.transfer_rows]
    folders[name] = run_models(arguments, work, name, arguments.data, ELSEWHERE, words)
    return folders


def run_models(
    arguments: argparse.Namespace, work: Path, name: str, data: Path, tasks: tuple[str, ...], more: list
) -> list[Path]:
    """Runs the three models on tasks; the folders."""
    sources = {"pretrained": "run-real", "shuffled": "run-shuffled", "random": "run-real"}
    folders = []
    for model in MODELS:
        folder = work / "gue" / name.replace(", ", "-").replace(" ", "-") / model
        methods = "fine-tuning,linear-probe" + (",kmer-regression,cnn" if model == MODELS[0] else "")
        dnabert2(
            *("gue", "run", "--model", work / sources[model] / "model", "--data", data),
            *("--tasks", ",".join(tasks), "--methods", methods, "--seeds", arguments.seeds),
            *("--recipe", "ours", "--learning-rates", LEARNING_RATES, "--name", model, "--output", folder),
            *("--training.epochs", arguments.epochs, "--training.evaluate_every", 25),
            *("--training.compute_dtype", "bfloat16"),
            *(["--random-weights"] if model == "random" else []),
            *more,
        )
        folders.append(folder)
    return folders


def what_was_learnt(corpus_folder: Path, work: Path) -> dict[str, Any]:
    """All-[MASK] loss of both models, token frequencies and a token 3-gram on the same hidden tokens."""
    corpus = Corpus.open(corpus_folder)
    models = {name: from_pretrained(work / f"run-{name}" / "model") for name in ("real", "shuffled")}
    windows = validation_windows(corpus, length=128, limit=WINDOWS)
    size = models["real"].tokenizer.vocab_size
    hidden = jax.jit(hide_windows, static_argnums=(2, 3))(windows.input_ids, 0, Masking().all_masked(), size)
    texts = [record.tokens for record in corpus.records("train")]
    shown, positions, targets, weights = (np.asarray(part) for part in hidden)

    def neighbours(distance: int) -> np.ndarray:
        tokens = np.take_along_axis(shown, np.maximum(positions - distance, 0), axis=1)
        hidden_or_none = (tokens < len(SPECIAL_TOKENS)) | (tokens == MASK_ID) | (positions < distance)
        return np.where(hidden_or_none, -1, tokens)

    real = weights > 0
    nats = TokenTrigram(texts, size).nats(neighbours(2)[real], neighbours(1)[real], targets[real])
    return {**compare(models, corpus), "token_trigram_nats": round(float(nats.mean()), 5)}


def as_numbers(findings: Findings) -> dict[str, Any]:
    """Scores and paired comparisons in points."""
    scores = {
        column: {
            task: {
                "mean": round(score.estimate.mean, 2),
                "sd": None if score.sd is None else round(score.sd, 2),
                "interval_95": [round(edge, 2) for edge in score.estimate.interval],
                "by_seed": [round(points, 2) for points in score.by_seed],
                "collapsed": len(score.collapsed),
            }
            for task, score in tasks.items()
        }
        for column, tasks in findings.scores.items()
    }
    comparisons = [
        {
            "first": each.first,
            "second": each.second,
            "mean_difference": round(each.mean.mean, 2),
            "interval_95": [round(edge, 2) for edge in each.mean.interval],
            "by_task": {
                task: {
                    "difference": round(found.difference, 2),
                    "interval_95": [round(edge, 2) for edge in found.interval],
                    "p_holm": round(each.holm[task], 4),
                }
                for task, found in each.differences.items()
            },
        }
        for each in findings.comparisons
    ]
    return {"points": scores, "comparisons": comparisons}


if __name__ == "__main__":
    main()
