"""`dnabert2 gue run`: fine-tunes and tests a model on tasks of GUE, or on data sets of one's own."""

import argparse
import sys
from pathlib import Path
from typing import Any

from dnabert2_jax.cli.arguments import (
    Parser,
    add_gue_arguments,
    comma_separated,
    not_negative,
    positive,
    split_settings,
    task_words,
)
from dnabert2_jax.errors import UserError
from dnabert2_jax.evaluation.trials import METHODS
from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.settings import FinetuneTrainingSettings

_DEFAULT_METHODS = ("fine-tuning", "linear-probe", "kmer-regression")

_EPILOG = """examples:
  dnabert2 gue run --model zhihan1996/DNABERT-2-117M --data gue --tasks all --output runs/released
  dnabert2 gue run --model run/model --data gue --tasks EMP,tf/0 --seeds 5 --recipe ours \\
      --learning-rates 1e-4,3e-4,1e-3 --output runs/mine
  dnabert2 gue run --data gue --tasks CPD --methods cnn,kmer-regression --output runs/baselines

--tasks takes all, GUE, GUE+, groups (EMP, TF-M, CVC, TF-H, PD, CPD, SSP, EPI, SC-F, SC-V), names such as
EMP/H3, patterns such as 'prom/*', and the names of your own sets: folders with train, dev and test as .csv.

The paper's recipe: its caps on the length, epochs, warm-up and learning rate, and the state with the lowest
dev loss. Ours differs in three things: nothing is cut; both strands are averaged in the
test where the label does not depend on the strand; token types tell the sequences of a pair apart. Settings
of fine-tuning go before the recipe's: --optimizer.learning_rate 3e-4, --training.compute_dtype bfloat16.

Each trial appears whole in OUTPUT/tasks. A run that was stopped goes on with the same command, which may then
ask for more tasks, methods or seeds. On several devices each has a trial of its own; --shard I --num-shards N
does one part of N, for job arrays. On a CPU a seed gives the same bits again."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    plain, overrides = split_settings(words)
    arguments = _parser().parse_args(plain)
    if (arguments.shard is None) != (arguments.num_shards is None):
        raise UserError("--shard and --num-shards go together; give both, or none")
    if arguments.shard is not None and arguments.shard >= arguments.num_shards:
        raise UserError(f"--shard {arguments.shard} is not below --num-shards {arguments.num_shards}")

    keep_freed_memory(FinetuneTrainingSettings().keep_freed_memory)

    from dnabert2_jax.data.gue_sets import choose_present
    from dnabert2_jax.evaluation.gue_run import GueRun, run_gue
    from dnabert2_jax.training.compilation_cache import use_compilation_cache

    use_compilation_cache(FinetuneTrainingSettings().compilation_cache)
    data = Path(arguments.data)
    run = GueRun(
        data=data,
        tasks=choose_present(data, task_words(arguments), whole=True),
        output=Path(arguments.output),
        model=arguments.model,
        name=arguments.name or Path(arguments.output).resolve().name,
        revision=arguments.revision,
        methods=arguments.methods,
        seeds=arguments.seeds,
        recipe=arguments.recipe,
        lora=arguments.lora,
        random_weights=arguments.random_weights,
        learning_rates=arguments.learning_rates,
        training_rows=arguments.training_rows,
        overrides=overrides,
        keep_models=arguments.keep_models,
        shard=arguments.shard or 0,
        num_shards=arguments.num_shards or 1,
    )
    try:
        outcome = run_gue(run, _tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the trials that are told are kept; the same command goes on") from None
    missing = f", {outcome.missing} are missing yet" if outcome.missing else ""
    print(f"{arguments.output}: {outcome.done} trials done now, {len(outcome.results)} in all{missing}")


def _tell(result: dict[str, Any]) -> None:
    from tqdm import tqdm

    seed = "" if result["seed"] is None else f" seed {result['seed']}"
    score = 100 * result["scores"][result["metric"]]
    # In between the bars, where there are any.
    tqdm.write(f"{result['task']:<22}{result['method'] + seed:<22}{result['metric']} {score:6.2f}")
    sys.stdout.flush()


def _parser() -> Parser:
    parser = Parser(
        "dnabert2 gue run",
        usage="dnabert2 gue run [--model M] [--data DIR] [--tasks T] --output DIR [--seeds N] [--lora] "
        "[--recipe paper|ours] [--section.key value …]",
        description="Fine-tunes and tests a model on tasks, with several seeds, and baselines beside it.",
        epilog=_EPILOG,
    )
    parser.add_argument("--model", metavar="M", help="a model folder, a LoRA adapter, or a hub id")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a hub id")
    add_gue_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder of the trials")
    parser.add_argument("--name", metavar="NAME", help="what reports call it (default: the folder's name)")
    parser.add_argument(
        "--methods",
        type=_methods,
        default=list(_DEFAULT_METHODS),
        metavar="LIST",
        help=f"of {', '.join(METHODS)}, by commas (default {','.join(_DEFAULT_METHODS)})",
    )
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="how often (default 3)")
    parser.add_argument(
        "--recipe", choices=("paper", "ours"), default="paper", help="whose recipe (default paper)"
    )
    parser.add_argument("--lora", action="store_true", help="train low-rank adapters and the head alone")
    parser.add_argument(
        "--random-weights", action="store_true", help="begin without pre-training, with random weights"
    )
    parser.add_argument(
        "--learning-rates",
        type=_rates,
        default=[],
        metavar="A,B,…",
        help="choose the learning rate of each task among these by its dev loss, with seed 0",
    )
    parser.add_argument(
        "--training-rows", type=positive, metavar="N", help="learn from N rows, for learning curves"
    )
    parser.add_argument("--keep-models", action="store_true", help="write the fine-tuned models too")
    parser.add_argument("--shard", type=not_negative, metavar="I", help="do part I, from 0 on")
    parser.add_argument("--num-shards", type=positive, metavar="N", help="in how many parts")
    return parser


def _methods(text: str) -> list[str]:
    chosen = comma_separated(text)
    unknown = [word for word in chosen if word not in METHODS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of {', '.join(METHODS)}")
    return [method for method in METHODS if method in chosen]


def _rates(text: str) -> list[float]:
    try:
        rates = [float(word) for word in comma_separated(text)]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of learning rates")
    return sorted(set(rates))
