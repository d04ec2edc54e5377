"""The table of chips: devices by the names that JAX gives them."""

import pytest

from dnabert2_jax.parallel.chips import chip_of
from dnabert2_jax.parallel.cuda_targets import CUDA_TARGETS


@pytest.mark.parametrize(
    ("device_kind", "name", "teraflops"),
    [
        ("TPU v5 lite", "TPU v5e", 197),
        ("TPU v5", "TPU v5p", 459),
        ("TPU v6 lite", "TPU v6e", 918),
        ("NVIDIA H200", "H200 SXM", 989.4),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", 989.4),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", 503.8),
    ],
)
def test_devices_are_found_by_their_kind(device_kind, name, teraflops):
    chip = chip_of(device_kind)
    assert chip is not None
    assert chip.name == name
    assert chip.flops == teraflops * 1e12


@pytest.mark.parametrize("device_kind", ["cpu", "TPU v2", "NVIDIA Quadro", ""])
def test_other_devices_are_unknown(device_kind):
    assert chip_of(device_kind) is None


def test_a_tpu7x_chip_is_two_devices():
    chip = chip_of("TPU7x")
    assert chip is not None
    assert 2 * chip.flops == 2307e12
    assert 2 * chip.memory == 192 * 2**30


def test_cards_to_compile_for_are_listed():
    assert all(chip_of(target.name) is not None for target in CUDA_TARGETS.values())
