"""How many tokens per second the input pipeline alone gives, on two cores.

    python benchmarks/input_pipeline.py --fasta GENOMES/*.gz --tokenizer TOKENIZER \\
        --output benchmarks/results/input_pipeline.json

Batches of 4096 windows of 128 tokens of a corpus of all the files, through the prefetching that pre-training
uses, for each way in which species and strands can be drawn. The paper's training reads 0.2 million tokens
per second: 262 billion in 14 days.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from machine import describe_machine

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.data.windows import WindowSource, window_batches

BATCH, LENGTH = 4096, 128
CORES = 2
CHOICES = [
    {"species_weights": "proportional"},
    {"species_weights": "corpus"},
    {"species_weights": "corpus", "strand": "random"},
    {"species_weights": "corpus", "soft_mask": True},
    {"species_weights": "proportional", "windows": "first"},
]


def main() -> None:
    """Builds a corpus, reads it, and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result: dict = {"batch": BATCH, "length": LENGTH, "cores": CORES, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        inputs = [(path.name.split(".")[0], path) for path in arguments.fasta]
        build_corpus(inputs, arguments.tokenizer, Path(folder) / "corpus", workers=os.cpu_count() or 1)
        corpus = Corpus.open(Path(folder) / "corpus")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        for choices in CHOICES:
            rates = [measure(corpus, choices, arguments.batches) for _ in range(arguments.rounds)]
            row = {**choices, "tokens_per_second": round(statistics.median(rates))}
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
    if arguments.output:
        result["machine"] = describe_machine("numpy", "grain", "array_record")
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(corpus: Corpus, choices: dict, batches: int) -> float:
    """Tokens per second of some batches, counted from when the first one has come."""
    source = WindowSource(corpus, batch_size=BATCH, length=LENGTH, seed=0, steps=10**6, **choices)
    stream = window_batches(source)
    next(stream)
    start = time.perf_counter()
    for _ in itertools.islice(stream, batches):
        pass
    return batches * BATCH * LENGTH / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
