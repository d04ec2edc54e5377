"""Training on 1, 2 and 8 devices: the same batches, masks and dropout, so the same losses to rounding."""

import json
from dataclasses import dataclass

import msgspec
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import FinetuneSettings, MeshSettings, PretrainSettings
from dnabert2_jax.training.divisibility import (
    refuse_finetuning_that_does_not_divide,
    refuse_what_does_not_divide,
)

_RUN_ON_EACH = """
import sys
import jax
from dnabert2_jax.cli.main import main
from dnabert2_jax.settings import MeshSettings, PretrainSettings
from dnabert2_jax.training.divisibility import refuse_what_does_not_divide
config, corpus, output = sys.argv[1:]
assert len(jax.devices()) == 8
for devices in ("1", "2", "8"):
    status = main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/{devices}", "--mesh.data",
                   devices, "--training.steps", "40", "--model.num_hidden_layers", "1"])
    assert status == 0
# Resumed on another mesh than it was started on.
status = main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/1", "--mesh.fsdp", "2",
               "--mesh.tensor", "2", "--mesh.sequence", "2", "--training.accumulate", "4",
               "--training.steps", "43", "--model.num_hidden_layers", "1"])
assert status == 0
print(main(["pretrain", config, "--corpus", corpus, "--output", f"{output}/none", "--mesh.data", "8",
            "--training.batch_size", "12"]))
"""


@pytest.mark.slow
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
    assert rows["1"][-1]["step"] == 43  # carried on by 8 devices, which split all there is to split

    assert output.splitlines()[-1] == "2"
    assert "training.batch_size 12 does not divide by the 8 devices" in errors.splitlines()[-1]
    assert not (tmp_path / "none").exists()


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"mesh\.data is 4096, but there are"):
        make_mesh(MeshSettings(data=4096))


@dataclass(frozen=True)
class Device:
    """What is asked of a device that is not there."""

    id: int
    platform: str = "cpu"
    process_index: int = 0
    slice_index: int = 0
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0
    device_kind: str = "no kind"


def test_data_takes_what_the_other_axes_leave():
    devices = [Device(number) for number in range(8)]
    mesh = make_mesh(MeshSettings(fsdp=2, tensor=2), devices)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    # Neighbours along the last axis are neighbours.
    assert [device.id for device in mesh.devices[0, 0, 0]] == [0, 1]
    assert make_mesh(MeshSettings(data=1, fsdp=4), devices).size == 4


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"fsdp": 3}, r"fsdp 3 × sequence 1 × tensor 1 takes a multiple of 3 devices, but there are 8 here"),
        ({"fsdp": 4, "tensor": 4}, r"takes a multiple of 16 devices, but there are 8 here"),
        (
            {"data": 4, "sequence": 4},
            r"mesh\.data is 4, times fsdp 1 × sequence 4 × tensor 1, but there are 8",
        ),
    ],
)
def test_devices_that_do_not_suffice_are_refused(sizes, sentence):
    with pytest.raises(UserError, match=sentence):
        make_mesh(MeshSettings(**sizes), [Device(number) for number in range(8)])


def test_no_process_is_left_without_a_device():
    devices = [Device(number, process_index=number // 2) for number in range(4)]
    with pytest.raises(UserError, match="uses 2 of 4 devices, which leaves process 1 without any"):
        make_mesh(MeshSettings(data=2), devices)


def slices(count: int) -> list[Device]:
    """TPUs in slices of 2 × 2, in an order that tells nothing."""
    places = [(part, x, y) for x in range(2) for y in range(2) for part in range(count)]
    return [
        Device(number, platform="tpu", slice_index=part, coords=(x, y, 0))
        for number, (part, x, y) in enumerate(places)
    ]


def test_slices_lie_along_the_data_axis():
    mesh = make_mesh(MeshSettings(fsdp=4), slices(2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4, "sequence": 1, "tensor": 1}
    for part in range(2):
        assert {device.slice_index for device in mesh.devices[part].flat} == {part}
    with pytest.raises(
        UserError, match=r"in 2 slices, which split the batch, and mesh\.data 1 does not divide"
    ):
        make_mesh(MeshSettings(fsdp=8), slices(2))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"training": {"batch_size": 12}},
            "training.batch_size 12 does not divide by the 8 devices that split it",
        ),
        (
            {"training": {"batch_size": 8, "accumulate": 2}},
            "by the 8 devices that split it, times training.accumulate 2",
        ),
        ({"mesh": {"tensor": 8}}, "model.num_attention_heads 12 does not divide by mesh.tensor 8"),
        (
            {"mesh": {"sequence": 8}, "data": {"sequence_length": 100}},
            "data.sequence_length 100 does not divide by",
        ),
    ],
)
def test_what_does_not_divide_is_refused_by_name(change, sentence):
    settings = msgspec.convert({"training": {"batch_size": 16}} | change, PretrainSettings)
    mesh = make_mesh(settings.mesh, [Device(number) for number in range(8)])
    with pytest.raises(UserError, match=sentence):
        refuse_what_does_not_divide(settings, mesh)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"training": {"batch_size": 12}}, "training.batch_size 12 does not divide by the 8 devices"),
        ({"mesh": {"tensor": 8}}, "model.num_attention_heads 12 does not divide by mesh.tensor 8"),
        ({"mesh": {"sequence": 8}}, "mesh.sequence is 8, but fine-tuning has rows of several lengths"),
    ],
)
def test_what_does_not_divide_in_finetuning_is_refused_by_name(change, sentence):
    settings = msgspec.convert(change, FinetuneSettings)
    mesh = make_mesh(settings.mesh, [Device(number) for number in range(8)])
    with pytest.raises(UserError, match=sentence):
        refuse_finetuning_that_does_not_divide(settings, Architecture(), mesh)


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
