"""`dnabert2 finetune`: a model that predicts labels or numbers, from a model and labelled sequences."""

from dnabert2_jax.cli.arguments import Parser, split_settings
from dnabert2_jax.config import describe_settings, load_settings, packaged_configs
from dnabert2_jax.settings import FinetuneSettings


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 finetune",
        usage="dnabert2 finetune --model M --data DIR --output RUN [--config CONFIG] [--section.key value …]",
        description="Fine-tunes a model to predict what is said of sequences; keeps the state of the lowest "
        "validation loss, and tests it.",
        epilog="example:\n  dnabert2 finetune --model run/model --data promoters --output classifier\n\n"
        "DIR holds train, dev and test as .csv or .csv.gz with the columns sequence and label, or\n"
        "sequence1, sequence2 and label for pairs. A label is the name of a class, or its number from 0 on;\n"
        "with --training.problem multi_label_classification it is names separated by ';', and a real number\n"
        "with regression.\n"
        f"packaged configurations: {', '.join(packaged_configs(FinetuneSettings))}\n\n"
        "settings and their defaults, where the configuration says nothing:\n"
        f"{describe_settings(FinetuneSettings)}",
    )
    parser.add_argument("--model", required=True, metavar="M", help="a model folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="the labelled sequences")
    parser.add_argument("--output", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument(
        "--config",
        default="paper",
        help="a TOML file, or the name of a packaged configuration (default paper)",
    )
    plain, overrides = split_settings(words)
    arguments = parser.parse_args(plain)
    settings = load_settings(FinetuneSettings, arguments.config, overrides)

    from dnabert2_jax.training.finetune import finetune

    test = finetune(settings, arguments.model, arguments.data, arguments.output)
    scores = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}" for name, value in test.items() if name != "examples"
    )
    print(f"{arguments.output}: on the {test['examples']:,} test examples: {scores}")
