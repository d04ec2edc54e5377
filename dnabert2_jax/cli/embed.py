"""`dnabert2 embed`: one vector per sequence of a FASTA or CSV file."""

from dnabert2_jax.cli.arguments import Parser, add_inference_arguments, load_and_read

_EXAMPLE = """example:
  dnabert2 embed --model run/model --input sequences.fa.gz --output vectors.parquet

A vector is the mean of the last hidden states over the sequence's real tokens."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 embed", description="Writes one vector per sequence.", epilog=_EXAMPLE)
    add_inference_arguments(parser)
    parser.add_argument("--pooling", choices=("mean", "cls", "max"), default="mean", help="default mean")
    arguments = parser.parse_args(words)

    from dnabert2_jax.inference.output import write_rows

    model, names, sequences = load_and_read(arguments)
    vectors = model.embed(sequences, arguments.pooling, arguments.batch_size, arguments.reverse_complement)
    write_rows(arguments.output, names, vectors, [f"d{index}" for index in range(vectors.shape[1])])
    print(f"{arguments.output}: {len(names):,} vectors of {vectors.shape[1]} numbers")
