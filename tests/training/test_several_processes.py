"""One run over several processes: the batches of one process, its losses, and its model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.multiprocess

_CHECK_BATCHES = """
import sys
import numpy as np
from jax.experimental import multihost_utils
from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.windows import WindowSource
from dnabert2_jax.parallel.mesh import make_mesh, split_tokens
from dnabert2_jax.parallel.processes import start_processes
from dnabert2_jax.parallel.rows import global_batch, local_rows
from dnabert2_jax.settings import MeshSettings

start_processes()
corpus = Corpus.open(sys.argv[1])
whole = WindowSource(corpus, batch_size=8, length=16, seed=5, steps=4)
for sizes in ({}, {"fsdp": 2}, {"tensor": 4}, {"sequence": 2}, {"sequence": 4}):
    sharding = split_tokens(make_mesh(MeshSettings(**sizes)))
    rows = local_rows(sharding, (8, 16))
    source = WindowSource(corpus, batch_size=8, length=16, seed=5, steps=4, rows=rows)
    for step in range(4):
        expected = whole[step]
        batch = global_batch(source[step], rows, sharding, 8)
        assert batch.keys() == expected.keys()
        for name, array in batch.items():
            gathered = multihost_utils.process_allgather(array, tiled=True)
            np.testing.assert_array_equal(gathered, expected[name], err_msg=f"{sizes} {name}")
    print(sizes, len(rows), "rows")
"""


@pytest.mark.parametrize(("processes", "devices", "rows"), [(2, 2, (4, 4, 8, 4, 8)), (4, 1, (2, 2, 8, 4, 8))])
def test_processes_make_up_the_batch_of_one(start_job, tiny_corpus, processes, devices, rows):
    job = start_job(processes, "-c", _CHECK_BATCHES, tiny_corpus, JAX_NUM_CPU_DEVICES=str(devices))
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, output + errors
    for process in range(processes):
        told = [line for line in output.splitlines() if line.startswith(f"[{process}] {{")]
        assert [int(line.split()[-2]) for line in told] == list(rows)


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_processes(start_job, pretrain_words, tmp_path):
    settings = {"training__checkpoint_every": 4, "training__keep_checkpoints": 3, "training__log_every": 1}
    finish(start_job(1, *pretrain_words(tmp_path / "one", **settings)))
    finish(start_job(2, *pretrain_words(tmp_path / "two", **settings)))
    # Begun by two, carried on by four that divide the parameters, and ended by one.
    shutil.copytree(tmp_path / "two", tmp_path / "mixed")
    for processes, last in ((4, 4), (1, 8)):
        forget_steps_after(last, tmp_path / "mixed")
        words = pretrain_words(tmp_path / "mixed", **settings, mesh__fsdp=processes)
        finish(start_job(processes, *words))

    one = rows(tmp_path / "one")
    assert [row["step"] for row in one if row["kind"] == "train"] == [*range(1, 13)]
    weights = load_file(tmp_path / "one" / "model" / "model.safetensors")
    for name in ("two", "mixed"):
        for mine, theirs in zip(one, rows(tmp_path / name), strict=True):
            assert (mine["kind"], mine["step"]) == (theirs["kind"], theirs["step"])
            # Sums in another order: ten float32 roundings of 4 nats, each 5e-7.
            for figure in ("loss", "masked_loss", "mixed_loss"):
                if figure in mine:
                    assert theirs[figure] == pytest.approx(mine[figure], abs=5e-6), (name, mine["step"])
        for parameter, array in load_file(tmp_path / name / "model" / "model.safetensors").items():
            # Twelve steps of 2e-3 at most, of which rounding moves a thousandth.
            np.testing.assert_allclose(array, weights[parameter], atol=2e-5, err_msg=f"{name} {parameter}")


def forget_steps_after(step: int, run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)


def finish(job) -> None:
    output, errors = job.communicate(timeout=300)
    assert job.returncode == 0, output + errors


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
