"""What happens to disks, corpora and processes is reported by name, and costs nothing already earned."""

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_injection import newest_checkpoint, outcome, survive

from dnabert2_jax.cli.main import main
from dnabert2_jax.config import load_settings
from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.data.windows import WindowSource
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import write_fasta
from dnabert2_jax.genome.simulate import simulate_genomes
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.run_log import RunLog, read_rows

_DNABERT2 = "from dnabert2_jax.cli.main import main; raise SystemExit(main())"


@pytest.fixture(scope="module")
def corpus(tiny_tokenizer, tmp_path_factory) -> Path:
    """A corpus of three species, and so with three shards to train on."""
    folder = tmp_path_factory.mktemp("three_species")
    inputs = []
    for genome, name in zip(simulate_genomes(3, 12_000, 5), "abc", strict=True):
        inputs.append((name, folder / f"{name}.fa"))
        write_fasta(inputs[-1][1], genome.contigs)
    build_corpus(inputs, tiny_tokenizer, folder / "corpus", validation_share=0.1, region_bases=1_000)
    return folder / "corpus"


@pytest.fixture(scope="module")
def words(tiny_config) -> list[str]:
    """A run of 12 steps of one window each, with a checkpoint after each fifth."""
    settings = {
        "model.num_hidden_layers": 1,
        "optimizer.warmup_steps": 2,
        "training.batch_size": 1,
        "training.steps": 12,
        "training.checkpoint_every": 5,
        "training.evaluate_every": 6,
        "training.compilation_cache": "",
    }
    return ["pretrain", str(tiny_config), *(f"--{name}={value}" for name, value in settings.items())]


