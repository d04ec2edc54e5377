"""`dnabert2 predict`: class probabilities, or numbers, per sequence of a FASTA or CSV file."""

from dnabert2_jax.cli.arguments import Parser, add_inference_arguments, load_and_read

_EXAMPLE = """example:
  dnabert2 predict --model classifier/model --input sequences.csv --output probabilities.csv

A column holds the probability of one class; of a model that was fine-tuned by regression it is `value`.
Of .parquet and .csv the first column is `name`, the sequence's; that of a class called `name` is `name_`."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 predict", description="Writes what a fine-tuned model predicts.", epilog=_EXAMPLE
    )
    add_inference_arguments(parser)
    arguments = parser.parse_args(words)

    from dnabert2_jax.inference.output import write_rows

    model, names, sequences = load_and_read(arguments)
    predictions = model.predict(sequences, arguments.batch_size, arguments.reverse_complement)
    is_value = model.description.problem == "regression" and len(model.class_names) == 1
    columns = ("value",) if is_value else model.class_names
    write_rows(arguments.output, names, predictions, columns)
    what = "predicted values" if is_value else f"{len(columns)} class probabilities"
    print(f"{arguments.output}: {len(names):,} rows of {what}")
