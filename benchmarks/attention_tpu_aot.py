"""What the Pallas TPU attention kernels cost, found out without a TPU.

    python benchmarks/attention_tpu_aot.py --output benchmarks/results/attention_tpu.json

libtpu compiles forward and backward for each generation and shape, and leaves each kernel's schedule behind:
bundles, of which a core issues one per cycle where nothing makes it wait. Counted is what repeats:

- short rows: the loop over the rows of a program; other bundles are run once for all its rows;
- long rows: the longest of the loops over blocks, per 128×128 scores of one head;
- the stock kernel (jax.experimental.pallas.ops.tpu.flash_attention), with ALiBi as an array [B, H, S, S] and
  blocks of 128: its program, of which there is one per tile, and per row the number of heads.

`moved_bytes` sums what the instructions of the compiled module read and write in main memory; `least_bytes`
is one reading of the inputs and one writing of the results. A model of speed, not a measurement of it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TOPOLOGIES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x4")
# kernel, batch, tokens, heads, width of a head, type
EVERYWHERE = (
    ("short", 512, 128, 12, 64, "bfloat16"),
    ("short", 4096, 128, 12, 64, "bfloat16"),
    ("long", 16, 2048, 12, 64, "bfloat16"),
    ("long", 4, 8192, 12, 64, "bfloat16"),
)
# Other shapes: types, widths, rows and heads that fill neither registers nor blocks, the longest rows.
ONCE = {
    "v5e:2x2": (
        ("stock", 512, 128, 12, 64, "bfloat16"),
        ("stock", 16, 2048, 12, 64, "bfloat16"),
        ("short", 512, 128, 12, 64, "float32"),
        ("short", 512, 256, 12, 64, "bfloat16"),
        ("short", 64, 100, 12, 64, "bfloat16"),
        ("short", 64, 129, 10, 32, "bfloat16"),
        ("short", 64, 7, 1, 64, "float32"),
        ("short", 64, 128, 6, 128, "bfloat16"),
        ("long", 4, 2048, 12, 64, "float32"),
        ("long", 4, 1000, 10, 32, "bfloat16"),
        ("long", 4, 2048, 6, 128, "bfloat16"),
    ),
    "v5p:2x2x1": (("long", 1, 16384, 12, 64, "bfloat16"),),
    "v6e:2x4": (("long", 1, 8192, 12, 64, "float32"),),
}
DIRECTIONS = ("forward", "backward")
TILE = 128


def main() -> None:
    """Compiles for all topologies, two at a time, and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--topology", choices=TOPOLOGIES, help="this one only, and its figures as JSON")
    arguments = parser.parse_args()
    if arguments.topology:
        print(json.dumps(measure(arguments.topology)))
        return
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        figures = dict(zip(TOPOLOGIES, pool.map(in_process_of_its_own, TOPOLOGIES), strict=True))
    result = {
        "environment": describe_compilers(),
        "seconds": round(time.perf_counter() - start, 1),
        "kernels": figures,
    }
    text = json.dumps(result, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text, end="")


def in_process_of_its_own(topology: str) -> dict:
    """libtpu reads where to leave its schedules once, when it starts."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
            "--xla_jf_dump_llo_pass_label_regex=final_bundles",
            "SCHEDULES": folder,
        }
        run = subprocess.run(
            [sys.executable, __file__, "--topology", topology],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(run.stdout.splitlines()[-1])


def measure(topology: str) -> dict:
    """Bundles and bytes of both directions of each case."""
    folder = Path(os.environ["SCHEDULES"])
    result = {}
    for case in EVERYWHERE + ONCE[topology]:
        kernel, batch, length, heads, width, dtype = case
        name = f"{kernel} B{batch} S{length} H{heads} D{width} {dtype}"
        result[name] = {}
        for direction in DIRECTIONS:
            if kernel == "stock" and direction == "backward":
                continue
            text = compile_case(topology, direction, *case)
            least = least_bytes(direction, batch, length, heads, width, dtype)
            moved = moved_bytes(text)
            result[name][direction] = {
                **bundles(folder, kernel, heads, length),
                "moved_bytes": moved,
                "least_bytes": least,
                "moved_to_least": round(moved / least, 3),
            }
            for path in folder.iterdir():
                path.unlink()
    return result


def compile_case(topology, direction, kernel, batch, length, heads, width, dtype) -> str:
    """Compiles one direction from the packed projection; the optimised module comes out."""
    import jax
    import jax.numpy as jnp

    from dnabert2_jax.kernels.bodies import load
    from dnabert2_jax.parallel.mesh import make_mesh
    from dnabert2_jax.parallel.topologies import tpu_devices
    from dnabert2_jax.settings import MeshSettings

    mesh = make_mesh(MeshSettings(), tpu_devices(topology))
    one_chip = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])

    def given(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=one_chip)

    row = (batch, length, heads * width)
    qkv, out = given((*row[:2], 3 * row[2]), dtype), given(row, dtype)
    lse = given((batch, heads, length), jnp.float32)
    slopes, segments = given((heads,), jnp.float32), given((batch, length), jnp.int32)

    def forward(qkv, slopes, segments):
        return body.forward_packed(qkv, slopes, segments, skip=True, interpret=False)

    def backward(qkv, slopes, segments, out, lse, dout):
        return body.backward_packed(qkv, slopes, segments, out, lse, dout, None, skip=True, interpret=False)

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        if kernel == "stock":
            part = given((batch, heads, length, width), dtype)
            bias = given((batch, heads, length, length), dtype)
            lowered = jax.jit(stock).lower(part, part, part, bias)
        else:
            body: Any = load(f"pallas_tpu_{kernel}")
            if direction == "forward":
                lowered = jax.jit(forward).lower(qkv, slopes, segments)
            else:
                lowered = jax.jit(backward).lower(qkv, slopes, segments, out, lse, out)
        return lowered.compile().as_text() or ""


def stock(q, k, v, bias):
    """JAX's own kernel, from parts that are transposed already, which ours do not need to be."""
    from jax.experimental.pallas.ops.tpu.flash_attention import flash_attention

    return flash_attention(q, k, v, bias, sm_scale=q.shape[3] ** -0.5)


