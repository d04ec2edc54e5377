"""Training on 1, 2 and 8 devices: the same batches, masks and dropout, so the same losses to rounding."""

import json

import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.mesh import make_mesh

_RUN_ON_EACH = """
import sys
import jax
from dnabert2_jax.cli.main import main
config, corpus, output = sys.argv[1:]
assert len(jax.devices()) == 8
for devices in ("1", "2", "8"):
    status = main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/{devices}", "--mesh.data",
                   devices, "--training.steps", "40", "--model.num_hidden_layers", "1"])
    assert status == 0
# Resumed on other devices than it was started on.
status = main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/1", "--mesh.data", "8",
               "--training.steps", "43", "--model.num_hidden_layers", "1"])
assert status == 0
print(main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/none", "--mesh.data", "8",
            "--training.batch_size", "12"]))
"""


@pytest.mark.multiprocess
def test_losses_do_not_depend_on_the_number_of_devices(start_python, tiny_config, tiny_corpus, tmp_path):
    process = start_python(
        _RUN_ON_EACH,
        tiny_config,
        tiny_corpus,
        tmp_path,
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors

    rows = {devices: read(tmp_path / devices / "metrics.jsonl") for devices in ("1", "2", "8")}
    for devices in ("2", "8"):
        for alone, shared in zip(rows["1"], rows[devices], strict=False):
            assert (shared["kind"], shared["step"]) == (alone["kind"], alone["step"])
            # Sums in another order: ten float32 roundings of 4 nats, each 5e-7.
            for name in ("loss", "masked_loss", "mixed_loss"):
                if name in alone:
                    assert shared[name] == pytest.approx(alone[name], abs=5e-6), (devices, alone["step"])
    assert rows["1"][-1]["step"] == 43  # carried on by 8 devices

    assert output.splitlines()[-1] == "2"
    assert "training.batch_size 12 does not divide by the 8 devices" in errors.splitlines()[-1]
    assert not (tmp_path / "none").exists()


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"mesh\.data is 4096, but there are"):
        make_mesh(4096)


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
