"""What all tests share: where the reference data lies, and a very small genome, corpus and model."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import jax
import pytest
from flax import nnx

from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.genome.fasta import write_fasta
from dnabert2_jax.genome.simulate import simulate_genomes
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.training import train_from_fasta

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # One for all processes of the tests; the user's own stays as it is.
    compiled = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    jax.config.update("jax_compilation_cache_dir", compiled)
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that none of them goes on by itself when all others are done."""

    def seconds_allowed(item: pytest.Item) -> int:
        marker = item.get_closest_marker("timeout")
        return marker.args[0] if marker else 0

    items.sort(key=seconds_allowed, reverse=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("needs the reference data in ../shared")
    return folder


@pytest.fixture(scope="session")
def tiny_fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated genome of 60,000 bases."""
    (genome,) = simulate_genomes(1, 60_000, 3)
    path = tmp_path_factory.mktemp("tiny_genome") / "simulated.fa"
    write_fasta(path, genome.contigs)
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer with 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny_tokenizer")
    tokenizer, _ = train_from_fasta([tiny_fasta], 64, sample_bases=60_000, seed=0)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tiny_fasta: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a corpus: the tiny genome through the tiny tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_corpus") / "corpus"
    build_corpus(
        [("simulated", tiny_fasta)], tiny_tokenizer, folder, validation_share=0.1, region_bases=3_000
    )
    return folder


@pytest.fixture(scope="session")
def tiny_architecture() -> Architecture:
    """Two layers of width 32 for 64 tokens; weights are large enough to make scores differ."""
    return Architecture(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.1,
    )


@pytest.fixture(scope="session")
def tiny_model(
    tiny_architecture: Architecture, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a masked-language model with random weights."""
    folder = tmp_path_factory.mktemp("tiny_model")
    description = ModelDescription(tiny_architecture)
    _, parameters = split(description.build(nnx.Rngs(7)))
    Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a pre-training run of seconds on the tiny corpus, with dropout."""
    path = tmp_path_factory.mktemp("tiny_config") / "pretrain.toml"
    path.write_text(
        """
        [model]
        vocab_size = 64
        hidden_size = 32
        num_hidden_layers = 2
        num_attention_heads = 4
        intermediate_size = 64

        [data]
        sequence_length = 32
        validation_windows = 40

        [training]
        steps = 60
        batch_size = 8
        compute_dtype = "float32"
        checkpoint_every = 20
        evaluate_every = 30
        log_every = 3

        [optimizer]
        learning_rate = 2e-3
        warmup_steps = 10
        """
    )
    return path


type StartPython = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """start_python(code, *arguments, output=None, **environment): a process, killed when the test leaves it.

    What it says goes into two pipes, or into the file `output`.
    """
    started: list[subprocess.Popen[str]] = []

    def start(
        code: str, *arguments: str | Path, output: IO[str] | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
            stdout=output or subprocess.PIPE,
            stderr=output or subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


type StartJob = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_job(start_python: StartPython) -> StartJob:
    """start_job(processes, *words, restarts=0, output=None, **environment): Python with these words.

    The processes are started by the local launcher, with one device each.
    """

    def start(
        processes: int,
        *words: str | Path,
        restarts: int = 0,
        output: IO[str] | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        return start_python(
            "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
            Path(__file__).resolve().parents[1] / "launch" / "local.py",
            *("--processes", str(processes), "--restarts", str(restarts), "--", sys.executable),
            *words,
            output=output,
            **{"JAX_NUM_CPU_DEVICES": "1"} | environment,
        )

    return start


@pytest.fixture
def pretrain_words(tiny_config: Path, tiny_corpus: Path) -> Callable[..., list[str | Path]]:
    """pretrain_words(output, **settings): for `python`, a short run; settings such as training__steps=9."""

    def words(output: Path, **settings: object) -> list[str | Path]:
        short = {"model__num_hidden_layers": 1, "training__steps": 12, "optimizer__warmup_steps": 2}
        return [
            *("-m", "dnabert2_jax", "pretrain", tiny_config, "--corpus", tiny_corpus, "--output", output),
            *(f"--{name.replace('__', '.')}={value}" for name, value in (short | settings).items()),
        ]

    return words
