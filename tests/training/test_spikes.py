"""Loss spikes: what counts as one, and that a run goes back from it, leaves its batches out, and stays
repeatable.
"""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fault_injection import outcome
from jax.experimental.compilation_cache import compilation_cache

from dnabert2_jax.cli.main import main
from dnabert2_jax.config import load_settings
from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.windows import WindowSource
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training import pretrain as loop
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.spikes import History, LossWatch, Rewind
from dnabert2_jax.training.state import initial_state


def watch_all(losses, factor=1.5, patience=4) -> list[LossWatch]:
    watches = [LossWatch()]
    for loss in losses:
        watches.append(watches[-1].after(loss, factor=factor, patience=patience))
    return watches[1:]


class TestTheWatch:
    def test_noise_and_a_slow_rise_are_no_spike(self):
        noise = np.random.default_rng(0).normal(3.0, 0.3, 2000)
        assert not any(watch.high for watch in watch_all(noise))
        rise = np.linspace(2.0, 6.0, 2000)
        assert not any(watch.high for watch in watch_all(rise))

    def test_a_spike_counts_its_steps(self):
        # With a patience of 4 the smoothed loss goes from 2 to 8 by quarters of the way: 3.5 is above 3.
        watches = watch_all([2.0] * 50 + [8.0] * 5)
        assert [watch.high for watch in watches[-5:]] == [1, 2, 3, 4, 5]
        assert watches[-1].level == pytest.approx(2.0)
        assert watches[-1].recent == pytest.approx(8 - 6 * 0.75**5)

    def test_it_is_over_when_the_loss_falls(self):
        watches = watch_all([2.0] * 50 + [8.0] * 2 + [2.0] * 20)
        assert watches[51].high == 2
        assert watches[-1].high == 0

    def test_a_loss_that_is_not_finite_does_not_count(self):
        assert (
            watch_all([2.0, math.nan, 2.0, math.inf, 2.0])
            == watch_all([2.0] * 1) * 2 + watch_all([2.0] * 2)[1:] * 2 + watch_all([2.0] * 3)[2:]
        )


def test_the_data_position_moves_on_with_each_rewind():
    history = History(
        rewinds=(
            Rewind(from_step=17, to_step=10, loss=5.0),
            Rewind(from_step=24, to_step=20, loss=5.0),
        )
    )
    # Step 10's successor took batch 10 at first, and then batch 17; after step 20 came 27, and then 31.
    assert History().data_position(10) == 10
    assert History(rewinds=history.rewinds[:1]).data_position(10) == 17
    assert history.data_position(20) == 31
    assert [rewind.from_step for rewind in history.rewinds_to(10)] == [17]


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Keeps compiled programs between the many short runs."""
    changes = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


BAD = {22, 23, 24, 40, 41, 42}  # batches, by their place in the data
SETTINGS = {
    "model.num_hidden_layers": 1,
    "training.steps": 45,
    "training.batch_size": 4,
    "training.checkpoint_every": 10,
    "training.evaluate_every": 25,
    "training.spike_factor": 1.5,
    "training.spike_steps": 3,
    "training.compilation_cache": "",
}


@pytest.fixture
def words(compiled_once, tiny_config, tiny_corpus) -> list[str]:
    del compiled_once
    changes = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return ["pretrain", str(tiny_config), "--corpus", str(tiny_corpus), *changes]


@pytest.fixture
def settings(tiny_config) -> PretrainSettings:
    return load_settings(
        PretrainSettings, str(tiny_config), [f"--{n}={value}" for n, value in SETTINGS.items()]
    )


@pytest.fixture
def batches(tiny_corpus, settings) -> WindowSource:
    training = settings.training
    return WindowSource(
        Corpus.open(tiny_corpus),
        batch_size=training.batch_size,
        length=settings.data.sequence_length,
        seed=training.seed,
        steps=200,
        species_weights=settings.data.species_weights,
    )


class Killed(BaseException):
    """Ends a run at once, without a chance to save."""


@pytest.fixture
def poison(monkeypatch, batches):
    """Makes the bad batches ruin the parameters; poison(n) ends the run in its n-th step from now."""
    bad = [batches[number]["input_ids"] for number in sorted(BAD)]
    remaining = {"steps": -1}

    def make(*arguments):
        step = make_train_step(*arguments)

        def poisoned(state, batch):
            remaining["steps"] -= 1
            if remaining["steps"] == 0:
                raise Killed
            ids = jax.device_get(batch["input_ids"])
            state, metrics = step(state, batch)
            if any(np.array_equal(ids, other) for other in bad):
                with jax.transfer_guard("allow"):
                    state = state._replace(
                        parameters=jax.tree.map(lambda array: array * 1.5, state.parameters)
                    )
                    metrics = metrics | {"loss": metrics["loss"] * 3}
            return state, metrics

        return poisoned

    monkeypatch.setattr(loop, "make_train_step", make)
    return lambda steps: remaining.update(steps=steps)


@pytest.mark.slow
def test_a_run_goes_back_and_leaves_the_batches_out(words, settings, batches, poison, tmp_path, capsys):
    del poison
    assert main([*words, "--output", str(tmp_path / "run")]) == 0
    rows = read(tmp_path / "run")
    rewinds = [row for row in rows if row["kind"] == "rewind"]
    assert [(row["from_step"], row["to_step"], row["step"]) for row in rewinds] == [
        (25, 20, 21),
        (38, 30, 31),
    ]
    # Smoothing over 3 steps is above 1.5 times the level from the first bad batch on.
    assert "step 25: the loss has risen from" in capsys.readouterr().err
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == [*range(3, 46, 3)]

    # By hand: 20 steps, on with batch 25, which is past the first spike, 10 more, and on past the second.
    order = [*range(20), *range(25, 35), *range(43, 58)]
    assert not BAD & set(order)
    optimizer = make_optimizer(settings.optimizer, settings.training.steps)
    step = make_train_step(settings, optimizer, make_mesh(settings.mesh))
    state = initial_state(settings.model, optimizer, settings.training.seed)
    losses = []
    for number in order:
        state, metrics = step(state._replace(position=jnp.int32(number)), batches[number])
        losses.append(float(metrics["loss"]))
    assert [row["loss"] for row in rows if row["kind"] == "train"] == losses[2::3]
    kept = from_pretrained(tmp_path / "run" / "model").parameters
    for name, value in state.parameters.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(kept[name]), err_msg=name)


@pytest.mark.slow
def test_a_killed_run_goes_back_alike(words, poison, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*words, "--output", str(whole)]) == 0
    # In the first spike, just after going back, before a checkpoint, in the second spike, after it.
    for steps in (24, 6, 4, 9, 11, 14):
        poison(steps)
        with pytest.raises(Killed):
            main([*words, "--output", str(killed)])
    poison(-1)
    assert main([*words, "--output", str(killed)]) == 0
    assert outcome(killed) == outcome(whole)


@pytest.mark.slow
def test_a_run_goes_back_so_often_and_no_more(words, poison, tmp_path, capsys):
    del poison
    assert main([*words, "--output", str(tmp_path / "run"), "--training.spike_rewinds=1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "after going back 1 times" in error
    assert (tmp_path / "run" / "checkpoints" / "30").is_dir()


def read(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
