"""The clock of a run: its figures against arithmetic, its sums over several starts, and a real run's log."""

import numpy as np
import pytest

from dnabert2_jax.config import load_settings
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.clock import TIMINGS, Clock, count_tokens
from dnabert2_jax.training.pretrain import pretrain
from dnabert2_jax.training.run_log import read_rows

ARCHITECTURE = Architecture(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
)
FULL_ROWS = np.ones((8, 16), np.int32)


class Hands:
    """Time that passes when the test says so; it began in 1970."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def hands():
    return Hands()


@pytest.fixture
def clock(hands):
    return make_clock(hands)


def make_clock(hands, peak=None):
    return Clock(ARCHITECTURE, predicted_share=0.25, peak=peak, perf_counter=hands, now=hands)


def test_padding_and_packed_segments_are_counted():
    segment_ids = np.array([[1, 1, 1, 1], [1, 1, 2, 0], [1, 2, 3, 3], [0, 0, 0, 0]])
    counts = count_tokens(segment_ids)
    assert counts.places == 16
    assert counts.tokens == 4 + 3 + 4
    assert counts.pairs == 4 * 4 + (2 * 2 + 1) + (1 + 1 + 2 * 2)


def test_speed_is_that_of_real_tokens_in_the_time_that_steps_took(clock, hands):
    half = FULL_ROWS.copy()
    half[:, 8:] = 0
    clock.add(1, count_tokens(half))
    clock.add(2, count_tokens(half), parts=4)
    with clock.spent("input"):
        hands.seconds += 1
    for lost in ("compilation", "checkpoint", "evaluation"):
        with clock.spent(lost):
            hands.seconds += 10
    hands.seconds += 3
    row = clock.lap(2)
    assert row["seconds"] == 4
    assert row["tokens_per_second"] == (64 + 4 * 64) / 4
    assert row["real_token_share"] == 0.5
    assert row["input_share"] == 0.25
    assert "mfu" not in row


def test_batches_that_are_under_way_count_in_their_own_lap(clock, hands):
    for step in (1, 2):
        clock.add(step, count_tokens(FULL_ROWS))
    hands.seconds += 1
    assert clock.lap(1)["tokens_per_second"] == 128
    hands.seconds += 2
    assert clock.lap(2)["tokens_per_second"] == 64


def test_model_flops_and_mfu_by_hand(hands):
    clock = make_clock(hands, peak=1e9)
    clock.add(1, count_tokens(FULL_ROWS))
    hands.seconds += 2
    row = clock.lap(1)
    dense = 128 * (4 * 32 * 32 + 3 * 32 * 64)
    attention = 8 * 16 * 16 * 2 * 32
    head = 32 * (32 * 32 + 32 * 64)
    flops = 3 * 2 * (2 * (dense + attention) + head)
    assert row["model_flops_per_second"] == flops / 2
    assert row["mfu"] == round(flops / 2 / 1e9, 4)


def test_time_adds_up_over_a_restart(clock, hands):
    with clock.spent("compilation"):
        hands.seconds += 5
    with clock.spent("input"):
        hands.seconds += 1
    hands.seconds += 4
    kept = clock.lap(1)
    assert kept["time"]["goodput"] == 0.4
    # Killed half-way through the next stretch, and started again a minute later.
    hands.seconds += 60
    again = make_clock(hands)
    hands.seconds += 2
    again.go_back_to(kept)
    with again.spent("checkpoint"):
        hands.seconds += 3
    hands.seconds += 5
    times = again.lap(2)["time"]
    assert times["began"] == kept["time"]["began"]
    assert times["elapsed"] == 80
    expected = {"steps": 9, "input": 1, "compilation": 5, "checkpoint": 3, "evaluation": 0, "starts": 62}
    assert {name: times[name] for name in expected} == expected
    assert times["goodput"] == round(9 / 80, 4)


def test_without_a_kept_line_all_that_was_done_is_lost(clock, hands):
    clock.add(1, count_tokens(FULL_ROWS))
    hands.seconds += 3
    clock.lap(1)
    clock.go_back_to(None)
    hands.seconds += 1
    times = clock.lap(2)["time"]
    assert times["steps"] == 1
    assert times["starts"] == 3


@pytest.mark.slow
def test_log_and_profile_of_a_run(tiny_config, tiny_corpus, tmp_path):
    def settings(steps):
        return load_settings(
            PretrainSettings,
            str(tiny_config),
            ["--training.steps", str(steps), "--training.profile_steps", "4:5"],
        )

    run = pretrain(settings(24), tiny_corpus, tmp_path / "run")
    run = pretrain(settings(48), tiny_corpus, tmp_path / "run")
    rows = [row for row in read_rows(run.metrics) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(3, 49, 3))
    for row in rows:
        assert set(row) >= set(TIMINGS) - {"mfu"}
        assert "mfu" not in row
        # Windows of 32 from records that are longer.
        assert row["real_token_share"] > 0.9
        times = row["time"]
        parts = ("steps", "input", "compilation", "checkpoint", "evaluation", "starts")
        assert sum(times[name] for name in parts) == pytest.approx(times["elapsed"], abs=0.01)
    first, last = rows[0]["time"], rows[-1]["time"]
    assert last["began"] == first["began"]
    assert last["compilation"] > first["compilation"] > 0
    assert last["elapsed"] > sum(row["seconds"] for row in rows)
    assert list(run.profile.rglob("*.xplane.pb"))
