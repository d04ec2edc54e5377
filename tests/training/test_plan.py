"""Planning without compilers for absent devices: arithmetic of the roofline and of memory, and refusals."""

import importlib.util

import jax
import pytest

from dnabert2_jax.cli.main import main
from dnabert2_jax.config import load_settings
from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.chips import Chip
from dnabert2_jax.parallel.topologies import absent_devices
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training import largest_batch
from dnabert2_jax.training.absent import Memory
from dnabert2_jax.training.largest_batch import find_largest_batch
from dnabert2_jax.training.plan import CollectiveSum, Work, roofline, step_flops

CHIP = Chip("a chip", flops=1e12, memory=1 << 30, bandwidth=1e9, link=1e8, usable=1.0)
needs_no_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed here"
)


@pytest.fixture(autouse=True)
def platform(monkeypatch):
    """The command hides the machine's own devices from JAX, for as long as the test takes."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def settings():
    return load_settings(PretrainSettings, "dnabert2_117m_paper", ["--training.batch_size", "64"])


def work(flops, moved, sent):
    sums = [CollectiveSum("all-reduce", 8, 1, sent, sent)]
    return Work(flops, "XLA's cost analysis", moved, "arrays", None, sums)


@pytest.mark.parametrize(
    ("flops", "moved", "sent", "limited_by", "step"),
    [
        (4e12, 1_000_000_000, 100_000_000, "compute", 4.0),
        (1e12, 5_000_000_000, 100_000_000, "memory", 5.0),
        (1e12, 1_000_000_000, 600_000_000, "links", 6.0),
    ],
)
def test_a_step_takes_as_long_as_the_slowest_of_three(settings, flops, moved, sent, limited_by, step):
    bound = roofline(settings, work(flops, moved, sent), CHIP, model_flops=1e12)
    assert bound.limited_by == limited_by
    assert bound.step == step
    assert bound.step_without_overlap == bound.compute + bound.memory + bound.links
    assert bound.tokens_per_second == 64 * 128 / step
    assert bound.mfu == 1 / step


def test_flops_of_a_step_are_those_of_full_rows(settings):
    per_token = 6 * (12 * (4 * 768**2 + 3 * 768 * 3072) + 0.15 * (768**2 + 768 * 4096)) + 144 * 128 * 768
    assert step_flops(settings) == pytest.approx(64 * 128 * per_token, rel=1e-12)


def linear(monkeypatch, *, fixed, per_row, usable, limit=None):
    """In the place of the compiler: memory that is linear in the rows; above `limit` it gives up."""
    compiled = []

    def memory(rows, _device=None):
        compiled.append(rows)
        total = fixed + per_row * rows
        if limit is not None and total > limit:
            return Memory(None, total, None, None, total, usable)
        return Memory(fixed, per_row * rows, 0, 0, total, usable)

    monkeypatch.setattr(largest_batch, "compile_step", lambda settings, _: settings.training.batch_size)
    monkeypatch.setattr(largest_batch, "memory_of", memory)
    return memory, compiled


@pytest.mark.parametrize("batch", [64, 400, 5000])
def test_largest_batch_fills_the_memory(monkeypatch, settings, batch):
    memory, compiled = linear(monkeypatch, fixed=1000, per_row=10, usable=11_000, limit=12_000)
    sized = largest_batch.with_batch(settings, batch)
    found = find_largest_batch(sized, jax.devices()[:1], memory(batch))
    assert found.batch_size == 1000
    assert len(compiled) <= 3


def test_rows_that_micro_batches_cannot_share_are_left_out(monkeypatch):
    memory, _ = linear(monkeypatch, fixed=1000, per_row=10, usable=11_000)
    accumulating = load_settings(
        PretrainSettings, "dnabert2_117m_paper", ["--training.batch_size=64", "--training.accumulate=16"]
    )
    assert find_largest_batch(accumulating, jax.devices()[:1], memory(64)).batch_size == 992


def test_no_batch_fits_where_the_state_does_not(monkeypatch, settings):
    memory, _ = linear(monkeypatch, fixed=20_000, per_row=10, usable=11_000, limit=12_000)
    found = find_largest_batch(settings, jax.devices()[:1], memory(64))
    assert found.batch_size == 0
    assert "does not fit" in found.source


@pytest.mark.parametrize(
    "name", ["v5e", "v5e:", "v5e:4by4", "v9:2x2", "h100", "h100:0", "h100:2x2", "cpu:4", ""]
)
def test_what_is_no_topology_is_refused(name):
    with pytest.raises(UserError, match="is no topology; name TPUs"):
        absent_devices(name)


@needs_no_libtpu
def test_missing_compilers_are_named(capsys):
    assert main(["plan", "tiny", "--topology", "v5e:2x2"]) == 2
    assert "pip install 'jax[tpu]'" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_compiled(tmp_path, capsys):
    assert main(["plan", "tiny", "--topology", "v5e:2x2", "--output", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
