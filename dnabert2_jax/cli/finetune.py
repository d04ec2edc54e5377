"""`dnabert2 finetune`: a model that predicts labels or numbers, from a model and labelled sequences."""

from dnabert2_jax.cli.arguments import Parser, add_model_arguments, split_settings
from dnabert2_jax.config import describe_settings, load_settings, packaged_configs
from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.settings import FinetuneSettings


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 finetune",
        usage="dnabert2 finetune --model M --data DIR --output RUN [--lora] [--config CONFIG] "
        "[--section.key value …]",
        description="Fine-tunes a model to predict what is said of sequences; keeps the state of the lowest "
        "validation loss, and tests it.",
        epilog="example:\n  dnabert2 finetune --model run/model --data promoters --output classifier\n\n"
        "DIR holds train, dev and test as .csv or .csv.gz with the columns sequence and label, or\n"
        "sequence1, sequence2 and label for pairs. A label is the name of a class, or its number from 0 on;\n"
        "with --training.problem multi_label_classification it is names separated by ';', and a real number\n"
        "with regression.\n\n"
        "With --lora the model stays as it is: low-rank adapters and the head train, in a hundredth of the\n"
        "memory for gradients and optimizer. RUN/adapter then has them alone, in the layout of PEFT, and\n"
        "RUN/model merged with the model, to be used as without --lora.\n\n"
        f"packaged configurations: {', '.join(packaged_configs(FinetuneSettings))}\n\n"
        "settings and their defaults, where the configuration says nothing:\n"
        f"{describe_settings(FinetuneSettings)}",
    )
    add_model_arguments(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the labelled sequences")
    parser.add_argument("--output", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument(
        "--lora", action="store_true", help="train low-rank adapters and the head alone: --lora.enabled true"
    )
    parser.add_argument(
        "--config",
        help="a TOML file, or the name of a packaged configuration (default paper, and lora with --lora)",
    )
    plain, overrides = split_settings(words)
    arguments = parser.parse_args(plain)
    if arguments.lora:
        overrides = [*overrides, "--lora.enabled", "true"]
    config = arguments.config or ("lora" if arguments.lora else "paper")
    settings = load_settings(FinetuneSettings, config, overrides)

    keep_freed_memory(settings.training.keep_freed_memory)

    from dnabert2_jax.training.compilation_cache import use_compilation_cache
    from dnabert2_jax.training.finetune import finetune

    use_compilation_cache(settings.training.compilation_cache)
    test = finetune(settings, arguments.model, arguments.data, arguments.output, revision=arguments.revision)
    scores = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}" for name, value in test.items() if name != "examples"
    )
    print(f"{arguments.output}: on the {test['examples']:,} test examples: {scores}")
