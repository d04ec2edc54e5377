"""Checkpoints: what is saved comes back, what was not finished does not count, and few are kept."""

import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.parallel.mesh import make_mesh, replicated
from dnabert2_jax.settings import MeshSettings, OptimizerSettings
from dnabert2_jax.training.checkpoints import Checkpoints
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.state import initial_state


@pytest.fixture
def state(tiny_architecture):
    made = initial_state(tiny_architecture, make_optimizer(OptimizerSettings(), 100_000), 0)
    return jax.device_put(made, replicated(make_mesh(MeshSettings(data=1))))


def steps_in(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_round_trip(tmp_path, state):
    state = state._replace(step=jnp.int32(7))
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(7, state)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.latest_step == 7
        again = checkpoints.load(7, state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_a_state_may_be_overwritten_once_it_is_being_saved(tmp_path, state):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda array: array * 0 - 1, tree), donate_argnums=0)
    expected = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state)
        jax.block_until_ready(spoil(state))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        like = jax.tree.map(jnp.asarray, expected)
        for old, new in zip(
            jax.tree.leaves(expected), jax.tree.leaves(checkpoints.load(1, like)), strict=True
        ):
            np.testing.assert_array_equal(new, old)


def test_the_newest_and_the_best_are_kept(tmp_path):
    small = {"a": jnp.arange(3.0)}
    losses = {10: 3.0, 20: None, 30: 1.0, 40: 2.0, 50: None, 60: 2.5}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, {"a": small["a"] + step}, loss)
        assert checkpoints.best_step == 30
    assert steps_in(tmp_path) == [30, 50, 60]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert (checkpoints.best_step, checkpoints.latest_step) == (30, 60)
        np.testing.assert_array_equal(checkpoints.load(30, small)["a"], np.arange(3.0) + 30)


