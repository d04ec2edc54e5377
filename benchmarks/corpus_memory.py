"""What memory building a corpus takes, from small genomes to large ones.

    python benchmarks/corpus_memory.py --fasta GENOMES/*.gz --tokenizer TOKENIZER \\
        --output benchmarks/results/corpus_memory.json

Resident memory of builds of 5 to 150 Mb, each in a process of its own, sampled all along.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
from pathlib import Path

from corpus_build import build_once
from machine import describe_machine

from dnabert2_jax.genome.fasta import read_chunks, write_fasta

SIZES = (5_000_000, 15_000_000, 50_000_000, 150_000_000)
SAMPLE_SECONDS = 0.05


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for bases in SIZES:
            genome = Path(folder) / f"{bases}.fa.gz"
            write_first_bases(arguments.fasta, bases, genome)
            with fresh.Pool(1) as pool:
                rows.append({"bases": bases, **pool.apply(measure_memory, (genome, arguments.tokenizer))})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.output:
        machine = describe_machine("numpy", "sentencepiece", "array_record", "isal")
        arguments.output.write_text(json.dumps({"memory": rows, "machine": machine}, indent=1) + "\n")


def measure_memory(genome: Path, tokenizer_folder: Path) -> dict:
    """Resident memory in MB before a build, and the median and the highest during its second half."""
    before = resident_megabytes()
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            samples.append(resident_megabytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    build_once([genome], tokenizer_folder, 2)
    done.set()
    sampler.join()
    late = samples[len(samples) // 2 :]
    return {
        "before_mb": round(before),
        "median_mb": round(statistics.median(late)),
        "highest_mb": round(max(samples)),
    }


def resident_megabytes() -> float:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_first_bases(files: list[Path], bases: int, target: Path) -> None:
    """Writes the first so many bases of the files, which are taken again where they do not suffice."""
    contigs, room, number = [], bases, 0
    while room:
        for path in files:
            for chunk in read_chunks(path):
                size = min(room, chunk.bases.size)
                if size:
                    contigs.append((f"c{number}", chunk.bases[:size], chunk.soft_mask[:size]))
                room, number = room - size, number + 1
    write_fasta(target, contigs)


if __name__ == "__main__":
    main()
