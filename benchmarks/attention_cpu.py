"""Time and memory of the attention op's bodies on a CPU, by the length of the row.

    taskset -c 0,1 python benchmarks/attention_cpu.py --output benchmarks/results/attention_cpu.json

One row, 12 heads of width 64, queries and keys of unit variance: dense, blockwise, and blockwise with nothing
left out. Times are the shortest of several rounds in which the bodies take turns: where others use a machine
too, only the shortest says something. Memory is the peak of a process of its own that takes one forward and
backward pass, less what it had before.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import alibi_attention
from dnabert2_jax.training.environment import describe_environment

HEADS, WIDTH = 12, 64
LENGTHS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BODIES = ("dense", "blockwise", "blockwise, nothing left out")
# Beyond, its scores take many gigabytes.
LONGEST_DENSE = 4096


def main() -> None:
    """Measures every length and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--memory-of", nargs=3, metavar=("BODY", "DTYPE", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        body, dtype, length = arguments.memory_of
        print(peak_of_this_process(body, dtype, int(length)))
        return
    rows = []
    for dtype in ("float32", "bfloat16"):
        for length in LENGTHS:
            if length <= arguments.longest:
                rows += (new := measure(dtype, length))
                print(*map(json.dumps, new), sep="\n", flush=True)
    result = {"environment": describe_environment(), "heads": HEADS, "head_width": WIDTH, "rows": rows}
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(dtype: str, length: int) -> list[dict]:
    """One row of the result for each body."""
    bodies = [body for body in BODIES if body != "dense" or length <= LONGEST_DENSE]
    batch = max(1, 1024 // length)
    inputs = make_inputs(dtype, batch, length)
    functions = {body: (forward_of(body), both_of(body)) for body in bodies}
    seconds = {body: ([], []) for body in bodies}
    rounds = 15 if length <= 1024 else 5 if length <= 4096 else 3 if length <= 8192 else 1
    for body in bodies:
        for function in functions[body]:
            jax.block_until_ready(function(*inputs))
    for _ in range(rounds):
        for body in bodies:
            for function, times in zip(functions[body], seconds[body], strict=True):
                start = time.perf_counter()
                jax.block_until_ready(function(*inputs))
                times.append(time.perf_counter() - start)
    return [
        {
            "dtype": dtype,
            "batch": batch,
            "length": length,
            "body": body,
            "forward_ms": round(1e3 * min(seconds[body][0]), 2),
            "forward_backward_ms": round(1e3 * min(seconds[body][1]), 2),
            "peak_mib": peak_of_another_process(body, dtype, length),
        }
        for body in bodies
    ]


def make_inputs(dtype: str, batch: int, length: int) -> list[jax.Array]:
    """q, k, v, a cotangent, and segments."""
    rng = np.random.default_rng(0)
    shape = (batch, length, HEADS, WIDTH)
    arrays = [jnp.asarray(rng.standard_normal(shape, np.float32), dtype) for _ in range(4)]
    return [*arrays, jnp.ones((batch, length), jnp.int32)]


def forward_of(body: str):
    """The op through a body, compiled."""
    name = "xla" if body == "dense" else "blockwise"

    def attend(q, k, v, _, segments):
        return alibi_attention(
            q, k, v, jnp.asarray(alibi_slopes(HEADS)), segment_ids=segments, implementation=name,
            skip=body == "blockwise",
        )  # fmt: skip

    return jax.jit(attend)


def both_of(body: str):
    """The result and its gradients, compiled."""
    attend = forward_of(body)

    def both(q, k, v, cotangent, segments):
        out, pull_back = jax.vjp(lambda q, k, v: attend(q, k, v, None, segments), q, k, v)
        return out, pull_back(cotangent)

    return jax.jit(both)


def peak_of_another_process(body: str, dtype: str, length: int) -> int:
    """MiB; a process's peak cannot be set back."""
    command = [sys.executable, __file__, "--memory-of", body, dtype, str(length)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_of_this_process(body: str, dtype: str, length: int) -> int:
    """MiB above what the inputs and the compiled program take."""
    inputs = make_inputs(dtype, 1, length)
    program = both_of(body).lower(*inputs).compile()
    # Compiling had a peak of its own: forgotten by the word of proc(5).
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    jax.block_until_ready(program(*inputs))
    return (resident("VmHWM") - before) // 1024


def resident(what: str) -> int:
    """KiB of memory that this process has, or had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
