"""Do variant scores tell what evolution let pass from what chance proposes? Two yeasts, beside k-mer models.

    python benchmarks/variants_validation.py --cerevisiae S288C.fa.gz --paradoxus CBS432.fa.gz \\
        --training S288C.fa.gz CBS432.fa.gz H6.fa.gz --held-out chrIV chrVII chrXI chrXV \\
        --models pretrained=run-real/model shuffled=run-shuffled/model --work DIR \\
        --output benchmarks/results/variants_validation.json

Single-base differences between the assemblies, on chromosomes that no model was trained on, against random
substitutions of the same three bases to the same base, at sites that are comparable in the same way
(`substitutions.py`). Both are scored by `dnabert2 variants` as one VCF. AUROC is how often a difference has
the higher score; intervals are a bootstrap over blocks of 10,000 bases. The k-mer models are Markov chains of
the text that the models were trained on; a transition against a transversion shows that the match is one.
What is in DIR already is used again.
"""

import argparse
import gzip
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import describe_machine
from markov import MarkovChain
from pyarrow import parquet
from substitutions import Genome, Sites, comparable_sites, matched_pairs, read_genome

from dnabert2_jax.evaluation.report.statistics import interval
from dnabert2_jax.files import atomic_file
from dnabert2_jax.genome.packed import complement_codes
from dnabert2_jax.model.architecture import count_parameters
from dnabert2_jax.model.folder import read_description
from dnabert2_jax.tokenizer.vocabulary import LETTERS

BLOCK = 10_000
RESAMPLES = 2_000
ORDERS = (3, 5, 8, 11)
SEED = 0

# So many pairs are scored by one command, so that a run that is cut off has not lost all.
PART = 500
# What is asked of the command: all tokens are summed in short windows, since each takes a forward pass.
COMMANDS = {"": ["--bases", "--embedding"], "full": ["--full", "--window", "128"]}


