"""The whole pre-training step on one GPU, input included: speed, MFU, waiting, memory, and what takes time.

    python benchmarks/pretrain_gpu.py --output benchmarks/results/pretrain_gpu.json [--corpus CORPUS]

The published 117M model in bfloat16 with dropout, rows of 128 tokens, batches of several sizes, each in a
process of its own. Batches come from a corpus through the same pipeline, and go through the same step, as in
`dnabert2 pretrain`; without --corpus one is built of simulated genomes. Tokens are real ones. MFU is by
formula, against the card's peak in parallel/chips.py. After the timed steps a few more are traced: listed are
the five kernels that take the largest share of the device's time. `--smoke` runs all of it once with a tiny
model, on any machine.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from machine import describe_machine

BATCHES = (256, 512, 1024, 2048, 4096)
WARM_UP, TRACED = 5, 5
SMOKE_BATCHES = (8, 16)
SMOKE_MODEL = (
    *("--model.hidden_size=32", "--model.num_hidden_layers=2", "--model.num_attention_heads=2"),
    "--model.intermediate_size=64",
)
LARGEST = 5


def main() -> None:
    """Measures all batch sizes and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--batch", type=int, help="this one only, and its figures as JSON")
    arguments = parser.parse_args()
    if arguments.batch:
        print(json.dumps(measure(arguments.corpus, arguments.batch, arguments.steps, arguments.smoke)))
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or make_corpus(Path(folder), arguments.smoke)
        rows = []
        for batch in SMOKE_BATCHES if arguments.smoke else BATCHES:
            rows.append(in_process_of_its_own(corpus, batch, 3 if arguments.smoke else arguments.steps))
            print(json.dumps(rows[-1]), flush=True)
    text = json.dumps({"machine": describe_machine("jax", "jaxlib"), "batches": rows}, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text)


def make_corpus(folder: Path, smoke: bool) -> Path:
    """A corpus of simulated genomes, with a vocabulary that was learnt from them."""
    from dnabert2_jax.data.corpus_build import build_corpus
    from dnabert2_jax.genome.fasta import write_fasta
    from dnabert2_jax.genome.simulate import simulate_genomes
    from dnabert2_jax.tokenizer.training import train_from_fasta

    (genome,) = simulate_genomes(1, 60_000 if smoke else 20_000_000, 0)
    write_fasta(folder / "simulated.fa", genome.contigs)
    tokenizer, _ = train_from_fasta(
        [folder / "simulated.fa"], 64 if smoke else 4096, sample_bases=2_000_000, seed=0
    )
    tokenizer.save(folder / "tokenizer")
    build_corpus(
        [("simulated", folder / "simulated.fa")],
        folder / "tokenizer",
        folder / "corpus",
        workers=os.cpu_count() or 1,
    )
    return folder / "corpus"


def in_process_of_its_own(corpus: Path, batch: int, steps: int) -> dict[str, Any]:
    """A process remembers its peak of memory, and one that ran out of it is of no more use."""
    words = [*sys.argv[1:], "--batch", str(batch), "--steps", str(steps), "--corpus", str(corpus)]
    run = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        return {"batch": batch, "failed": f"exit status {run.returncode}; the reason is on stderr"}
    return json.loads(run.stdout.splitlines()[-1])


def measure(corpus_folder: Path, batch_size: int, steps: int, smoke: bool) -> dict[str, Any]:
    """Figures of one batch size."""
    import jax

    from dnabert2_jax.config import load_settings
    from dnabert2_jax.data.corpus import Corpus
    from dnabert2_jax.data.windows import WindowSource, window_batches
    from dnabert2_jax.parallel.mesh import make_mesh, split_tokens
    from dnabert2_jax.parallel.rows import global_batch, local_rows
    from dnabert2_jax.parallel.sharding import born
    from dnabert2_jax.settings import MeshSettings, PretrainSettings
    from dnabert2_jax.training.absent import attention_bodies
    from dnabert2_jax.training.clock import count_tokens, start_clock
    from dnabert2_jax.training.optimizer import make_optimizer
    from dnabert2_jax.training.pretrain_step import make_train_step
    from dnabert2_jax.training.state import initial_state
    from dnabert2_jax.training.step_profile import StepProfile

    device = jax.devices()[0]
    if device.platform != "gpu" and not smoke:
        raise SystemExit(f"this measures GPUs, and JAX sees {device.device_kind}: use --smoke to try it out")
    corpus = Corpus.open(corpus_folder)
    settings = load_settings(
        PretrainSettings,
        "dnabert2_117m_paper",
        [
            f"--training.batch_size={batch_size}",
            f"--model.vocab_size={corpus.tokenizer().vocab_size}",
            *(SMOKE_MODEL if smoke else ()),
        ],
    )
    length = settings.data.sequence_length
    mesh = make_mesh(MeshSettings(data=1))
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    state = born(lambda: initial_state(settings.model, optimizer, 0), mesh)
    train_step = make_train_step(settings, optimizer, mesh)
    sharding = split_tokens(mesh)
    rows = local_rows(sharding, (batch_size, length))
    source = WindowSource(corpus, batch_size=batch_size, length=length, seed=0, steps=10**6)
    batches = window_batches(source)
    clock = start_clock(settings, mesh.devices.flat)

    def run(first: int, last: int):
        nonlocal state
        for step in range(first, last + 1):
            with clock.spent("input"):
                batch = next(batches)
            profile.before(step)
            state, metrics = train_step(state, global_batch(batch, rows, sharding, batch_size))
            profile.after(step, metrics)
            clock.add(step, count_tokens(batch["segment_ids"]))
        jax.block_until_ready(metrics)

    with tempfile.TemporaryDirectory() as folder:
        timed = WARM_UP + steps
        profile = StepProfile(f"{timed + 1}:{timed + TRACED}", Path(folder))
        run(1, WARM_UP)
        clock.lap(WARM_UP)
        run(WARM_UP + 1, timed)
        speed = clock.lap(timed)
        with profile:
            run(timed + 1, timed + TRACED)
        largest = largest_items(Path(folder))
    del speed["time"]
    memory = device.memory_stats() or {}
    return {
        "batch": batch_size,
        "device": device.device_kind,
        "attention": next(body for body, verdict in attention_bodies(settings, mesh) if verdict == "runs"),
        "step_milliseconds": round(1000 * speed["seconds"] / steps, 3),
        **speed,
        "peak_memory_bytes": memory.get("peak_bytes_in_use"),
        "largest_items": largest,
    }


def largest_items(folder: Path) -> list[dict[str, Any]]:
    """The kernels that took longest, those whose names differ by a number taken together."""
    import jax

    (path,) = folder.rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    # A CPU's computations stand beside much else, in the lines of the threads that do them.
    on_device = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    lines = (
        [line for plane in on_device for line in plane.lines if line.name.startswith("Stream")]
        if on_device
        else [line for plane in planes for line in plane.lines if "XLA" in line.name]
    )
    taken: Counter[str] = Counter()
    for line in lines:
        for event in line.events:
            if "::" in event.name:
                continue  # A CPU's runtime, which waits for the others.
            taken[re.sub(r"[._]\d+", "", event.name)] += event.duration_ns
    total = sum(taken.values())
    return [
        {
            "name": name,
            "share": round(duration / total, 4),
            "milliseconds_per_step": round(duration / 1e6 / TRACED, 3),
        }
        for name, duration in taken.most_common(LARGEST)
    ]


if __name__ == "__main__":
    main()
