"""The Triton kernels and a training step compile for GPUs that are not there, within the cards' registers."""

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
from dnabert2_jax.parallel.chips import chip_of
from dnabert2_jax.parallel.cuda_targets import CUDA_TARGETS, cuda_devices
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RECORDED = BENCHMARKS / "results" / "attention_cuda_aot.json"

pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(
        importlib.util.find_spec("jax_plugins") is None
        or importlib.util.find_spec("jax_plugins.xla_cuda13") is None
        or os.environ.get("JAX_PLATFORMS") != "cpu",
        reason="needs jax-cuda13-plugin, and JAX_PLATFORMS=cpu",
    ),
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Registers and spills by architecture, case and kernel, as they are now."""
    output = tmp_path_factory.mktemp("cuda") / "kernels.json"
    script = BENCHMARKS / "attention_cuda_aot.py"
    path = os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, script, "--output", output], env=os.environ | {"PYTHONPATH": path}, check=True
    )
    return json.loads(output.read_text())["kernels"]


def cases(kernels):
    return {
        (architecture, case, name): figures
        for architecture, of_cases in kernels.items()
        for case, of_kernels in of_cases.items()
        for name, figures in of_kernels.items()
    }


def test_no_kernel_spills_registers(kernels):
    assert {name: k["spilled_bytes"] for name, k in cases(kernels).items() if k["spilled_bytes"]} == {}


def test_rows_of_128_tokens_have_one_backward_kernel_and_longer_ones_two(kernels):
    for of_cases in kernels.values():
        assert set(of_cases["B512 S128 D64 bfloat16"]) == {"forward_kernel", "keys_kernel"}
        assert set(of_cases["B16 S2048 D64 bfloat16"]) == {"forward_kernel", "keys_kernel", "queries_kernel"}


def test_products_run_on_tensor_cores(kernels):
    for (architecture, case, name), figures in cases(kernels).items():
        expected = (
            "wgmma" if architecture == "sm_90" and "bfloat16" in case else figures["matrix_instruction"]
        )
        assert figures["matrix_instruction"] == expected is not None, (architecture, case, name)


def test_registers_stay_within_a_tenth_of_what_is_recorded(kernels):
    recorded, now = cases(json.loads(RECORDED.read_text())["kernels"]), cases(kernels)
    assert set(recorded) == set(now)
    grown = {
        name: (recorded[name]["registers"], figures["registers"])
        for name, figures in now.items()
        if figures["registers"] > 1.1 * recorded[name]["registers"]
    }
    assert grown == {}


def test_training_step_of_the_full_model_compiles_for_eight_hopper_cards(monkeypatch):
    # The choice of kernels then takes this one by itself, as it would on a card where it passed.
    card = CUDA_TARGETS["h200"]
    chip = chip_of(card.name)
    assert chip is not None
    monkeypatch.setattr(bodies, "PASSED", bodies.PASSED | {("pallas_triton", card.name)})
    settings = load_settings(
        PretrainSettings,
        "dnabert2_117m_paper",
        ["--training.batch_size", "4096", "--training.compute_dtype", "bfloat16"],
    )
    mesh = make_mesh(MeshSettings(), cuda_devices("h200", 8))
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    state = jax.eval_shape(lambda: initial_state(settings.model, optimizer, 0))
    row = jax.ShapeDtypeStruct((4096, 128), np.int32)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        step = make_train_step(settings, optimizer, mesh)
        compiled = step.lower(state, {"input_ids": row, "segment_ids": row}).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    assert text is not None
    assert memory is not None
    layers = settings.model.num_hidden_layers
    assert text.count('custom_call_target="__gpu$xla.gpu.triton"') >= 2 * layers
    # Each card attends within its own rows: only gradients and counts travel.
    assert "all-reduce" in text
    assert "all-gather" not in text
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < chip.memory
