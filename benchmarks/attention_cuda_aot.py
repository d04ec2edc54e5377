"""What the Triton attention kernels take of a GPU's registers, found out without a GPU.

    python benchmarks/attention_cuda_aot.py --output benchmarks/results/attention_cuda_aot.json

Forward and backward are compiled by JAX's CUDA plugin for each architecture and shape. XLA leaves the PTX of
each kernel behind, from which `ptxas -v` (package nvidia-cuda-nvcc) tells registers and spills. Threads times
registers decide how many programs share a multiprocessor. Numbers and speed need a GPU: attention_gpu.py.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# An architecture, and a card that has it.
CARDS = {"sm_80": "a100", "sm_89": "rtx4090", "sm_90": "h200", "sm_120": "rtxpro6000"}
HEADS = 12
# batch, tokens, width of a head, type
EVERYWHERE = (
    (512, 128, 64, "bfloat16"),
    (16, 2048, 64, "bfloat16"),
    (4, 8192, 64, "bfloat16"),
    (16, 2048, 64, "float32"),
)
# Where registers and shared memory are scarcest, the other tiles too.
TIGHT = ("sm_80", "sm_89")
ON_TIGHT = (
    (512, 128, 32, "bfloat16"),
    (16, 2048, 32, "bfloat16"),
    (16, 2048, 128, "bfloat16"),
    (16, 2048, 32, "float32"),
    (16, 2048, 128, "float32"),
)


def main() -> None:
    """Compiles for all architectures, two at a time, and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--architecture", choices=CARDS, help="this one only, and its figures as JSON")
    arguments = parser.parse_args()
    if arguments.architecture:
        print(json.dumps(measure(arguments.architecture)))
        return
    with ThreadPoolExecutor(2) as pool:
        kernels = dict(zip(CARDS, pool.map(in_process_of_its_own, CARDS), strict=True))
    text = json.dumps({"environment": describe_compilers(), "kernels": kernels}, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text, end="")


def in_process_of_its_own(architecture: str) -> dict:
    """XLA reads where to leave its PTX once, when it starts."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_emitter_re=ptx",
            "PTX_FOLDER": folder,
        }
        run = subprocess.run(
            [sys.executable, __file__, "--architecture", architecture],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(run.stdout.splitlines()[-1])


def measure(architecture: str) -> dict:
    """Registers, spilled bytes and kind of matrix instruction of each kernel of each case."""
    folder = Path(os.environ["PTX_FOLDER"])
    result = {}
    for batch, length, width, dtype in EVERYWHERE + (ON_TIGHT if architecture in TIGHT else ()):
        compile_case(architecture, batch, length, width, dtype)
        kernels = {}
        for path in sorted(folder.glob("*.ptx")):
            kernels |= resources(path)
        result[f"B{batch} S{length} D{width} {dtype}"] = kernels
        for path in folder.iterdir():
            path.unlink()
    return result


def compile_case(architecture: str, batch: int, length: int, width: int, dtype: str) -> None:
    """Compiles the op and its gradient from the packed projection."""
    import jax
    import jax.numpy as jnp

    from dnabert2_jax.kernels.attention import alibi_attention_qkv
    from dnabert2_jax.parallel.cuda_targets import cuda_devices
    from dnabert2_jax.parallel.mesh import make_mesh, replicated
    from dnabert2_jax.settings import MeshSettings

    def loss(qkv, slopes, segments):
        attended = alibi_attention_qkv(qkv, slopes, segment_ids=segments, implementation="pallas_triton")
        return attended.astype(jnp.float32).sum()

    mesh = make_mesh(MeshSettings(), cuda_devices(CARDS[architecture]))

    def given(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(mesh))

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(jax.grad(loss)).lower(
            given((batch, length, 3 * HEADS * width), dtype),
            given((HEADS,), jnp.float32),
            given((batch, length), jnp.int32),
        ).compile()


def resources(path: Path) -> dict:
    """What `ptxas -v` says of our kernels in a file."""
    text = path.read_text()
    target = re.findall(r"^\.target (\w+)", text, re.MULTILINE)[0]
    if not re.search(r"\.entry \w+_kernel\b", text):
        return {}
    run = subprocess.run(
        [find_ptxas(), "-v", f"-arch={target}", str(path), "-o", os.devnull],
        capture_output=True,
        text=True,
        check=True,
    )
    (name,) = re.findall(r"Compiling entry function '(\w+)'", run.stderr)
    spilled = sum(int(number) for number in re.findall(r"(\d+) bytes spill (?:stores|loads)", run.stderr))
    (registers,) = re.findall(r"Used (\d+) registers", run.stderr)
    (threads,) = re.findall(r"\.reqntid (\d+)", text)
    instructions = {"wgmma": "wgmma.mma_async", "mma": "mma.sync"}
    return {
        name: {
            "registers": int(registers),
            "spilled_bytes": spilled,
            "threads": int(threads),
            "programs_per_multiprocessor": 65536 // (int(registers) * int(threads)),
            "matrix_instruction": next((k for k, v in instructions.items() if v in text), None),
        }
    }


def find_ptxas() -> str:
    """The one that nvidia-cuda-nvcc installs, or the one on the path."""
    package = importlib.util.find_spec("nvidia")
    for folder in (package and package.submodule_search_locations) or ():
        for found in Path(folder).glob("*/bin/ptxas"):
            return str(found)
    found = shutil.which("ptxas")
    if found is None:
        raise SystemExit("ptxas is not here: pip install nvidia-cuda-nvcc")
    return found


def describe_compilers() -> dict[str, str]:
    """Versions of what the figures depend on."""
    from importlib.metadata import version

    said = subprocess.run([find_ptxas(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "jax": version("jax"),
        "jax_cuda13_plugin": version("jax-cuda13-plugin"),
        "ptxas": re.findall(r"V([\d.]+)", said)[0],
    }


if __name__ == "__main__":
    main()
