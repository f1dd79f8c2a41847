"""Numbers as text: sensible digits, units, and a dash for what is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

DASH = "\N{EN DASH}"


def count(value: float | None) -> str:
    """A whole number with its thousands apart: `16,384`."""
    return DASH if value is None else f"{value:,.0f}"


def area(value: float | None) -> str:
    """An AUC or a rank correlation: three decimals."""
    return DASH if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share: `37.8 %`."""
    return DASH if value is None else f"{100 * value:.1f} %"


def quantity(value: float | None, digits: int = 3) -> str:
    """A measured number with significant digits, without an exponent where it can be avoided."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def rate(value: float | None) -> str:
    """A false-positive rate: `1e-3`, `1.05e-4`."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def score(value: float, lsb: float) -> str:
    """A score in output units, as fine as its least significant bit but at most four decimals."""
    return f"{value:.{min(max(round(-math.log2(lsb)), 0), 4)}f}"


def share(value: float | None) -> str:
    """A share with two significant digits, however small: `2.1 %`, `0.057 %`."""
    return DASH if value is None else f"{quantity(100 * value, 2)} %"


def duration(seconds: float | None) -> str:
    """A time a person waited: `4.2 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def spread(value: float, ends: tuple[float, float], show: Callable[[float], str]) -> str:
    """A number above its interval, in two lines."""
    return f"{show(value)}\n{show(ends[0])} to {show(ends[1])}"


def place(text: str) -> str:
    """A path without the directories of the machine that it is of; other texts as they are."""
    return "/".join(["…", *Path(text).parts[-2:]]) if text.startswith("/") else text
