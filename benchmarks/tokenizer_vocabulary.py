"""What a larger vocabulary gives: BPE tokenizers of 2^8 … 2^15 tokens, learnt from genomes.

    python benchmarks/tokenizer_vocabulary.py --fasta GENOMES/*.gz \
        --output benchmarks/results/tokenizer_vocabulary.json

For each size, in a process of its own: seconds and peak memory of training, seconds from a tokenizer folder
to the first ids, and the mean token length over both strands of the very genomes (the paper's Figure 3).
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dnabert2_jax.genome.fasta import acgt_stretches, read_chunks
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.tokenizer.loading import load_tokenizer
from dnabert2_jax.tokenizer.tokenizer import GENOME_PIECE_BASES
from dnabert2_jax.tokenizer.training import train_from_fasta

SIZES = tuple(2**power for power in range(8, 16))


def main() -> None:
    """Measures all sizes and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--sample-bases", type=int, default=100_000_000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        for size in SIZES:
            folder = Path(parent) / str(size)
            with fresh.Pool(1) as pool:
                row = pool.apply(train, (arguments.fasta, size, arguments.sample_bases, folder))
            with fresh.Pool(1) as pool:
                row |= pool.apply(use, (arguments.fasta, folder))
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {
        "environment": {
            "python": platform.python_version(),
            "processor": processor(),
            "cores": multiprocessing.cpu_count(),
            "sentencepiece": version("sentencepiece"),
            "numpy": version("numpy"),
        },
        "files": [Path(file).name for file in arguments.fasta],
        "sizes": rows,
    }
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def processor() -> str:
    """The processor's name where the system tells it, otherwise its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def train(files: list[str], size: int, sample_bases: int, folder: Path) -> dict:
    """Learns a vocabulary of `size` tokens and saves it."""
    start = time.perf_counter()
    tokenizer, summary = train_from_fasta(files, size, sample_bases=sample_bases, seed=0)
    seconds = time.perf_counter() - start
    tokenizer.save(folder)
    return {
        "vocab_size": size,
        "used_bases": summary.used_bases,
        "training_seconds": round(seconds, 1),
        "training_peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "longest_token": int(tokenizer.token_lengths.max()),
        "sha256": tokenizer.sha256,
    }


def use(files: list[str], folder: Path) -> dict:
    """Loads the tokenizer of `folder` for the first time in its process and encodes the genomes."""
    start = time.perf_counter()
    tokenizer = load_tokenizer(folder)
    loaded = time.perf_counter()
    tokenizer.encode("ACGT")
    first_ids = time.perf_counter()
    bases = tokens = encoding_seconds = 0
    seen = np.zeros(tokenizer.vocab_size, np.bool_)
    for file in files:
        for stretch in acgt_stretches(read_chunks(file), length=GENOME_PIECE_BASES, minimum=1):
            for strand in (stretch.bases, reverse_complement(stretch.bases)):
                begin = time.perf_counter()
                ids = tokenizer.encode_bases(strand)
                encoding_seconds += time.perf_counter() - begin
                seen[ids] = True
                bases += len(strand)
                tokens += len(ids)
    return {
        "load_seconds": round(loaded - start, 3),
        "first_ids_seconds": round(first_ids - start, 3),
        "mean_token_length": round(bases / tokens, 4),
        "tokens_seen": int(seen.sum()),
        "encoding_mbases_per_second": round(bases / encoding_seconds / 1e6, 2),
    }


if __name__ == "__main__":
    main()
