"""metrics.jsonl: appended, read, and cut back to where a run resumes."""

import pytest

from dnabert2_jax.training.run_log import append_row, cut_back, read_rows


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        append_row(path, {"kind": "train", "step": step, "loss": 1 / step})
    return path


def test_rows_come_back_as_they_were(log):
    assert read_rows(log)[1] == {"kind": "train", "step": 20, "loss": 0.05}
    assert read_rows(log.parent / "none") == []


def test_cut_back_keeps_the_checkpoint_s_own_step(log):
    cut_back(log, 20)
    assert [row["step"] for row in read_rows(log)] == [10, 20]
    append_row(log, {"step": 21})
    assert [row["step"] for row in read_rows(log)] == [10, 20, 21]


def test_a_line_that_a_crash_cut_short_is_dropped(log):
    whole = log.read_bytes()
    for length in range(len(whole) - 5, len(whole)):
        log.write_bytes(whole[:length])
        assert [row["step"] for row in read_rows(log)] == [10, 20]
    cut_back(log, 30)
    append_row(log, {"step": 30})
    assert [row["step"] for row in read_rows(log)] == [10, 20, 30]


def test_cut_back_to_the_start(log):
    cut_back(log, 0)
    assert log.read_bytes() == b""


def test_numbers_keep_all_their_digits(tmp_path):
    append_row(tmp_path / "log", {"step": 1, "loss": 0.1 + 0.2, "none": float("nan")})
    (row,) = read_rows(tmp_path / "log")
    assert row["loss"] == 0.1 + 0.2
    assert row["none"] != row["none"]
