"""The fixed-point type, against arithmetic on fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding, product, total

types = st.builds(
    FixedPoint,
    word=st.integers(1, 24),
    integer=st.integers(-8, 30),
    signed=st.booleans(),
    rounding=st.sampled_from(get_args(Rounding)),
    overflow=st.sampled_from(get_args(Overflow)),
)
values = st.integers(-(2**30), 2**30).map(lambda n: n / 2**12)


@st.composite
def types_and_values(draw: Any) -> tuple[FixedPoint, list[float]]:
    """A type, and values of which many are ties or ends of its range."""
    kind = draw(types)
    near = st.sampled_from((-1, 0, 1)).flatmap(
        lambda end: st.integers(-9, 9).map(
            lambda n: (end * 2 ** (kind.word - 1) + n / 4) * kind.lsb
        )
    )
    return kind, draw(st.lists(st.one_of(values, near), min_size=1, max_size=50))


def exact(kind: FixedPoint, value: float | Fraction) -> Fraction:
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
    if kind.overflow == "SAT_ZERO":
        return count * step if low <= count <= high else Fraction(0)
    if kind.overflow == "SAT_SYM" and kind.signed and kind.word > 1:
        low = -high
    return max(low, min(high, count)) * step


@given(types_and_values())
def test_quantize_is_exact_in_every_mode(drawn: tuple[FixedPoint, list[float]]) -> None:
    kind, numbers = drawn
    found = kind.quantize(numbers)
    assert [Fraction(float(value)) for value in found] == [exact(kind, n) for n in numbers]


@given(types_and_values())
def test_what_is_quantized_is_held_and_stays(drawn: tuple[FixedPoint, list[float]]) -> None:
    kind, numbers = drawn
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


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ap_int<11>", FixedPoint(11, 11, True, "TRN_ZERO", "WRAP")),
        ("uint<1>", FixedPoint(1, 1, False, "TRN_ZERO", "WRAP")),
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


def test_what_is_just_short_of_a_tie_is_none() -> None:
    almost = np.nextafter(0.5, 0)  # and 0.5 + almost rounds to 1
    kinds = [FixedPoint(4, 4, rounding=rounding) for rounding in get_args(Rounding)]
    for kind in kinds:
        for value in (almost, -almost):
            assert Fraction(float(kind.quantize(value))) == exact(kind, value), kind.rounding
            for carrier, bits in ((np.float64, 53), (np.float32, 24)):
                counts = np.array([np.sign(value) * (2**bits - 1)], carrier)
                found = kind.requantize(counts, bits + 1)
                assert found[0] == exact(kind, np.sign(value) * 0.49), (kind.rounding, carrier)


def by_the_book(kind: FixedPoint, counts: list[int], fraction: int) -> list[int]:
    """Counts of a type from counts of 2**-fraction, one at a time."""
    step = Fraction(2) ** -kind.fraction
    return [int(exact(kind, count * Fraction(2) ** -fraction) / step) for count in counts]


carriers: dict[Any, int] = {np.float32: 24, np.float64: 53, np.int64: 62, object: 200}


@st.composite
def requantizations(draw: Any, carrier: Any) -> tuple[FixedPoint, list[int], int]:
    """A type, counts, and the fraction of these; the type's own counts fit into the carrier."""
    bits = carriers[carrier]
    word = draw(st.integers(1, bits if carrier is object else bits - 1))
    kind = FixedPoint(
        word,
        draw(st.integers(-8, 30)),
        draw(st.booleans()),
        draw(st.sampled_from(get_args(Rounding))),
        draw(st.sampled_from(get_args(Overflow))),
    )
    shift = draw(st.one_of(st.integers(-3, 12), st.integers(-40, 90)))
    edges = st.builds(
        lambda power, off, sign: sign * (2**power + off),
        st.integers(1, bits - 2),
        st.integers(-2, 2),
        st.sampled_from([-1, 1]),
    )
    most = 2**bits - 1
    choices = [edges, st.integers(-100, 100), st.integers(-most, most)]
    if 0 < shift < bits:  # ties and their neighbours
        ties = st.builds(
            lambda n, off: n * 2 ** (shift - 1) + off, st.integers(-9, 9), st.integers(-1, 1)
        )
        choices.append(ties.filter(lambda count: abs(count) <= most))
    return kind, draw(st.lists(st.one_of(choices), max_size=20)), kind.fraction + shift