class Drawn(NamedTuple):
    """Substitutions to be told apart: first n differences, then n random ones, each like its partner.

    Attributes:
      sites: 2n of the first genome.
      alternative: uint8 [2n], codes of what they change to.
    """

    sites: Sites
    alternative: np.ndarray

    @property
    def is_difference(self) -> np.ndarray:
        """bool [2n]."""
        return np.arange(len(self.alternative)) < len(self.alternative) // 2

    @property
    def names(self) -> np.ndarray:
        """Of each its pair, behind a letter that tells which of the two it is: text [2n]."""
        return np.array([f"{kind}{pair}" for kind in "dr" for pair in range(len(self.alternative) // 2)])

    @property
    def blocks(self) -> np.ndarray:
        """int64 [2n], which stretch of 10,000 bases each lies in."""
        stretch = np.stack([self.sites.contig, self.sites.position // BLOCK])
        return np.unique(stretch, axis=1, return_inverse=True)[1]


def main() -> None:
    """Draws, scores, and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cerevisiae", type=Path, required=True)
    parser.add_argument("--paradoxus", type=Path, required=True)
    parser.add_argument("--training", nargs="+", type=Path, required=True, help="genomes of the k-mer models")
    parser.add_argument("--held-out", nargs="+", required=True)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--full-pairs", type=int, default=500, help="that are scored with --full too")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    first = read_genome(arguments.cerevisiae)
    sites = comparable_sites(first, read_genome(arguments.paradoxus), arguments.held_out)
    differences, others = (numbers[: arguments.pairs] for numbers in matched_pairs(sites, SEED))
    drawn = Drawn(sites.take(np.r_[differences, others]), np.tile(sites.other[differences], 2))
    scores = {**command_scores(arguments, first, drawn), **markov_scores(arguments, first, drawn)}
    # A and G, C and T differ in the upper bit alone.
    scores["transition"] = ((drawn.sites.context[:, 1] ^ drawn.alternative) == 2).astype(np.float64)
    result = {
        "genomes": [arguments.cerevisiae.name, arguments.paradoxus.name],
        "chromosomes": arguments.held_out,
        "models": {name: describe_model(folder) for name, folder in models_of(arguments).items()},
        "options": COMMANDS,
        "comparable_sites": len(sites.other),
        "differences": int((sites.other != sites.context[:, 1]).sum()),
        "pairs": len(differences),
        "blocks": len(np.unique(drawn.blocks)),
        "auroc": evaluate(scores, drawn, f"{next(iter(models_of(arguments)))} score"),
        "machine": describe_machine("jax", "numpy", "pysam"),
    }
    print(json.dumps(result, indent=1))
    with atomic_file(arguments.output, "w") as file:
        file.write(json.dumps(result, indent=1) + "\n")


def models_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The folders of the models by name."""
    return {name: folder for name, _, folder in (word.partition("=") for word in arguments.models)}


def describe_model(folder: str) -> dict[str, int]:
    """How large a model is."""
    architecture = read_description(folder).architecture
    return {
        "parameters": count_parameters(architecture),
        "layers": architecture.num_hidden_layers,
        "tokens": architecture.vocab_size,
    }


def command_scores(arguments: argparse.Namespace, genome: Genome, drawn: Drawn) -> dict[str, np.ndarray]:
    """What `dnabert2 variants` says, by model and field: float64 [2n], NaN where it was not asked."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    fasta = arguments.work / "genome.fa"
    if not fasta.exists():
        with atomic_file(fasta) as file:
            file.write(gzip.decompress(arguments.cerevisiae.read_bytes()))
    total = len(drawn.alternative)
    wanted = {"": arguments.pairs, "full": arguments.full_pairs}
    scores: dict[str, np.ndarray] = defaultdict(lambda: np.full(total, np.nan))
    for start in range(0, total // 2, PART):
        for kind, words in COMMANDS.items():
            pairs = np.arange(start, min(start + PART, total // 2, wanted[kind]))
            if not len(pairs):
                continue
            rows = np.r_[pairs, pairs + total // 2]
            for name, model in models_of(arguments).items():
                table = arguments.work / "-".join(filter(None, [name, kind, f"{start}.parquet"]))
                if not table.exists():
                    vcf = table.with_suffix(".vcf")
                    write_vcf(vcf, genome, drawn, rows)
                    command = ["variants", "-I", vcf, "-O", table, "-R", fasta, "--model", model, *words]
                    subprocess.run([sys.executable, "-m", "dnabert2_jax", *map(str, command)], check=True)
                for field, values in numbers_of(table, drawn.names[rows], kind).items():
                    scores[f"{name} {field}"][rows] = values
    return scores


def write_vcf(path: Path, genome: Genome, drawn: Drawn, rows: np.ndarray) -> None:
    """Writes some of the substitutions, in the order of the genome."""
    sites, names = drawn.sites, drawn.names
    with atomic_file(path, "w") as file:
        file.write("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for row in rows[np.lexsort([sites.position[rows], sites.contig[rows]])]:
            alleles = f"{LETTERS[sites.context[row, 1]]}\t{LETTERS[drawn.alternative[row]]}"
            place = f"{genome.names[sites.contig[row]]}\t{sites.position[row] + 1}\t{names[row]}"
            file.write(f"{place}\t{alleles}\t.\t.\t.\n")


def numbers_of(table: Path, names: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Fields of a table in the order of `names`; all are higher where the alternative is more usual."""
    found = parquet.read_table(table).to_pandas().set_index("id").loc[names]
    assert found["reason"].isna().all(), "a substitution was not scored"
    if kind:
        return {kind: found["score"].to_numpy()}
    log_p = np.log(np.maximum(found[[f"p_{base}" for base in LETTERS]].to_numpy(), 1e-12))
    alternative, reference = (
        log_p[np.arange(len(names)), [LETTERS.index(base) for base in found[allele]]]
        for allele in ("alt", "ref")
    )
    return {
        "score": found["score"].to_numpy(),
        "difference": found["difference"].to_numpy(),
        "base log-ratio": alternative - reference,
        "-distance": -found["distance"].to_numpy(),
    }


def markov_scores(arguments: argparse.Namespace, genome: Genome, drawn: Drawn) -> dict[str, np.ndarray]:
    """log p of the alternative window minus that of the reference, mean of both strands, by order."""
    order = max(ORDERS)
    training = [read_genome(path) for path in arguments.training]
    chain = MarkovChain(map(partial(without, arguments.held_out), training), order)
    places = genome.starts[drawn.sites.contig] + drawn.sites.position
    scores = {}
    for least in ORDERS:
        # The base itself and those that it is a context of.
        reference = genome.codes[places[:, None] + np.arange(-least, least + 1)]
        alternative = reference.copy()
        alternative[:, least] = drawn.alternative
        strands = [
            chain.log_likelihood(turn(alternative), least) - chain.log_likelihood(turn(reference), least)
            for turn in (np.asarray, lambda windows: complement_codes(windows[:, ::-1]))
        ]
        scores[f"Markov chain of order {least}"] = np.mean(strands, axis=0)
    return scores


def without(names: Sequence[str], genome: Genome) -> np.ndarray:
    """The codes of all other contigs."""
    ends = [*genome.starts[1:], len(genome.codes)]
    contigs = zip(genome.names, genome.starts, ends, strict=True)
    return np.concatenate([genome.codes[start:end] for name, start, end in contigs if name not in names])


def evaluate(scores: dict[str, np.ndarray], drawn: Drawn, mine: str) -> dict[str, dict]:
    """AUROC of each score with its interval, and how far `mine` is ahead of it on the same substitutions."""
    found: dict[str, dict] = {}
    for name, values in scores.items():
        rows = np.flatnonzero(~np.isnan(values))
        is_difference = drawn.is_difference[rows]
        blocks = np.unique(drawn.blocks[rows], return_inverse=True)[1]
        drawn_blocks = np.random.default_rng(SEED).multinomial(
            blocks.max() + 1, np.full(blocks.max() + 1, 1 / (blocks.max() + 1)), RESAMPLES
        )
        weights = drawn_blocks[:, blocks]
        resampled = auroc(values[rows], is_difference, weights)
        ahead = auroc(scores[mine][rows], is_difference, weights) - resampled
        once = np.ones((1, len(rows)), np.int64)
        found[name] = {
            "pairs": len(rows) // 2,
            "auroc": round(float(auroc(values[rows], is_difference, once)[0]), 4),
            "interval_95": [round(edge, 4) for edge in interval(resampled)],
            "means": [
                round(float(values[rows][chosen].mean()), 4) for chosen in (is_difference, ~is_difference)
            ],
        }
        if name != mine:
            found[name]["ahead_of_it_95"] = [round(edge, 4) for edge in interval(ahead)]
    return found


def auroc(values: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How often a positive is above a negative, ties counting half, if each counted so often: float64 [r].

    Args:
      values: [n].
      is_positive: bool [n].
      weights: int [r, n].
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    positive, negative = (
        np.add.reduceat(np.where(chosen, weights, 0)[:, order], starts, axis=1)
        for chosen in (is_positive, ~is_positive)
    )
    below = np.cumsum(negative, axis=1) - negative / 2
    return (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


if __name__ == "__main__":
    main()
