"""How close building a corpus comes to bare tokenisation.

    python benchmarks/corpus_build.py --fasta GENOMES/*.gz --tokenizer TOKENIZER \\
        --output benchmarks/results/corpus_build.json

Two figures. The build against SentencePiece alone, on the same strands in the same pieces with the same
threads on the same cores, in turns in one run: the one reads, hashes, cuts, tokenises, writes and hashes all
files, for the other the pieces lie in memory. And reading alone, on one core.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from machine import describe_machine

from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.genome.fasta import acgt_stretches, read_chunks
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.memory import return_freed_memory
from dnabert2_jax.tokenizer.released import sentencepiece_model
from dnabert2_jax.tokenizer.tokenizer import GENOME_PIECE_BASES, Tokenizer


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")

    result: dict = {"files": [path.name for path in arguments.fasta], "speed": []}
    for threads in arguments.threads:
        with fresh.Pool(1) as pool:
            row = pool.apply(compare, (arguments.fasta, arguments.tokenizer, threads, arguments.rounds))
        result["speed"].append(row)
        print(json.dumps(row), flush=True)
    result["reading"] = read_alone(arguments.fasta, arguments.rounds)
    print(json.dumps(result["reading"]))
    if arguments.output:
        result["machine"] = describe_machine("numpy", "sentencepiece", "array_record", "isal")
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def compare(files: list[Path], tokenizer_folder: Path, threads: int, rounds: int) -> dict:
    """Medians of bases per second, of the bare encoder and of a build, and of the ratio of the two.

    On a machine that others use, too, the ratio of processor times says more than that of times.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    tokenizer = Tokenizer.load(tokenizer_folder)
    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(tokenizer.tokens))
    pieces = [
        strand[start : start + GENOME_PIECE_BASES].tobytes()
        for path in files
        for stretch in acgt_stretches(read_chunks(path), length=36_000, minimum=50)
        for strand in (stretch.bases, reverse_complement(stretch.bases))
        for start in range(0, len(strand), GENOME_PIECE_BASES)
    ]
    bases = sum(map(len, pieces)) // 2
    bare, build = [], []
    for _ in range(rounds):
        bare.append(seconds(lambda: processor.encode(pieces, out_type="numpy", num_threads=threads)))
        build.append(seconds(lambda: build_once(files, tokenizer_folder, threads)))
    ratios = [
        [one / other for one, other in zip(*times, strict=True)] for times in zip(bare, build, strict=True)
    ]
    return {
        "threads": threads,
        "bases": bases,
        "bare_bases_per_second": round(bases / statistics.median(wall for wall, _ in bare)),
        "build_bases_per_second": round(bases / statistics.median(wall for wall, _ in build)),
        "ratio": round(statistics.median(wall for wall, _ in ratios), 3),
        "ratios": [round(wall, 3) for wall, _ in ratios],
        "ratio_of_processor_time": round(statistics.median(processor for _, processor in ratios), 3),
        "cores_given": [round(processor / wall, 2) for wall, processor in bare + build],
    }


def build_once(files: list[Path], tokenizer_folder: Path, workers: int) -> None:
    """Builds a corpus and throws it away."""
    return_freed_memory()  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        inputs = [(path.name.split(".")[0], path) for path in files]
        build_corpus(inputs, tokenizer_folder, Path(folder) / "corpus", workers=workers)


def read_alone(files: list[Path], rounds: int) -> dict:
    """Medians of bases per second of reading and cutting, and of Python's own gzip on the same files."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    bases = sum(chunk.bases.size for path in files for chunk in read_chunks(path))

    def every(read: Callable[[Path], object]) -> float:
        def once() -> None:
            for path in files:
                read(path)

        return bases / statistics.median(seconds(once)[0] for _ in range(rounds))

    return {
        "bases": bases,
        "read_bases_per_second": round(every(lambda path: sum(1 for _ in read_chunks(path)))),
        "read_and_cut_bases_per_second": round(
            every(lambda path: sum(1 for _ in acgt_stretches(read_chunks(path), length=36_000, minimum=50)))
        ),
        "python_gzip_bases_per_second": round(every(lambda path: len(gzip.open(path).read()))),
    }


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """How long a call takes, and how much processor time."""
    start, processor_start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - processor_start


if __name__ == "__main__":
    main()
