"""`dnabert2 embed`: the vectors of the sequences of a FASTA or CSV file, or of their tokens or bases."""

from dnabert2_jax.cli.arguments import (
    Parser,
    add_inference_arguments,
    inference_request,
    sequence_bar,
    tell,
)

_EXAMPLE = """examples:
  dnabert2 embed --model run/model --input sequences.fa.gz --output vectors.parquet
  dnabert2 embed --model run/model --input sequences.csv --output bases.npz --pooling nucleotide

A vector is the mean of the last hidden states over the sequence's real tokens. With --pooling token every
token has its own, without [CLS] and [SEP], in a row with name, token, start and end: 0-based, half open, in
the sequence. With --pooling nucleotide every base has that of its token, in a row with name, position
(0-based) and base.

A .parquet or .csv has these columns and d0, d1, …; a .npz the arrays name, values and columns, and for tokens
and bases one array of each column besides, and offsets: values[offsets[i]:offsets[i + 1]] are of name[i].

A sequence longer than --window is computed in windows that overlap, each token being taken from the one in
whose middle it lies. A run that was interrupted goes on with the same command, except from a pipe; what is
done lies beside the output until then, in .NAME.parts."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 embed", description="Writes vectors of sequences.", epilog=_EXAMPLE)
    add_inference_arguments(parser)
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "max", "token", "nucleotide"),
        default="mean",
        help="what there is a vector of, or how it is made out of those of the tokens (default mean)",
    )
    arguments = parser.parse_args(words)
    model, files, running = inference_request(arguments)

    from dnabert2_jax.inference.jobs import embed_file

    with sequence_bar() as progress:
        outcome = embed_file(model, files, arguments.pooling, running, progress)
    many = arguments.pooling in ("token", "nucleotide")
    of = f", one for each {arguments.pooling} of {outcome.sequences:,} sequences" if many else ""
    tell(arguments, outcome, f"{outcome.rows:,} vectors of {outcome.columns} numbers{of}")
