"""`dnabert2 explain`: sequences or regions of a genome in; arrays, logos, maps and a page about them out."""

from pathlib import Path

from dnabert2_jax.cli.arguments import (
    Parser,
    add_computing_arguments,
    add_model_arguments,
    comma_separated,
    not_negative,
    positive,
    sequence_bar,
)
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import refuse_existing
from dnabert2_jax.host_memory import keep_freed_memory

_EXAMPLE = """examples:
  dnabert2 explain --model classifier/model --input promoters.fa --output explained
  dnabert2 explain --model classifier/model --input peaks.bed --genome genome.fa --center 99 --output out
  dnabert2 explain --model run/model --region chrI:1,001-1,200 --genome genome.fa --output explained
  dnabert2 explain --model run/model --input sequences.csv --what attention --layers 0,-1 --output explained

--what mutagenesis   every base is changed to each other one, tokenised anew, and the model asked again: the
                     change in the probability of a class, or, of a masked-language model, in the score of
                     dnabert2 variants, which needs --corpus or --genome. The default for a fine-tuned model.
--what bases         every base is hidden, and the model tells how probable A, C, G and T are. For masked-
                     language models, and their default.
--what attention     what each token attends to, for each layer and head.

The folder holds for each sequence NAME.npz with the array values, [bases, 4] in the order A C G T; table.tsv
with the same in rows (name, position from 1 on, and 0 and less where --center reaches out of a region, ref,
A, C, G, T); pictures of the first --pictures sequences
as .png and .svg; where all sequences have one length their mean, average.npz and pictures; and report.html,
which shows the pictures. Bases that are none of A C G T have no numbers.

Both strands are averaged: right for what does not depend on the strand, as most regulatory DNA. Say
--one-strand where it does, as for splice sites. Mutagenesis costs a forward pass for each strand, phase and
mutant, 6 for each change of a base, and with a masked-language model one for each token that it changes;
--one-strand and --phases 1 make it a sixth. Phases cut side by side k-mers anew; of BPE they change what is
near the ends.

What this is not: a proof of what a cell does. It shows what a model goes by, and a model may be wrong."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 explain", description="Shows which bases of sequences a model goes by.", epilog=_EXAMPLE
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="FASTA, or CSV/TSV with a column sequence, or BED with --genome; - for stdin",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--genome",
        metavar="FASTA",
        help="where the regions of a BED --input, or --region, and the bases beside them are; plain or bgzip",
    )
    parser.add_argument(
        "--region",
        nargs="+",
        default=[],
        metavar="R",
        help="contig:start-end in place of --input, positions from 1 on, the end included",
    )
    parser.add_argument(
        "--what",
        choices=("mutagenesis", "bases", "attention"),
        help="see below (default: by the model)",
    )
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="which class (default: the second of two)"
    )
    parser.add_argument("--one-strand", action="store_true", help="leave out the other strand")
    parser.add_argument(
        "--phases",
        type=positive,
        metavar="N",
        help="average N ways to cut a window: phase p lacks p bases at each end (default 3)",
    )
    parser.add_argument(
        "--window",
        type=positive,
        metavar="N",
        help="bases that the model sees at once, with --genome those beside a region too (default: 512 for a"
        " masked-language model, else the whole sequence or region)",
    )
    parser.add_argument(
        "--center",
        type=positive,
        metavar="N",
        help="explain N bases around the middle of each sequence; with --genome shorter regions are widened",
    )
    parser.add_argument(
        "--layers",
        type=comma_separated,
        metavar="I,J",
        help="of attention, from 0 on; --layers=-1 is the last",
    )
    parser.add_argument(
        "--corpus",
        metavar="DIR",
        help="of masked-language models: take token frequencies, to which scores and logos are relative, from"
        " this corpus (default: from --genome; with neither they are relative to nothing)",
    )
    parser.add_argument(
        "--pictures",
        type=not_negative,
        default=20,
        metavar="N",
        help="draw the first N sequences (default 20); arrays are written of all",
    )
    add_computing_arguments(parser)
    arguments = parser.parse_args(words)
    layers = None if arguments.layers is None else _layers(arguments.layers)
    if arguments.what == "attention" and (arguments.phases is not None or arguments.one_strand):
        raise UserError("--phases and --one-strand are not for attention; leave them out")
    refuse_existing(Path(arguments.output))

    from dnabert2_jax.inference.explain_inputs import Sources
    from dnabert2_jax.inference.explain_jobs import Request, explain_file
    from dnabert2_jax.inference.loading import from_pretrained
    from dnabert2_jax.inference.views import PHASES

    sources = Sources(arguments.input, arguments.genome, tuple(arguments.region))
    request = Request(
        what=arguments.what,
        class_name=arguments.class_name,
        reverse_complement=not arguments.one_strand,
        phases=arguments.phases or PHASES,
        window=arguments.window,
        center=arguments.center,
        layers=layers,
        corpus=arguments.corpus,
        pictures=arguments.pictures,
        batch_size=arguments.batch_size,
    )
    keep_freed_memory()
    model = from_pretrained(arguments.model, dtype=arguments.dtype, revision=arguments.revision)
    with sequence_bar() as progress:
        outcome = explain_file(model, sources, arguments.output, request, progress)
    mean = ", and their mean" if outcome.averaged else ""
    print(
        f"{arguments.output}: {outcome.what} of {outcome.bases:,} bases in {outcome.sequences:,} sequences,"
        f" pictures of {outcome.pictures:,}{mean}; open report.html"
    )


def _layers(words: list[str]) -> tuple[int, ...]:
    try:
        return tuple(map(int, words))
    except ValueError:
        raise UserError(f"--layers is {','.join(words)}; give whole numbers with commas between") from None
