"""How many tokens 500 bases have: the figure that the cost table compares DNABERT-2 by.

    python benchmarks/cost_tokens.py --fasta GENOMES/*.gz \
        --tokenizer TOKENIZER/tokenizer.json --output benchmarks/results/cost_tokens.json

Of each genome up to 2,048 windows without unknown letters: the mean, and the longest in a batch of 8, 16 or
32, over 1,000 of these.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dnabert2_jax.evaluation.experiments.cost import BASES
from dnabert2_jax.genome.fasta import acgt_stretches, read_chunks
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import SequenceTokenizer

WINDOWS, BATCHES = 2048, 1000


def main() -> None:
    """Measures all genomes and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", nargs="+", required=True, type=Path, metavar="FILE")
    parser.add_argument("--tokenizer", required=True, metavar="DIR|FILE")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    rows = [measure(path, tokenizer) for path in sorted(arguments.fasta)]
    result = {
        "tokenizer": {"tokens": tokenizer.vocab_size, "sha256": tokenizer.sha256},
        "bases": BASES,
        "mean": round(float(np.mean([row["mean"] for row in rows])), 2),
        "genomes": rows,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def measure(path: Path, tokenizer: SequenceTokenizer) -> dict[str, Any]:
    """Tokens of windows, [CLS] and [SEP] counted."""
    rng = np.random.default_rng(0)
    windows = [w.bases.copy() for w in acgt_stretches(read_chunks(path), length=BASES, minimum=BASES)]
    chosen = rng.permutation(len(windows))[:WINDOWS]
    counts = np.array([2 + len(tokenizer.encode_bases(windows[place])) for place in chosen])
    longest = {
        f"longest of {size}": round(float(rng.choice(counts, (BATCHES, size)).max(axis=1).mean()), 1)
        for size in (8, 16, 32)
    }
    return {"file": path.name, "windows": len(counts), "mean": round(float(counts.mean()), 2), **longest}


if __name__ == "__main__":
    main()
