"""`dnabert2 doctor` names versions, devices and the body of the attention op that runs."""

import jax
import pytest

from dnabert2_jax.cli import doctor
from dnabert2_jax.cli.main import main


def test_it_tells_what_is_here_and_what_runs(capsys):
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert jax.__version__ in output
    assert f"× {jax.devices()[0].device_kind}" in output
    assert "GiB in the machine" in output
    words = [line.split() for line in output.splitlines()]
    for length in ("128", "512", "2048", "8192"):
        assert [length, "blockwise", "blockwise"] in words


def test_it_says_why_the_kernels_of_another_device_do_not_run():
    lines = doctor._attention("tpu", "TPU v5 lite")
    assert ["128", "xla", "xla"] in [line.split() for line in lines]
    assert "  pallas_tpu_short: its numbers have not been checked on TPU v5 lite" in lines


def test_it_tells_the_memory_of_devices_that_know_theirs():
    lines = doctor._memory({"cuda:0": {"bytes_limit": 80 * 2**30}, "cpu:0": {}})
    assert lines[0] == "80.0 GiB on cuda:0"
    assert len(lines) == 2


def test_it_points_to_a_gpu_that_jax_does_not_see(monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda _: True)
    (note,) = doctor._unused_hardware("cpu")
    assert "dnabert2-jax[gpu]" in note
    assert doctor._unused_hardware("gpu") == []


def test_it_takes_no_arguments(capsys):
    assert main(["doctor", "--device", "0"]) == 2
    assert "--device" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_its_help_has_an_example(capsys, word):
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", word])
    assert "dnabert2 doctor" in capsys.readouterr().out