def least_bytes(direction, batch, length, heads, width, dtype) -> int:
    """Bytes of qkv, the result and the log-sum-exp; or of qkv, dout, the log-sum-exp and dqkv."""
    row = batch * length * heads * width * (2 if dtype == "bfloat16" else 4)
    return (4 if direction == "forward" else 7) * row + 4 * batch * heads * length + 4 * batch * length


def bundles(folder: Path, kernel: str, heads: int, length: int) -> dict:
    """Bundles of the kernel's schedule: all, and those of its unit of work."""
    (path,) = (
        path
        for path in folder.glob("*_bundles.txt")
        if re.search(r"-(pallas_tpu_|flash_attention)\S*-\d+-final_bundles", path.name)
    )
    text = path.read_text()
    total, loops = loops_of(text)
    (program,) = (count for depth, count in loops if depth == 1)
    inner = [count for depth, count in loops if depth == 2]
    if kernel == "long":
        from dnabert2_jax.kernels.tpu_long_kernels import block_length

        tiles = (block_length(length) // TILE) ** 2
        return {"bundles": total, "bundles_per_tile": round(max(inner) / tiles, 1)}
    if kernel == "stock":
        per_row = {"bundles_per_row": heads * program} if length == TILE else {}
        return {"bundles": total, "bundles_per_tile": program, **per_row}
    # A program with one row has no loop.
    return {"bundles": total, "bundles_per_row": max(inner, default=program)}


def loops_of(text: str) -> tuple[int, list[tuple[int, int]]]:
    """All bundles of a schedule, and (depth, own bundles) of each of its loops; depth 1 is the grid."""
    total, open_loops, loops = 0, {}, []
    for line in text.splitlines():
        found = re.match(r"\s*(?:0x[0-9a-f]+|0)\s+(L[HBE]|P[BF]|CT)?\s*:\s*((?:> ?)*)\{", line)
        if not found:
            continue
        total += 1
        depth = found[2].count(">")
        if found[1] == "LB":
            open_loops[depth] = len(loops)
            loops.append([depth, 0])
        if depth:
            loops[open_loops[depth]][1] += 1
    return total, [(depth, count) for depth, count in loops]


def moved_bytes(module: str) -> int:
    """Bytes that the instructions of a module's entry read and write, each array once per instruction."""
    entry = module[module.index("\nENTRY") :]
    sizes, moved = {}, 0
    for line in entry.splitlines():
        found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)", line)
        if not found:
            continue
        name, shape, operation, rest = found.groups()
        sizes[name] = size_of(shape)
        if operation in ("parameter", "bitcast", "tuple", "get-tuple-element", "constant"):
            continue
        operands = set(re.findall(r"%([\w.\-]+)", rest.split("), ")[0]))
        moved += sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
    return moved


def size_of(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple, as the module writes them."""
    widths = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
    total = 0
    for dtype, dimensions in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape):
        count = 1
        for dimension in dimensions.split(","):
            count *= int(dimension or 1)
        total += widths.get(dtype, 0) * count
    return total


def describe_compilers() -> dict[str, str]:
    """Versions of what the figures depend on."""
    from importlib.metadata import version

    return {"jax": version("jax"), "libtpu": version("libtpu")}


if __name__ == "__main__":
    main()
