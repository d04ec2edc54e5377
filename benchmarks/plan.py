"""How long `dnabert2 plan` takes and what it finds, for slices of TPUs and machines with GPUs.

    python benchmarks/plan.py --output benchmarks/results/plan.json

On two cores, one topology after the other, each in a process of its own, which is timed from its start to its
end. Needs libtpu and JAX's CUDA plugin. The published configuration, with the batch of 4096 that it is for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from machine import describe_machine

CORES = 2
CONFIG = "dnabert2_117m_paper"
TOPOLOGIES = ("v5p:4x4x4", "v5e:16x16", "v6e:16x16", "tpu7x:2x2x1", "h100:8", "h200:8")


def main() -> None:
    """Plans for all topologies and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--topologies", nargs="+", default=TOPOLOGIES, metavar="NAME")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    result = {
        "machine": describe_machine("jax", "jaxlib"),
        "compilers": {name: version(name) for name in ("libtpu", "jax-cuda13-plugin")},
        "cores_used": CORES,
        "config": CONFIG,
        "topologies": {},
    }
    for topology in arguments.topologies:
        result["topologies"][topology] = measure(topology)
        figures = result["topologies"][topology]
        print(topology, {name: figures[name] for name in figures if name != "plan"}, flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(topology: str) -> dict:
    """Time and memory of the command, and what it wrote."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        words = ["-m", "dnabert2_jax", "plan", CONFIG, "--topology", topology, "--output", str(output)]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"planning for {topology} ended with status {process.returncode}")
        plan = json.loads(output.read_text())
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "load_before": round(load, 2),
        "plan": plan,
    }


if __name__ == "__main__":
    main()