def test_what_an_interrupted_write_left_is_ignored_and_removed(tmp_path):
    small = {"a": jnp.arange(3.0)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(10, small)
    # What Orbax has begun, what lacks its manifest yet, and what was being removed.
    unfinished = [tmp_path / name for name in ("20.writing.orbax-checkpoint-tmp", "15.writing", "5.removing")]
    for folder in unfinished:
        folder.mkdir()
        (folder / "_METADATA").write_text("{")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest_step == 10
        checkpoints.save(20, {"a": small["a"] + 20})
    assert steps_in(tmp_path) == [10, 20]
    assert not any(folder.exists() for folder in unfinished)


def test_each_k_th_is_kept_for_good_and_the_newest_that_may_be_gone_back_to(tmp_path):
    with Checkpoints(tmp_path, keep=1, keep_every=30) as checkpoints:
        for step in range(10, 110, 10):
            checkpoints.save(step, {"a": jnp.arange(3.0) + step}, good=step in (40, 50))
        assert checkpoints.newest_good_step == 50
    assert steps_in(tmp_path) == [30, 50, 60, 90, 100]


def test_going_back_removes_what_came_later_and_changes_the_notes(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (10, 20, 30):
            checkpoints.save(step, {"a": jnp.arange(3.0) + step}, notes={"at": step})
        checkpoints.go_back(10, {"at": 10, "from": 35})
        checkpoints.save(20, {"a": jnp.arange(3.0)})
    assert steps_in(tmp_path) == [10, 20]
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert checkpoints.notes(10) == {"at": 10, "from": 35}
        np.testing.assert_array_equal(checkpoints.load(10, {"a": jnp.zeros(3)})["a"], np.arange(3.0) + 10)
        checkpoints.go_back(None, {})
        assert checkpoints.latest_step is None
    assert steps_in(tmp_path) == []


def test_a_state_is_restored_onto_another_mesh(tmp_path, start_python):
    """Saved from 4 devices that split it, read onto 2, onto 8, and onto one."""
    code = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from dnabert2_jax.training.checkpoints import Checkpoints

whole = np.arange(64, dtype=np.float32).reshape(16, 4)
def split(count, axis):
    mesh = jax.make_mesh((count,), ("a",), devices=jax.devices()[:count])
    return NamedSharding(mesh, PartitionSpec(*(["a"] if axis == 0 else [None, "a"])))
with Checkpoints(Path(sys.argv[1]), keep=1) as checkpoints:
    checkpoints.save(1, {"w": jax.device_put(whole, split(4, 1))})
for count in (2, 8, 1):
    with Checkpoints(Path(sys.argv[1]), keep=1) as checkpoints:
        like = {"w": jax.ShapeDtypeStruct(whole.shape, whole.dtype, sharding=split(count, 0))}
        found = checkpoints.load(1, like)["w"]
    assert found.sharding == like["w"].sharding
    assert len(found.addressable_shards) == count
    np.testing.assert_array_equal(found, whole)
"""
    process = start_python(code, tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors


def data_file(checkpoint: Path) -> Path:
    files = [path for path in (checkpoint / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(checkpoint: Path) -> None:
    os.truncate(data_file(checkpoint), data_file(checkpoint).stat().st_size - 1)


def flip_a_bit(checkpoint: Path) -> None:
    data = bytearray(data_file(checkpoint).read_bytes())
    data[len(data) // 2] ^= 1
    data_file(checkpoint).write_bytes(data)


def lose_a_file(checkpoint: Path) -> None:
    data_file(checkpoint).unlink()


def lose_half(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "state")


def lose_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def cut_the_manifest(checkpoint: Path) -> None:
    os.truncate(checkpoint / "manifest.json", 100)


def change_the_manifest(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    text = path.read_text()
    assert text.count('"step":20') == 1
    path.write_text(text.replace('"step":20', '"step":21'))


HARMS = {
    truncate: "has .* bytes in place of",
    flip_a_bit: "has other bytes than were written",
    lose_a_file: "is missing",
    lose_half: "is missing",
    lose_the_manifest: "manifest.json is missing",
    cut_the_manifest: "manifest.json cannot be read",
    change_the_manifest: "manifest.json was changed",
}


@pytest.fixture
def three_saved(tmp_path) -> Path:
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (0, 10, 20):
            checkpoints.save(step, {"a": jnp.arange(300.0) + step}, held_out_loss=1 / (step + 1))
    return tmp_path


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(harm, three_saved):
    harm(three_saved / "20")
    with pytest.warns(InputWarning, match=rf"20: the checkpoint is damaged \(.*{HARMS[harm]}.* 20.damaged"):
        checkpoints = Checkpoints(three_saved, keep=3)
    with checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (10, 10)
        found = checkpoints.load(10, {"a": jnp.zeros(300)})
        checkpoints.save(20, found)
    np.testing.assert_array_equal(found["a"], np.arange(300.0) + 10)
    assert sorted(path.name for path in three_saved.iterdir()) == ["0", "10", "20", "20.damaged"]
    # The same once more: the evidence of the first time is kept.
    harm(three_saved / "20")
    with pytest.warns(InputWarning), Checkpoints(three_saved, keep=3) as checkpoints:
        assert checkpoints.latest_step == 10
    assert sorted(path.name for path in three_saved.iterdir()) == ["0", "10", "20.damaged", "20.damaged-2"]


def test_an_older_one_that_is_damaged_is_found_when_it_is_wanted(three_saved):
    with Checkpoints(three_saved, keep=3) as checkpoints:
        checkpoints.save(30, {"a": jnp.arange(300.0)}, held_out_loss=5.0)
    flip_a_bit(three_saved / "20")  # the best
    with Checkpoints(three_saved, keep=3) as checkpoints:
        assert checkpoints.latest_step == 30
        with pytest.warns(InputWarning, match="20: the checkpoint is damaged"):
            assert checkpoints.best_step == 10


def test_where_all_are_damaged_nothing_is_begun_anew_unasked(three_saved):
    for step in (0, 10, 20):
        flip_a_bit(three_saved / str(step))
    with pytest.warns(InputWarning), pytest.raises(UserError, match="all checkpoints are damaged"):
        Checkpoints(three_saved, keep=3)
    with pytest.raises(UserError, match="all checkpoints are damaged"):
        Checkpoints(three_saved, keep=3)
    for path in three_saved.iterdir():
        shutil.rmtree(path)
    with Checkpoints(three_saved, keep=3) as checkpoints:
        assert checkpoints.latest_step is None
