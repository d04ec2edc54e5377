"""What reading, tokenising, padding, compiling and writing cost beside the model, from FASTA to Parquet.

    taskset -c 0,1 python benchmarks/embedding_stream.py --output benchmarks/results/embedding_stream.json

The `small` model with random weights embeds random sequences of 70 to 1,000 bases, uniformly drawn, as
`dnabert2 embed` does, in one process and from its first compilation on. Beside it, the bare compiled model on
full batches of the same shapes: the time that the same tokens would take if no batch had padding and all else
were free. It is measured between blocks of the stream, a few shapes at a time, so that a machine that has now
more and now less other work slows both down; the clock of the stream stands still meanwhile. (The thread that
reads ahead does not: it may tokenise up to 16 of some 146 batches of a block in that time, at a cost that is
a fiftieth of the whole.) Each number of sequences has a process of its own, and so has its memory.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from corpus_memory import resident_megabytes
from flax import nnx
from machine import describe_machine
from pyarrow import parquet

from dnabert2_jax.config import load_settings
from dnabert2_jax.genome.fasta import write_fasta
from dnabert2_jax.genome.simulate import simulate_genomes
from dnabert2_jax.inference.answers import Running
from dnabert2_jax.inference.batching import BatchPlanner
from dnabert2_jax.inference.engine import Plan
from dnabert2_jax.inference.jobs import Files, embed_file
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import merge, split
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.training import train_from_fasta

SHORTEST, LONGEST = 70, 1_000
SHUFFLED = 10_000
SAMPLE_SECONDS = 0.1
SETTLE_SECONDS, SHAPES_PER_PAUSE = 0.5, 3


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", nargs="+", type=int, default=[10_000, 50_000, 100_000])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, max(arguments.sequences))
        rows = []
        for count in arguments.sequences:
            with fresh.Pool(1) as pool:
                rows.append(pool.apply(measure, (folder, count, arguments.dtype)))
            print(json.dumps(rows[-1]), flush=True)
        with fresh.Pool(1) as pool:
            difference = pool.apply(compare_shuffled, (folder, min(SHUFFLED, max(arguments.sequences))))
        result = {
            "bases": [SHORTEST, LONGEST],
            "dtype": arguments.dtype,
            "rows": rows,
            "shuffled_largest_difference_float32": difference,
        }
        print(json.dumps(result["shuffled_largest_difference_float32"]))
    if arguments.output:
        result["machine"] = describe_machine("jax", "numpy", "sentencepiece", "pyarrow")
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def prepare(folder: Path, count: int) -> None:
    """Trains a tokenizer of 512 tokens, and draws the sequences."""
    (genome,) = simulate_genomes(1, 1_000_000, 0)
    write_fasta(folder / "genome.fa", genome.contigs)
    tokenizer, _ = train_from_fasta([folder / "genome.fa"], 512, sample_bases=1_000_000, seed=0)
    tokenizer.save(folder / "tokenizer")
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", np.uint8)
    with open(folder / "all.fa", "w") as file:
        for number in range(count):
            bases = letters[rng.integers(0, 4, rng.integers(SHORTEST, LONGEST + 1))]
            file.write(f">s{number}\n{bases.tobytes().decode()}\n")


def read_all(folder: Path, count: int) -> list[tuple[str, str]]:
    """The first sequences, with their names."""
    with open(folder / "all.fa") as file:
        lines = [next(file).strip() for _ in range(2 * count)]
    return [(name[1:], sequence) for name, sequence in zip(lines[::2], lines[1::2], strict=True)]


def make_model(folder: Path, dtype) -> Pretrained:
    """The `small` model."""
    description = ModelDescription(load_settings(PretrainSettings, "small", []).model)
    _, parameters = split(description.build(nnx.Rngs(0)))
    return Pretrained(description, parameters, Tokenizer.load(folder / "tokenizer"), dtype)


def measure(folder: Path, count: int, dtype: str) -> dict:
    """Embeds the first sequences; the bare model before and after."""
    model = make_model(folder, dtype)
    sequences = read_all(folder, count)
    source = folder / f"{count}.fa"
    source.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences))
    lengths = np.array([len(model.tokenizer.encode(sequence)) for _, sequence in sequences])
    del sequences
    shapes, padded = batch_shapes(lengths)

    bare = Bare(model, list(shapes))
    start_memory = resident_megabytes()
    samples, done = [], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            samples.append(resident_megabytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    paused = 0.0

    def after_block(_: int) -> None:
        nonlocal paused
        pause = time.perf_counter()
        time.sleep(SETTLE_SECONDS)
        bare.measure(SHAPES_PER_PAUSE)
        paused += time.perf_counter() - pause

    start = time.perf_counter()
    embed_file(model, Files(source, folder / f"{count}.parquet"), "mean", Running(), after_block)
    seconds = time.perf_counter() - start - paused
    done.set()
    sampler.join()
    bare_total = sum(bare.seconds(shape) * tokens / (shape[0] * shape[1]) for shape, tokens in shapes.items())
    tokens = int(lengths.sum())
    late = samples[len(samples) // 2 :]
    return {
        "sequences": count,
        "tokens": tokens,
        "shapes": len(shapes),
        "padding": round(1 - tokens / padded, 4),
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "bare_tokens_per_second": round(tokens / bare_total),
        "ratio": round(bare_total / seconds, 3),
        "memory_before_mb": round(start_memory),
        "memory_second_half_median_mb": round(float(np.median(late))),
        "memory_highest_mb": round(max(samples)),
        "memory_process_highest_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def batch_shapes(lengths: np.ndarray) -> tuple[dict[tuple[int, int], int], int]:
    """Real tokens by shape of batch, and the tokens of all batches with their padding."""
    plan = Plan()
    planner = BatchPlanner(plan.batch_size)
    tokens: Counter[tuple[int, int]] = Counter()
    padded = 0
    for start in range(0, len(lengths), plan.block_sequences):
        block = lengths[start : start + plan.block_sequences]
        for places, shape in planner.plan(block):
            tokens[shape] += int(block[places].sum())
            padded += shape[0] * shape[1]
    return dict(tokens), padded


class Bare:
    """The compiled model on full batches: inputs on the device, results left there."""

    def __init__(self, model: Pretrained, shapes: list[tuple[int, int]]):
        graph, _ = model.description.abstract()

        def embed(parameters, input_ids, attention_mask):
            hidden = merge(graph, parameters).encoder(input_ids, attention_mask, dtype=jnp.dtype(model.dtype))
            return hidden.astype(jnp.float32).mean(axis=1)

        self._parameters = model.parameters
        self._inputs = {
            shape: (jnp.full(shape, 7, jnp.int32), jnp.ones(shape, jnp.int32)) for shape in shapes
        }
        self._compiled = {
            shape: jax.jit(embed).lower(model.parameters, *inputs).compile()
            for shape, inputs in self._inputs.items()
        }
        self._times: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
        self._turns = itertools.cycle(shapes)
        self.measure(len(shapes))

    def measure(self, shapes: int) -> None:
        """Times the next few shapes, each thrice after a run that is not timed."""
        for shape in itertools.islice(self._turns, shapes):
            for repetition in range(4):
                start = time.perf_counter()
                self._compiled[shape](self._parameters, *self._inputs[shape]).block_until_ready()
                if repetition:
                    self._times[shape].append(time.perf_counter() - start)

    def seconds(self, shape: tuple[int, int]) -> float:
        """What a batch takes."""
        return float(np.mean(self._times[shape]))


def compare_shuffled(folder: Path, count: int) -> float:
    """The largest difference of any number of any vector when the sequences come in another order."""
    model = make_model(folder, "float32")
    sequences = read_all(folder, count)
    order = np.random.default_rng(1).permutation(count)
    for name, chosen in (("straight", range(count)), ("shuffled", order)):
        text = "".join(f">{sequences[place][0]}\n{sequences[place][1]}\n" for place in chosen)
        (folder / f"{name}.fa").write_text(text)
        files = Files(folder / f"{name}.fa", folder / f"{name}.parquet")
        embed_file(model, files, "mean", Running(), lambda _: None)
    straight, shuffled = (
        np.stack(parquet.read_table(folder / f"{name}.parquet").drop(["name"]).columns, axis=1)
        for name in ("straight", "shuffled")
    )
    return float(np.abs(straight[order] - shuffled).max())


if __name__ == "__main__":
    main()
