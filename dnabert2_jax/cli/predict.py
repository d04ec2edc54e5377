"""`dnabert2 predict`: class probabilities, or numbers, per sequence of a FASTA or CSV file."""

from dnabert2_jax.cli.arguments import (
    Parser,
    add_inference_arguments,
    inference_request,
    sequence_bar,
    tell,
)

_EXAMPLE = """example:
  dnabert2 predict --model classifier/model --input sequences.csv --output probabilities.csv

A column holds the probability of one class; of a model that was fine-tuned by regression it is `value`.
Of .parquet and .csv the first column is `name`, the sequence's; that of a class called `name` is `name_`.

Of a sequence longer than --window it is the mean over windows, each counting as much as the tokens taken from
it. A run that was interrupted goes on with the same command, except from a pipe; what is done lies beside the
output until then, in .NAME.parts."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 predict", description="Writes what a fine-tuned model predicts.", epilog=_EXAMPLE
    )
    add_inference_arguments(parser)
    arguments = parser.parse_args(words)
    model, files, running = inference_request(arguments)

    from dnabert2_jax.inference.jobs import predict_file

    with sequence_bar() as progress:
        outcome = predict_file(model, files, running, progress)
    is_numbers = model.prediction_kind == "numbers"
    what = "predicted values" if is_numbers else f"{outcome.columns} class probabilities"
    tell(arguments, outcome, f"{outcome.rows:,} rows of {what}")
