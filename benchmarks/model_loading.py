"""What time and memory a 117M model takes to load, to give its first embedding, and to be saved.

    taskset -c 0,1 python benchmarks/model_loading.py --tokenizer TOKENIZER/tokenizer.json \\
        --output benchmarks/results/model_loading.json

A model with random weights is written as model.safetensors and as pytorch_model.bin. Each measurement has a
process of its own, with the file in the operating system's cache; times are medians over the rounds, memory
is the highest. On a machine with other work (see `load_average`) only CPU seconds and memory tell anything.
`peak_ratio` is what loading added at its peak to the process, in which Python, JAX and this
package were ready, over the bytes of the parameters; `save_peak_ratio` the same for saving, parameters
included.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import struct
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import describe_machine

from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, write_model
from dnabert2_jax.model.released import to_released
from dnabert2_jax.tokenizer.loading import load_tokenizer

SEQUENCES = 8
BASES = 500


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="of 4,096 tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    result: dict = {
        "first_embedding": f"{SEQUENCES} sequences of {BASES} bases, compilation included",
        "load_average": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory() as work:
        for folder in write_models(Path(work), arguments.tokenizer):
            rounds = []
            for _ in range(1 + arguments.rounds):
                with fresh.Pool(1) as pool:
                    rounds.append(pool.apply(measure, (folder,)))
            result[folder.name] = summary(rounds[1:])  # the first fills the file cache
            print(folder.name, json.dumps(result[folder.name]), flush=True)
    result["machine"] = describe_machine("jax", "jaxlib", "flax", "numpy")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def write_models(work: Path, tokenizer_path: Path) -> list[Path]:
    """A folder per format, named after it, both with the same numbers."""
    description = ModelDescription(Architecture())
    _, shapes = description.abstract()
    rng = np.random.default_rng(0)
    parameters = {
        name: 0.02 * rng.standard_normal(shape.shape, np.float32) + np.float32(name.endswith("scale"))
        for name, shape in shapes.items()
    }
    folders = [work / "model.safetensors", work / "pytorch_model.bin"]
    for folder in folders:
        write_model(folder, description, parameters)
        load_tokenizer(tokenizer_path).save(folder)
    (folders[1] / "model.safetensors").unlink()
    write_torch_file(folders[1] / "pytorch_model.bin", to_released(parameters))
    return folders


def write_torch_file(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes float32 arrays as `torch.save` writes a state dict."""
    items = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, (key, array) in enumerate(state.items()):
            archive.writestr(f"model/data/{number}", np.ascontiguousarray(array, np.float32).data.cast("B"))
            items.append(pickled_text(key) + pickled_tensor(str(number), array.shape))
        archive.writestr("model/data.pkl", b"\x80\x02}(" + b"".join(items) + b"u.")
        archive.writestr("model/byteorder", "little")


def pickled_tensor(storage: str, shape: tuple[int, ...]) -> bytes:
    """The opcodes of one contiguous array."""
    size = int(np.prod(shape))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    persistent_id = [pickled_text("storage"), b"ctorch\nFloatStorage\n", pickled_text(storage)]
    place = b"".join([*persistent_id, pickled_text("cpu"), pickled_number(size)])
    numbers = [b"(" + b"".join(map(pickled_number, values)) + b"t" for values in (shape, strides)]
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = b"((" + place + b"tQ" + pickled_number(0) + b"".join(numbers) + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def pickled_text(value: str) -> bytes:
    """The opcode of a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def pickled_number(value: int) -> bytes:
    """The opcode of a whole number."""
    return b"J" + struct.pack("<i", value)


def measure(folder: Path) -> dict[str, float]:
    """Seconds and bytes of one load, one embedding and one save."""
    jnp.zeros(8).block_until_ready()
    before = memory("VmRSS")
    start, start_cpu = time.perf_counter(), time.process_time()
    model = from_pretrained(folder)
    jax.block_until_ready(model.parameters)
    loaded, loaded_cpu = time.perf_counter(), time.process_time()
    load_peak = memory("VmHWM")
    letters = np.random.default_rng(1).choice(list("ACGT"), (SEQUENCES, BASES))
    model.embed(["".join(row) for row in letters])
    embedded, embedded_cpu = time.perf_counter(), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    held = memory("VmRSS")
    saving = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder.parent) as target:
        model.save_pretrained(Path(target) / "copy")
        saved = time.perf_counter()
    parameter_bytes = sum(array.nbytes for array in model.parameters.values())
    return {
        "parameter_mb": parameter_bytes / 1e6,
        "load_seconds": loaded - start,
        "load_cpu_seconds": loaded_cpu - start_cpu,
        "first_embedding_seconds": embedded - loaded,
        "first_embedding_cpu_seconds": embedded_cpu - loaded_cpu,
        "save_seconds": saved - saving,
        "before_mb": before / 1e6,
        "peak_mb": load_peak / 1e6,
        "peak_ratio": (load_peak - before) / parameter_bytes,
        "save_peak_ratio": 1 + (memory("VmHWM") - held) / parameter_bytes,
    }


def memory(kind: str) -> int:
    """Bytes of this process's resident memory: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians of the times; of the rest the highest."""
    return {
        name: round((statistics.median if name.endswith("seconds") else max)(row[name] for row in rounds), 3)
        for name in rounds[0]
    }


if __name__ == "__main__":
    main()
