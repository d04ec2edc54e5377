"""`dnabert2 variants`: a VCF and a genome in, the VCF with what a model says of each allele out."""

import sys

from dnabert2_jax.cli.arguments import (
    Parser,
    add_computing_arguments,
    add_model_arguments,
    not_negative,
    positive,
)
from dnabert2_jax.host_memory import keep_freed_memory

_EXAMPLE = """examples:
  dnabert2 variants -I in.vcf.gz -O out.vcf.gz -R genome.fa --model run/model
  bcftools view -r chr1 in.bcf | dnabert2 variants -R genome.fa --model run/model > out.vcf
  dnabert2 variants -I in.vcf -O scores.parquet -R genome.fa --model run/model --bases --null 100

INFO gains DNABERT2, with one value for each ALT; its fields, separated by |, are named in the header:
  score       sum of log p(token | all others) - log q(token) over the tokens that differ between the alleles,
              each of them masked alone, alternative minus reference, mean of both strands; q is how often a
              token occurs anyway. Below 0 the model expects the reference rather than the alternative.
  forward, reverse      the score on either strand
  difference            the score without q; it depends on how many tokens the alleles have
  tokens_ref, tokens_alt   how many tokens were summed, mean of both strands
  p_A p_C p_G p_T       with --bases, of variants of one base: what the model expects at the site
  z                     with --null, of insertions and deletions: the score against those of random ones
  distance              with --embedding: 1 - cosine of the mean embeddings of the two windows
  change_NAME           of a fine-tuned model, in the place of all scores: probability of each class with the
                        alternative minus that with the reference
An allele that cannot be scored has the reason in the place of its value, and is counted at the end. All else,
and the order of the records, stays as it is. A run from a file to a file that was interrupted goes on with
the same command; what is done lies beside the output until then, in .NAME.parts.

What this is not: a prediction of disease, or of any effect on a patient. A language model says how usual a
sequence is, by what it was trained on. It sees --window bases and one variant at a time, knows nothing of
genes, dosage or the other chromosome, and scores of different models, windows and kinds of variants cannot be
compared. Do not use it for clinical decisions."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 variants", description="Writes what a model says of the variants of a VCF.", epilog=_EXAMPLE
    )
    parser.add_argument(
        "-I", "--input", default="-", metavar="VCF", help="plain, gzip or bgzip; - for stdin (default)"
    )
    parser.add_argument(
        "-O",
        "--output",
        default="-",
        metavar="FILE",
        help=".vcf, .vcf.gz, .tsv or .parquet; - for a VCF to stdout (default)",
    )
    parser.add_argument(
        "-R", "--reference", required=True, metavar="FASTA", help="the genome, plain or bgzip; needs no index"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--window",
        type=positive,
        default=512,
        metavar="N",
        help="bases that the model sees, the variant in their middle (default 512)",
    )
    parser.add_argument(
        "--full", action="store_true", help="sum all tokens of the window, which takes some 60 times as long"
    )
    parser.add_argument("--bases", action="store_true", help="probabilities of the bases at variants of one")
    parser.add_argument(
        "--null",
        type=not_negative,
        default=0,
        metavar="N",
        help="compare insertions and deletions with N random ones of their kind and length near by",
    )
    parser.add_argument("--embedding", action="store_true", help="distance of the two alleles' embeddings")
    parser.add_argument(
        "--corpus", metavar="DIR", help="take q from this corpus (default: from a sample of the FASTA)"
    )
    add_computing_arguments(parser)
    arguments = parser.parse_args(words)

    from tqdm import tqdm

    from dnabert2_jax.inference.loading import from_pretrained
    from dnabert2_jax.inference.variant_annotations import Wanted
    from dnabert2_jax.inference.variant_jobs import VariantFiles, annotate_file

    files = VariantFiles(arguments.input, arguments.output, arguments.reference, arguments.corpus)
    wanted = Wanted(
        arguments.window,
        arguments.full,
        arguments.bases,
        arguments.null,
        arguments.embedding,
        arguments.batch_size,
    )
    keep_freed_memory()
    model = from_pretrained(arguments.model, dtype=arguments.dtype, revision=arguments.revision)
    with tqdm(unit="record", disable=None) as bar:
        outcome = annotate_file(model, files, wanted, bar.update)
    where = "standard output" if arguments.output == "-" else arguments.output
    print(f"{where}: {outcome}", file=sys.stderr)
