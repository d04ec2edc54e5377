"""TPU kernels and a training step compile for TPUs that are not there, in as few bundles as recorded."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dnabert2_jax.config import load_settings
from dnabert2_jax.kernels import bodies
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.parallel.topologies import tpu_devices
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RECORDED = BENCHMARKS / "results" / "attention_tpu.json"

pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None or os.environ.get("JAX_PLATFORMS") != "cpu",
        reason="needs libtpu, and JAX_PLATFORMS=cpu",
    ),
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Bundles and bytes by topology, case and direction, as they are now."""
    output = tmp_path_factory.mktemp("tpu") / "kernels.json"
    script = BENCHMARKS / "attention_tpu_aot.py"
    path = os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, script, "--output", output], env=os.environ | {"PYTHONPATH": path}, check=True
    )
    return by_case(json.loads(output.read_text()))


def by_case(result):
    return {
        (topology, case, direction): figures
        for topology, of_cases in result["kernels"].items()
        for case, of_directions in of_cases.items()
        for direction, figures in of_directions.items()
    }


def test_bundles_and_bytes_stay_within_a_tenth_of_what_is_recorded(kernels):
    recorded = by_case(json.loads(RECORDED.read_text()))
    assert set(recorded) == set(kernels)
    grown = {
        (*case, name): (before, kernels[case][name])
        for case, figures in recorded.items()
        for name, before in figures.items()
        if kernels[case][name] > 1.1 * before
    }
    assert grown == {}


def test_short_rows_move_little_more_than_they_must(kernels):
    for (_, case, _), figures in kernels.items():
        if case.startswith("short") and "S128" in case:
            assert figures["moved_bytes"] <= 1.15 * figures["least_bytes"], case


def test_short_rows_take_less_than_half_of_the_stock_kernel_s_bundles(kernels):
    case = "B512 S128 H12 D64 bfloat16"
    ours = kernels["v5e:2x2", f"short {case}", "forward"]["bundles_per_row"]
    assert 2.5 * ours <= kernels["v5e:2x2", f"stock {case}", "forward"]["bundles_per_row"]


@pytest.mark.parametrize(
    ("topology", "batch", "length"),
    [("v5e:2x2", 64, 128), ("v5p:2x2x1", 8, 2048), ("v6e:2x4", 128, 128)],
)
def test_training_step_of_the_full_model_compiles(topology, batch, length, monkeypatch):
    mesh = make_mesh(MeshSettings(), tpu_devices(topology))
    chip = mesh.devices.flat[0]
    # The choice of kernels then takes these by itself, as it would on a chip where they passed.
    passed = {(name, chip.device_kind) for name in ("pallas_tpu_short", "pallas_tpu_long")}
    monkeypatch.setattr(bodies, "PASSED", bodies.PASSED | passed)
    settings = load_settings(
        PretrainSettings,
        "dnabert2_117m_paper",
        ["--training.batch_size", str(batch), "--training.compute_dtype", "bfloat16"],
    )
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    state = jax.eval_shape(lambda: initial_state(settings.model, optimizer, 0))
    row = jax.ShapeDtypeStruct((batch, length), np.int32)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        step = make_train_step(settings, optimizer, mesh)
        compiled = step.lower(state, {"input_ids": row, "segment_ids": row}).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    assert text is not None
    assert memory is not None
    kernel = "pallas_tpu_short" if length <= 256 else "pallas_tpu_long"
    layers = settings.model.num_hidden_layers
    for direction in ("forward", "backward"):
        assert text.count(f"%{kernel}_{direction}") >= layers
    # Each chip attends within its own rows: only gradients and counts travel.
    assert "all-reduce" in text
    assert "all-gather" not in text
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 16 * 2**30
