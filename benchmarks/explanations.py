"""What backgrounds and phases are worth in explanations of a masked-language model.

    python benchmarks/explanations.py --model run/model --genome genome.fa --output results/explanations.json

At random places of the genome: the information of base probabilities against 1/4 and against token
frequencies; how well the base that is there is predicted by either; by how much one phase differs from three;
and how far from the ends of a window the tokens of a phase differ from those of the whole window.
"""

import argparse
import json

import numpy as np
from machine import describe_machine

from dnabert2_jax.files import atomic_file
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.base_probabilities import read_bases
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.unigram import genome_unigram
from dnabert2_jax.inference.views import DEFAULT_WINDOW, PHASES, Subject
from dnabert2_jax.reports.logos import information_heights
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer
from dnabert2_jax.tokenizer.spans import token_spans

_EXPLAINED = 120


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--genome", required=True)
    parser.add_argument("--contigs", nargs="+", help="only these, such as those held out from training")
    parser.add_argument("--places", type=int, default=40)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    model = from_pretrained(arguments.model)
    with IndexedFasta(arguments.genome) as fasta:
        log_unigram = genome_unigram(fasta, model.tokenizer)
        windows = random_windows(fasta, arguments.contigs or list(fasta.contigs), arguments.places)
    found = {"against 1/4": [], "against token frequencies": [], "of token frequencies against 1/4": []}
    surprise = {"model": [], "token frequencies": []}
    differences = []
    for window in windows:
        start = (len(window) - _EXPLAINED) // 2
        end = start + _EXPLAINED
        shown = Subject(window[:start], window[start:end], window[end:])
        bases = read_bases(model, shown, log_unigram=log_unigram)
        single = read_bases(model, shown, phases=1)
        assert bases.background is not None, "a unigram was given"
        found["against 1/4"].append(information_heights(bases.values).sum(axis=1))
        found["against token frequencies"].append(
            information_heights(bases.values, bases.background).sum(axis=1)
        )
        found["of token frequencies against 1/4"].append(information_heights(bases.background).sum(axis=1))
        there = np.arange(_EXPLAINED), ["ACGT".index(letter) for letter in shown.bases]
        surprise["model"].append(-np.log2(bases.values[there]))
        surprise["token frequencies"].append(-np.log2(bases.background[there]))
        differences.append(np.abs(single.values - bases.values))
    result = {
        "machine": describe_machine("jax", "numpy"),
        "model": {
            "parameters": sum(array.size for array in model.parameters.values()),
            "vocabulary": model.tokenizer.vocab_size,
        },
        "places": len(windows),
        "bases": _EXPLAINED * len(windows),
        "information_bits": {name: round(float(np.mean(values)), 4) for name, values in found.items()},
        "bits_per_base_that_is_there": {
            name: round(float(np.mean(values)), 4) for name, values in surprise.items()
        },
        f"one_phase_against_{PHASES}": {
            "mean_difference_in_probability": float(f"{np.mean(differences):.2g}"),
            "largest": float(f"{np.max(differences):.2g}"),
        },
        "tokens_of_phases": [
            {"phase": phase, **differing_cuts(model.tokenizer, windows, phase)} for phase in range(1, PHASES)
        ],
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        with atomic_file(arguments.output, "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")


def random_windows(fasta: IndexedFasta, contigs: list[str], count: int) -> list[str]:
    """Windows of A, C, G and T, each contig as often as its length says."""
    rng = np.random.default_rng(0)
    lengths = np.array([fasta.contigs[contig] for contig in contigs], float)
    windows: list[str] = []
    while len(windows) < count:
        contig = contigs[rng.choice(len(contigs), p=lengths / lengths.sum())]
        start = int(rng.integers(0, fasta.contigs[contig] - DEFAULT_WINDOW))
        window = fasta.fetch(contig, start, start + DEFAULT_WINDOW).upper()
        if set(window) <= set("ACGT"):
            windows.append(window)
    return windows


def differing_cuts(tokenizer: SequenceTokenizer, windows: list[str], phase: int) -> dict[str, float]:
    """How far from the nearest end the furthest boundary lies that only the window or only its phase has."""

    def cuts(text: str) -> np.ndarray:
        return token_spans(tokenizer, tokenizer.encode(text, special_tokens=False))[0]

    furthest = []
    for window in windows:
        differing = np.setxor1d(cuts(window), cuts(window[phase : len(window) - phase]) + phase)
        furthest.append(np.minimum(differing, len(window) - differing).max())
    return {
        "furthest_difference_bases_median": float(np.median(furthest)),
        "furthest_difference_bases_90_percent": float(np.quantile(furthest, 0.9)),
    }


if __name__ == "__main__":
    main()
