"""What keeping freed memory saves a training step on a CPU (`host_memory.keep_freed_memory`).

    taskset --cpu-list 0,1 python benchmarks/freed_memory.py --output benchmarks/results/freed_memory.json

Steps of the 117M model with dropout, 32 windows of 128 tokens, in processes that keep freed memory and
processes that return it, in turns. Page faults and seconds of the system are those of one step.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from cpu_training import BATCH, LENGTH, TYPES, Steps, random_ids
from machine import describe_machine

from dnabert2_jax.host_memory import keep_freed_memory

STEPS = 5


def main() -> None:
    """Measures and writes the result; with --child, measures one process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        dtype, memory = arguments.child
        print(json.dumps(measure(dtype, keep=memory == "kept")))
        return
    result: dict = {"machine": describe_machine("jax", "jaxlib", "numpy"), "rounds": arguments.rounds}
    for dtype in TYPES:
        runs: dict[str, list[dict]] = {"returned": [], "kept": []}
        for _ in range(arguments.rounds):
            for memory, found in runs.items():
                command = [sys.executable, __file__, "--child", dtype, memory]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append(json.loads(output.splitlines()[-1]))
        medians = {
            memory: {name: statistics.median(run[name] for run in found) for name in found[0]}
            for memory, found in runs.items()
        }
        speeds = [[run["tokens_per_second"] for run in runs[memory]] for memory in ("kept", "returned")]
        ratio = statistics.median(kept / returned for kept, returned in zip(*speeds, strict=True))
        result[dtype] = medians | {"ratio": round(ratio, 2)}
        print(dtype, json.dumps(result[dtype], indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(dtype: str, *, keep: bool) -> dict[str, float]:
    """The medians of a few steps after two others."""
    assert not keep or keep_freed_memory("always")
    steps = Steps(dtype, random_ids())
    for _ in range(2):
        steps.take()
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = statistics.median(steps.take() for _ in range(STEPS))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "tokens_per_second": round(BATCH * LENGTH / seconds, 1),
        "page_faults": round((after.ru_minflt - before.ru_minflt) / STEPS),
        "system_seconds": round((after.ru_stime - before.ru_stime) / STEPS, 3),
        "peak_gigabytes": round(after.ru_maxrss * 1024 / 1e9, 2),
    }


if __name__ == "__main__":
    main()