@pytest.mark.parametrize("carrier", carriers, ids=lambda carrier: carrier.__name__)
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_requantize_is_exact_in_every_carrier(carrier: Any, data: Any) -> None:
    kind, counts, fraction = data.draw(requantizations(carrier))
    given_counts = np.array(counts, carrier)
    kept = given_counts.copy()
    found = kind.requantize(given_counts, fraction)
    assert found.dtype == carrier and found.shape == given_counts.shape
    assert [int(count) for count in found] == by_the_book(kind, counts, fraction)
    assert (given_counts == kept).all()


@given(types, st.lists(values, min_size=1, max_size=20))
def test_requantize_is_quantize_on_counts(kind: FixedPoint, numbers: list[float]) -> None:
    # `values` are counts of 2**-12.
    counts = np.array([[round(number * 2**12) for number in numbers]])
    for carrier in (np.int64, np.float64, object):
        found = kind.requantize(counts.astype(carrier), 12)
        assert (found * kind.lsb == kind.quantize([numbers])).all()


def test_results_that_do_not_fit_and_other_arrays_are_refused() -> None:
    wide = FixedPoint(80, 80, False)
    assert wide.requantize(np.array([2**61]), 0).tolist() == [2**61]
    assert wide.requantize(np.array([2**61], object), -18).tolist() == [2**79]
    with pytest.raises(OverflowError):
        wide.requantize(np.array([2**61]), -18)
    with pytest.raises(TypeError, match="int32"):
        wide.requantize(np.zeros(3, np.int32), 0)


def test_one_count_without_a_shape_is_an_array_too() -> None:
    for carrier in carriers:
        found = FixedPoint(4, 2).requantize(np.array(5, carrier), 3)
        assert found.shape == () and found.dtype == carrier and found == 2


small = st.builds(FixedPoint, st.integers(1, 5), st.integers(-3, 8), st.booleans())


def counts_of(kind: FixedPoint) -> range:
    low, high = kind.bounds
    return range(low, high + 1)


def is_narrowest(kind: FixedPoint, counts: set[int]) -> bool:
    """A type holds these counts of its LSB, and one with a bit less does not."""
    low, high = kind.bounds
    if min(counts) < low or max(counts) > high:
        return False
    if kind.signed != (min(counts) < 0):
        return False
    if kind.word == 1:
        return True
    less = FixedPoint(kind.word - 1, kind.integer - 1, kind.signed).bounds
    return min(counts) < less[0] or max(counts) > less[1]


@given(small, small)
def test_products_are_held_by_the_narrowest_type(one: FixedPoint, other: FixedPoint) -> None:
    kind = product(one, other)
    assert kind.fraction == one.fraction + other.fraction
    assert is_narrowest(kind, {a * b for a in counts_of(one) for b in counts_of(other)})


@given(st.lists(small, min_size=1, max_size=3))
def test_sums_are_held_by_the_narrowest_type(kinds: list[FixedPoint]) -> None:
    kind = total(iter(kinds))
    sums = {0}
    for each in kinds:
        step = 2 ** (kind.fraction - each.fraction)
        sums = {before + count * step for before in sums for count in counts_of(each)}
    assert kind.fraction == max(each.fraction for each in kinds)
    assert is_narrowest(kind, sums)


@given(st.integers(-300, 300), st.integers(0, 300), st.integers(-5, 5))
def test_holding_is_the_narrowest_type(low: int, size: int, fraction: int) -> None:
    kind = FixedPoint.holding(low, low + size, fraction)
    assert kind.fraction == fraction
    assert is_narrowest(kind, {low, low + size})


def test_a_range_or_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="between 3 and 2"):
        FixedPoint.holding(3, 2, 0)
    with pytest.raises(ValueError, match="no types"):
        total([])
