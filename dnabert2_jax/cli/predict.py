"""`dnabert2 predict`: class probabilities per sequence of a FASTA or CSV file."""

from dnabert2_jax.cli.arguments import Parser, add_inference_arguments, load_and_read

_EXAMPLE = """example:
  dnabert2 predict --model classifier/model --input sequences.csv --output probabilities.csv"""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 predict", description="Writes class probabilities per sequence.", epilog=_EXAMPLE
    )
    add_inference_arguments(parser)
    arguments = parser.parse_args(words)

    from dnabert2_jax.inference.output import write_rows

    model, names, sequences = load_and_read(arguments)
    probabilities = model.predict(sequences, arguments.batch_size, arguments.reverse_complement)
    write_rows(arguments.output, names, probabilities, model.class_names)
    print(f"{arguments.output}: {len(names):,} rows of {probabilities.shape[1]} class probabilities")
