"""How numbers are written for people: one place, so that pages and plots agree."""

import math
import numbers
import re
from collections.abc import Sequence
from typing import Any

NOTHING = "–"

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def format_value(value: Any) -> str:
    """One value as text: thousands are separated, floats keep six significant digits, None is a dash."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    if isinstance(value, numbers.Real):
        return _format_float(float(value))
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def format_column(values: Sequence[Any]) -> list[str]:
    """The cells of a table's column: its floats share one number of decimals, so that they line up.

    The largest keeps four significant digits; a column whose values all lie below 0.001 is written in
    powers of ten.
    """
    floats = [float(value) for value in values if _is_float(value) and math.isfinite(value)]
    largest = max((abs(value) for value in floats), default=0.0)
    if largest and largest < 1e-3:
        return [f"{value:.3e}" if _is_finite_float(value) else format_value(value) for value in values]
    decimals = 3 if not largest else min(4, max(0, 3 - math.floor(math.log10(largest))))
    return [
        f"{float(value):,.{decimals}f}" if _is_finite_float(value) else format_value(value)
        for value in values
    ]


def printable(text: str) -> str:
    """The text less what HTML and SVG cannot spell: control characters and halves of surrogate pairs."""
    return _UNPRINTABLE.sub("\ufffd", text)


def is_number(value: Any) -> bool:
    """Whether a table aligns `value` to the right."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def format_percent(share: float) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else format_value(share)


def format_duration(seconds: float) -> str:
    """Seconds in the two largest units that matter, such as "2 min 5 s"."""
    if not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    remaining = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, remaining = divmod(remaining, length)
        if amount or parts:
            parts.append((amount, unit))
    return " ".join(f"{amount} {unit}" for amount, unit in parts[:2] if amount)


def _format_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:,.6g}"


def _is_float(value: Any) -> bool:
    return is_number(value) and not isinstance(value, numbers.Integral)


def _is_finite_float(value: Any) -> bool:
    return _is_float(value) and math.isfinite(value)
