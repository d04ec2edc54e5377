"""`dnabert2 plan` compiles for absent chips, and the collectives of the step are those that are kept."""

import importlib.util
import json
import os

import pytest
from plan_cases import CASES, GOLDEN, make_plan, summary

from dnabert2_jax.cli.main import main

pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(os.environ.get("JAX_PLATFORMS") != "cpu", reason="needs JAX_PLATFORMS=cpu"),
]
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_plugins") is None
    or importlib.util.find_spec("jax_plugins.xla_cuda13") is None,
    reason="needs jax-cuda13-plugin",
)


@needs_libtpu
@pytest.mark.parametrize("case", CASES)
def test_collectives_are_as_recorded(case):
    found = make_plan(case)
    recorded = json.loads((GOLDEN / f"{case}.json").read_text())
    now = summary(case, found)
    assert (now["topology"], now["settings"]) == (recorded["topology"], recorded["settings"])
    counts = {name: figures["count"] for name, figures in now["collectives"].items()}
    assert counts == {name: figures["count"] for name, figures in recorded["collectives"].items()}
    for name, figures in now["collectives"].items():
        assert figures["bytes"] == pytest.approx(recorded["collectives"][name]["bytes"], rel=0.1), name
    assert found.memory.fits


@needs_libtpu
def test_data_parallel_chips_exchange_gradients_and_little_else():
    # Half of the bytes of the parameters: bfloat16 gradients of matrices, and float32 ones of what is small.
    collectives = json.loads((GOLDEN / "v5p_data.json").read_text())["collectives"]
    assert set(collectives) == {"all-reduce among 16"}
    assert collectives["all-reduce among 16"]["bytes"] == pytest.approx(2 * 117e6, rel=0.1)


TINY = (
    *("tiny", "--training.batch_size=64", "--model.hidden_size=128", "--model.num_attention_heads=2"),
    *("--model.intermediate_size=256", "--model.num_hidden_layers=1", "--data.sequence_length=128"),
)


@needs_libtpu
@pytest.mark.parametrize("topology", ["v6e:2x4", "tpu7x:2x2x1"])
def test_command_for_tpus(topology, tmp_path, capsys):
    output = tmp_path / "plan.json"
    assert main(["plan", *TINY, "--topology", topology, "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["devices"] == 8
    assert found["work"]["flops_source"] == "XLA's cost analysis"
    assert found["bound"]["step"] == max(found["bound"][name] for name in ("compute", "memory", "links"))
    assert found["largest_batch"]["batch_size"] > 64
    assert ["xla", "runs"] in found["attention"]
    printed = capsys.readouterr().out
    assert "not pallas_tpu_short: its numbers have not been checked" in printed
    assert "batch that fits" in printed


@needs_cuda
def test_command_for_gpus(tmp_path):
    output = tmp_path / "plan.json"
    assert main(["plan", *TINY, "--topology", "h100:8", "--no-largest-batch", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["chip"] == "H100 SXM"
    assert found["work"]["flops_source"].startswith("our formula")
    assert found["work"]["xla_bytes"] is None
    assert {one["kind"] for one in found["work"]["collectives"]} == {"all-reduce"}


@needs_libtpu
def test_a_batch_that_does_not_fit_is_said_not_to(capsys):
    words = ["plan", *TINY, "--topology", "v5e:2x2", "--training.batch_size=4000000", "--no-largest-batch"]
    assert main(words) == 0
    assert "does not fit: 15.68 GiB are usable" in capsys.readouterr().out