@pytest.fixture(scope="module")
def undisturbed(words, corpus, tmp_path_factory) -> Path:
    """The run as it should be."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_until_it_ends(words, corpus, run) == 0
    return run


def run_until_it_ends(words, corpus, run) -> int:
    return main([*words, "--corpus", str(corpus), "--output", str(run)])


def vanish(shard: Path) -> None:
    shard.unlink()


def flip_bits(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    for place in range(500, 20_000, 7):
        data[place] ^= 1
    shard.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "told"), [(vanish, "is missing"), (flip_bits, "is damaged")])
def test_a_shard_that_cannot_be_read(harm, told, words, corpus, undisturbed, tmp_path, capsys):
    copy, run = tmp_path / "corpus", tmp_path / "run"
    shutil.copytree(corpus, copy)
    shard = max(copy.glob("train-*.arrayrecord"), key=lambda path: first_batch_of(path, copy, words))
    due = first_batch_of(shard, copy, words)
    assert 0 < due < 12
    assert due != 5, "a checkpoint would be there anyway"
    harm(shard)
    assert run_until_it_ends(words, copy, run) == 2
    assert re.fullmatch(
        rf"dnabert2: {shard}: {told}.*; the run is saved at step {due}\n", capsys.readouterr().err
    )
    assert newest_checkpoint(run) == due
    shutil.copy(corpus / shard.name, shard)
    assert run_until_it_ends(words, copy, run) == 0
    assert outcome(run) == outcome(undisturbed)


def first_batch_of(shard: Path, corpus: Path, words: list[str]) -> int:
    """The number of the first batch that lies in a shard."""
    settings = load_settings(PretrainSettings, words[1], words[2:])
    aside = shard.rename(shard.with_suffix(".aside"))
    source = WindowSource(
        Corpus.open(corpus),
        "train",
        batch_size=settings.training.batch_size,
        length=settings.data.sequence_length,
        seed=settings.training.seed,
        steps=100,
        species_weights=settings.data.species_weights,
        strand=settings.data.strand,
    )
    try:
        for step in range(len(source)):
            try:
                source[step]
            except UserError:
                return step
        return len(source)
    finally:
        aside.rename(shard)


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(words, corpus, undisturbed, tmp_path, capsys):
    run = tmp_path / "run"
    limit = 50_000  # a checkpoint needs more, and the log less
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        assert run_until_it_ends(words, corpus, run) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.fullmatch(
        rf"dnabert2: {run}/checkpoints: the checkpoint of step 5 cannot be written: File too large; there is "
        "none before it; free some space and give the same command again\n",
        capsys.readouterr().err,
    )
    assert run_until_it_ends(words, corpus, run) == 0
    assert outcome(run) == outcome(undisturbed)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_full_disk(words, corpus, undisturbed, start_python, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    one = sum(path.stat().st_size for path in (undisturbed / "checkpoints" / "10").rglob("*"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(1.7 * one)}", "none", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs a small disk: {mounted.stderr.strip()}")
    try:
        run = disk / "run"
        arguments = [*words, "--corpus", corpus, "--output", run]
        process = start_python(_DNABERT2, *arguments)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, newest_checkpoint(run)) == (2, 5), errors
        assert errors == (
            f"dnabert2: {run}/checkpoints: the checkpoint of step 10 cannot be written: No space left on "
            "device; that of step 5 is kept; free some space and give the same command again\n"
        )
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        process = start_python(_DNABERT2, *arguments)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert outcome(run) == outcome(undisturbed)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_gradients_that_are_not_finite_are_skipped_so_often_and_no_more(words, corpus, tmp_path, capsys):
    # The first step is taken from a good state; the others see numbers whose squares overflow.
    diverging = [*words, "--optimizer.warmup_steps=0", "--optimizer.learning_rate=1e30"]
    diverging += ["--training.skip_nonfinite=3", "--training.log_every=1"]
    assert run_until_it_ends(diverging, corpus, tmp_path / "run") == 2
    assert "step 2: loss or gradient is not finite" in capsys.readouterr().err
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [(row["step"], row["skipped"]) for row in rows] == [(1, 0), (2, 1), (3, 2), (4, 3)]


class TestTheLogOnAFullDisk:
    @pytest.fixture
    def row(self) -> dict[str, Any]:
        return {"kind": "train", "step": 1} | {f"a figure of some length {i}": 1.0 for i in range(100)}

    def test_metrics(self, row, tmp_path):
        metrics = tmp_path / "metrics.jsonl"
        with RunLog(metrics, tmp_path / "tensorboard", 0) as log:
            metrics.unlink()
            metrics.symlink_to("/dev/full")
            with pytest.raises(
                UserError, match=r"metrics\.jsonl: cannot be written: No space left on device"
            ):
                log.write(row)

    def test_tensorboard(self, row, tmp_path):
        metrics = tmp_path / "metrics.jsonl"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        def write() -> None:
            for _ in range(50):
                log.write(row)

        with RunLog(metrics, tmp_path / "tensorboard", 0) as log:
            metrics.unlink()
            metrics.symlink_to("/dev/null")
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            try:
                with pytest.raises(UserError, match="tensorboard: cannot be written: File too large"):
                    write()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.timeout(1800)
def test_thirty_kills(tiny_config, tiny_corpus, tmp_path):
    settings = {
        "model.num_hidden_layers": 1,
        "training.steps": 1000,
        "training.checkpoint_every": 11,
        "training.evaluate_every": 70,
        "training.log_every": 7,
        "training.keep": "best",
    }
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(run: Path) -> list[subprocess.Popen[str]]:
        words = ["pretrain", tiny_config, "--corpus", tiny_corpus, "--output", run]
        changes = [f"--{name}={value}" for name, value in settings.items()]
        return [
            subprocess.Popen(
                [sys.executable, "-c", _DNABERT2, *map(str, words), *changes],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        ]

    (whole,) = start(tmp_path / "undisturbed")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    story = survive(lambda: start(tmp_path / "killed"), tmp_path / "killed", kills=30, seed=6)
    assert len(story) == 30
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "undisturbed"), "\n".join(story)
