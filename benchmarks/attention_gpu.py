"""The attention op on one GPU: its numbers against float64 first, then its speed against everything else.

    python benchmarks/attention_gpu.py --output benchmarks/results/attention_gpu.json \\
        [--torch-python PYTHON_WITH_TORCH]

Twelve heads of width 64 in bfloat16, one segment. Ours are timed from the packed projection, as the model
calls them, with and without skipping of blocks, and from q, k and v apart, as all others are. A time is the
median over rounds of many calls in a row, divided by their number: launches overlap what runs, so that it is
the device's time. FLOPs are those of the dense op, 4·B·H·S²·D forward and 3.5 times that with the backward
pass. The share of the roofline is that of the floor which matrix units and memory set (790 TFLOP/s and
4.3 TB/s, measured on an H200), for cards that it is known of. What cannot run is listed with the reason.
`--smoke` runs all of it once on tiny shapes, on any machine.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import describe_machine

from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import alibi_attention, alibi_attention_qkv

SHAPES = ((512, 128), (4096, 128), (64, 1024), (16, 2048), (4, 8192), (1, 32768))
HEADS, WIDTH = 12, 64
BODIES = ("pallas_triton", "xla", "blockwise")
# FLOP/s of bfloat16 products and bytes/s, measured.
ROOFLINES = {"NVIDIA H200": (790e12, 4.3e12)}

SMOKE_SHAPES = ((2, 16), (1, 160))
SMOKE_HEADS, SMOKE_WIDTH = 2, 32


def main() -> None:
    """Checks, measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--torch-python", help="a Python that has PyTorch, for its side of the comparison")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    # JAX would else take most of the memory for itself, and PyTorch is measured while this process lives.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = jax.devices()[0]
    if device.platform != "gpu" and not arguments.smoke:
        raise SystemExit(f"this measures GPUs, and JAX sees {device.device_kind}: use --smoke to try it out")
    rounds = 1 if arguments.smoke else arguments.rounds
    result = {
        "environment": describe_machine("jax", "jaxlib"),
        "device": device.device_kind,
        "smoke": arguments.smoke,
        "pytorch": measure_pytorch(arguments.torch_python, arguments.smoke, rounds),
        "numerics": check_numerics(arguments.smoke),
    }
    failed = [name for name, errors in result["numerics"].items() if not errors.get("passed")]
    print(f"numbers wrong or not to be had: {', '.join(failed) or 'none'}", flush=True)
    result["timings"] = measure_all(arguments.smoke, rounds, failed)
    text = json.dumps(result, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text, end="")


def check_numerics(smoke: bool) -> dict[str, dict]:
    """Errors of each body against the dense one in float64, relative to the largest number of each result."""
    heads, width = (SMOKE_HEADS, SMOKE_WIDTH) if smoke else (HEADS, WIDTH)
    results = {}
    for name in BODIES:
        for dtype, allowed in (("bfloat16", 2.0**-6), ("float32", 2.0**-16)):
            for length in (100, 160) if smoke else (100, 128, 1000, 4096):
                key = f"{name} {dtype} S{length}"
                errors = attempt(partial(largest_errors, name, dtype, length, heads, width, smoke))
                if isinstance(errors, dict):
                    errors["passed"] = bool(max(errors.values()) <= allowed)
                    errors["allowed"] = allowed
                else:
                    errors = {"problem": errors}
                results[key] = errors
                print(key, errors, flush=True)
    return results


