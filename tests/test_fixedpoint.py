"""The fixed-point type, against arithmetic on fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l1kd.fixedpoint import FixedPoint, Overflow, Rounding

types = st.builds(
    FixedPoint,
    word=st.integers(1, 24),
    integer=st.integers(-8, 30),
    signed=st.booleans(),
    rounding=st.sampled_from(get_args(Rounding)),
    overflow=st.sampled_from(get_args(Overflow)),
)
# On a grid that is finer than most types', so that ties are common.
values = st.integers(-(2**30), 2**30).map(lambda n: n / 2**12)


def exact(kind: FixedPoint, value: float) -> Fraction:
    """What the type makes of a value, one value at a time, by the book."""
    step = Fraction(2) ** -kind.fraction
    ratio = Fraction(value) / step
    down, rest = floor(ratio), ratio - floor(ratio)
    half = Fraction(1, 2)
    up = {
        "TRN": False,
        "TRN_ZERO": ratio < 0 and rest > 0,
        "RND": rest >= half,
        "RND_MIN_INF": rest > half,
        "RND_ZERO": rest > half if ratio >= 0 else rest >= half,
        "RND_INF": rest >= half if ratio >= 0 else rest > half,
        "RND_CONV": rest > half or (rest == half and down % 2 == 1),
    }[kind.rounding]
    count = down + int(up)
    low, high = kind.bounds
    if kind.overflow == "WRAP":
        return ((count - low) % 2**kind.word + low) * step
    if low <= count <= high and not (kind.overflow == "SAT_SYM" and count < -high):
        return count * step
    if kind.overflow == "SAT_ZERO":
        return Fraction(0)
    lowest = -high if kind.overflow == "SAT_SYM" and kind.signed else low
    return max(lowest, min(high, count)) * step


@given(types, st.lists(values, min_size=1, max_size=50))
def test_quantize_is_exact_in_every_mode(kind: FixedPoint, numbers: list[float]) -> None:
    found = kind.quantize(numbers)
    assert [Fraction(float(value)) for value in found] == [exact(kind, n) for n in numbers]


@given(types, st.lists(values, min_size=1, max_size=50))
def test_what_is_quantized_is_held_and_stays(kind: FixedPoint, numbers: list[float]) -> None:
    once = kind.quantize(numbers)
    assert kind.holds(once).all()
    assert (kind.quantize(once) == once).all()
    assert (kind.integers(once) * kind.lsb == once).all()


@given(types)
def test_bounds_are_the_range(kind: FixedPoint) -> None:
    low, high = kind.bounds
    assert (low * kind.lsb, high * kind.lsb) == (kind.low, kind.high)
    assert kind.holds([kind.low, kind.high]).all()
    assert not kind.holds([kind.low - kind.lsb, kind.high + kind.lsb]).any()
    assert not kind.holds([np.nan, np.inf, kind.low + kind.lsb / 2]).any()


@given(types)
def test_text_is_read_back(kind: FixedPoint) -> None:
    assert FixedPoint.parse(kind.text) == kind
    assert FixedPoint.parse(kind.text.replace("AP_", "").removeprefix("ap_")) == kind


@given(types, st.integers(-1000, 1000))
def test_ties_are_half_way(kind: FixedPoint, count: int) -> None:
    found = kind.ties([count * kind.lsb, (count + 0.5) * kind.lsb, (count + 0.25) * kind.lsb])
    assert found.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ap_int<11>", FixedPoint(11, 11, True, "TRN", "WRAP")),
        ("uint<1>", FixedPoint(1, 1, False, "TRN", "WRAP")),
        ("fixed<22,16,TRN,WRAP,0>", FixedPoint(22, 16, True, "TRN", "WRAP")),
        ("ap_ufixed<16, 8, AP_RND_CONV, AP_SAT>", FixedPoint(16, 8, False)),
        ("ufixed<2,32,TRN,WRAP,0>", FixedPoint(2, 32, False, "TRN", "WRAP")),
    ],
)
def test_what_hls4ml_writes_is_read(text: str, kind: FixedPoint) -> None:
    assert FixedPoint.parse(text) == kind


@pytest.mark.parametrize(
    "text", ["float", "ap_fixed<>", "ap_fixed<8>", "ap_fixed<8,x>", "ap_fixed<8,4,AP_UP>", "int<0>"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fixed-point type|rounding"):
        FixedPoint.parse(text)


def test_the_default_is_what_qkeras_does() -> None:
    assert FixedPoint(4, 2).quantize([0.375, 0.125, -0.375, 9, -9]).tolist() == [
        0.5,
        0.0,
        -0.5,
        1.75,
        -2.0,
    ]
    assert FixedPoint(16, 8, False).text == "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>"


def test_a_type_without_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 bit"):
        FixedPoint(0, 0)
