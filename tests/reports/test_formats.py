import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.reports.formats import (
    format_column,
    format_duration,
    format_percent,
    format_value,
    printable,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (500_000, "500,000"),
        (np.int64(-3), "-3"),
        (5e-05, "5e-05"),
        (0.98, "0.98"),
        (0.0, "0"),
        (1234567.0, "1,234,567"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (None, "–"),
        (True, "yes"),
        (np.float32(0.5), "0.5"),
        ([1, 2.5, "x"], "1, 2.5, x"),
        ("bfloat16", "bfloat16"),
    ],
)
def test_values_as_people_write_them(value, text):
    assert format_value(value) == text


@given(st.floats(min_value=1e-30, max_value=1e12), st.sampled_from([1, -1]))
def test_no_value_loses_more_than_its_sixth_digit(size, sign):
    value = sign * size
    assert float(format_value(value).replace(",", "")) == pytest.approx(value, rel=5.1e-6)


def test_a_column_lines_up():
    assert format_column([6.12345, 0.5, None, math.nan, 12]) == ["6.123", "0.500", "–", "NaN", "12"]
    assert format_column([0.7012, 0.8]) == ["0.7012", "0.8000"]
    assert format_column([123456.7, 1.0]) == ["123,457", "1"]
    assert format_column([5e-5, 1e-6]) == ["5.000e-05", "1.000e-06"]
    assert format_column([0.0, -0.25]) == ["0.0000", "-0.2500"]
    assert format_column([]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.24, "3.2 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3 * 3600 + 7, "3 h"),
        (86_400 + 7200, "1 d 2 h"),
        (math.nan, "–"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_percent():
    assert format_percent(0.3149) == "31.5 %"
    assert format_percent(math.nan) == "NaN"


@given(st.text())
def test_printable_text_can_be_encoded(text):
    cleaned = printable(text)
    assert cleaned.encode("utf-8") is not None
    assert len(cleaned) == len(text)
    assert "\x00" not in cleaned