def largest_errors(
    name: str, dtype: str, length: int, heads: int, width: int, smoke: bool
) -> dict[str, float]:
    """Of the result and of three gradients, with two packed sequences and padding in a row."""
    rng = np.random.default_rng(time.time_ns())
    shape = (2, length, heads, width)
    given = [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(4)]
    positions = np.arange(length)
    rows = [1 + 2 * positions // length, np.where(positions < length - 7, 1, 0)]
    segments = jnp.asarray(np.stack(rows), jnp.int32)

    def loss(q, k, v, dout, implementation):
        out = alibi_attention(
            q, k, v, jnp.asarray(alibi_slopes(heads)), segment_ids=segments, implementation=implementation,
            interpret=smoke and implementation.startswith("pallas"),
        )  # fmt: skip
        return (out.astype(jnp.float32 if out.dtype == jnp.bfloat16 else out.dtype) * dout).sum(), out

    def run(implementation, arrays):
        gradients = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
        (dq, dk, dv), out = jax.jit(gradients, static_argnums=4)(*arrays, implementation)
        return {"out": out, "dq": dq, "dk": dk, "dv": dv}

    ours = {key: np.asarray(array, np.float64) for key, array in run(name, given).items()}
    with jax.enable_x64(True):
        exact = run("xla", [jnp.asarray(np.asarray(array, np.float64)) for array in given])
        exact = {key: np.asarray(array) for key, array in exact.items()}
    return {key: float(np.abs(ours[key] - exact[key]).max() / np.abs(exact[key]).max()) for key in exact}


def measure_all(smoke: bool, rounds: int, failed: list[str]) -> dict[str, dict]:
    """Forward, and forward with backward, of each contender at each shape."""
    heads, width = (SMOKE_HEADS, SMOKE_WIDTH) if smoke else (HEADS, WIDTH)
    results = {}
    for batch, length in SMOKE_SHAPES if smoke else SHAPES:
        rng = np.random.default_rng(0)
        normal = rng.standard_normal((batch, length, 3 * heads * width), np.float32)
        qkv = jnp.asarray(normal, jnp.bfloat16)
        apart = tuple(jnp.moveaxis(qkv.reshape(batch, length, 3, heads, width), 2, 0))
        of_shape = {}
        for name, (function, inputs) in contenders(smoke, heads, length, qkv, apart).items():
            body = name.split(",")[0]
            if any(key.startswith(f"{body} bfloat16") for key in failed):
                of_shape[name] = "not timed: its numbers are wrong"
                continue
            of_shape[name] = attempt(partial(measure, function, inputs, rounds, smoke))
            if isinstance(of_shape[name], dict):
                of_shape[name] = with_rates(of_shape[name], batch, length, heads, width)
            print(f"B{batch} S{length} {name}: {of_shape[name]}", flush=True)
        results[f"B{batch} S{length}"] = of_shape
    return results


def contenders(smoke: bool, heads: int, length: int, qkv, apart) -> dict[str, tuple[Callable, tuple]]:
    """Functions from inputs to the attended values, by name; a name begins with the body's."""
    slopes = jnp.asarray(alibi_slopes(heads))

    def packed(body, skip):
        interpret = smoke and body.startswith("pallas")
        return lambda qkv: alibi_attention_qkv(
            qkv, slopes, implementation=body, skip=skip, interpret=interpret
        )

    def separate(body):
        interpret = smoke and body.startswith("pallas")
        return lambda q, k, v: alibi_attention(q, k, v, slopes, implementation=body, interpret=interpret)

    def of_jax(q, k, v, bias=None, implementation="cudnn"):
        return jax.nn.dot_product_attention(q, k, v, bias=bias, implementation=implementation)

    def of_jax_with_bias(q, k, v):
        return of_jax(q, k, v, bias_of(slopes, length))

    def of_tokamax(q, k, v):
        import tokamax

        return tokamax.dot_product_attention(q, k, v)

    def of_tokamax_with_bias(q, k, v):
        import tokamax

        return tokamax.dot_product_attention(q, k, v, bias=bias_of(slopes, length))

    ours = {f"{body}, packed": (packed(body, True), (qkv,)) for body in BODIES}
    dense = {f"{body}, packed, all blocks": (packed(body, False), (qkv,)) for body in BODIES if body != "xla"}
    others = {
        "jax.nn cudnn, no bias": of_jax,
        "jax.nn cudnn, bias": of_jax_with_bias,
        "tokamax, no bias": of_tokamax,
        "tokamax, bias": of_tokamax_with_bias,
    }
    in_parts = {"pallas_triton, apart": (separate("pallas_triton"), apart)}
    return ours | dense | in_parts | {name: (function, apart) for name, function in others.items()}


def bias_of(slopes, length: int):
    """The ALiBi bias as a tensor [1, H, S, S], which all but ours need."""
    position = jnp.arange(length)
    distance = jnp.abs(position[:, None] - position[None, :])
    return (-slopes[:, None, None] * distance).astype(jnp.bfloat16)[None]


def measure(function: Callable, inputs: tuple, rounds: int, smoke: bool) -> dict[str, float]:
    """Microseconds of a forward pass, and of one with its backward pass."""
    out = jax.eval_shape(function, *inputs)
    dout = jnp.ones(out.shape, out.dtype)

    def both(dout, *inputs):
        out, pull = jax.vjp(function, *inputs)
        return out, pull(dout)

    return {
        "forward_us": microseconds(jax.jit(function), inputs, rounds, smoke),
        "both_us": microseconds(jax.jit(both), (dout, *inputs), rounds, smoke),
    }


def microseconds(compiled: Callable, inputs: tuple, rounds: int, smoke: bool) -> float:
    """Median over rounds of calls that keep the device busy for a tenth of a second."""
    jax.block_until_ready(compiled(*inputs))
    start = time.perf_counter()
    jax.block_until_ready(compiled(*inputs))
    calls = 1 if smoke else max(3, round(0.1 / (time.perf_counter() - start)))
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        results = [compiled(*inputs) for _ in range(calls)][-1]
        jax.block_until_ready(results)
        taken.append((time.perf_counter() - start) / calls)
    return round(float(np.median(taken)) * 1e6, 1)


def with_rates(times: dict[str, float], batch: int, length: int, heads: int, width: int) -> dict[str, float]:
    """Adds TFLOP/s of the dense op and the share of the roofline."""
    flops = 4 * batch * heads * length**2 * width
    tensor = 2 * batch * length * heads * width
    roofline = ROOFLINES.get(jax.devices()[0].device_kind)
    for name, work, tensors in (("forward", flops, 4), ("both", 3.5 * flops, 11)):
        seconds = times[f"{name}_us"] * 1e-6
        times[f"{name}_tflops"] = round(work / seconds / 1e12, 1)
        if roofline:
            floor = max(work / roofline[0], tensors * tensor / roofline[1])
            times[f"{name}_roofline"] = round(floor / seconds, 3)
    return times


def measure_pytorch(python: str | None, smoke: bool, rounds: int) -> dict | str:
    """The same measurements of PyTorch's attentions, in an environment that has it."""
    if python is None:
        return "missing: no --torch-python was given"
    script = Path(__file__).with_name("attention_gpu_torch.py")
    command = [python, str(script), "--rounds", str(rounds), *(["--smoke"] if smoke else [])]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        return f"missing: {script.name} ended with status {run.returncode}"
    return json.loads(run.stdout.splitlines()[-1])


def attempt(function: Callable) -> dict | str:
    """The result, or why there is none: contenders fail in ways of their own, and are listed all the same."""
    try:
        return function()
    except Exception as problem:
        return (
            f"missing: {type(problem).__name__}: {str(problem).splitlines()[0][:200] if str(problem) else ''}"
        )


if __name__ == "__main__":
    main()
