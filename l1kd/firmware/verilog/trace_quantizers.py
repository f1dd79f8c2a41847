"""Quantizers as logic: rounding and overflow of alkaid's variables.

Not left to alkaid: rounding comes first, so that its constant joins the layer's bias; overflow of
an unsigned type is then a matter of single bits, where a clamp would compare.
"""

from __future__ import annotations

from math import frexp
from typing import Any

import numpy as np

from l1kd.core.fixed_point import FixedPoint

_CONSTANT = 31  # bits of a constant that alkaid adds; its word has 32


class UnfitError(ValueError):
    """The network needs logic that cannot be traced; the message names it."""


def quantized(value: Any, kind: FixedPoint) -> Any:
    """A variable rounded to a type's grid, then brought into its range."""
    if value.low == value.high:
        return constant(float(kind.quantize(value.low)), value)
    return _overflown(_rounded(value, kind), kind)


def constant(number: float, like: Any) -> Any:
    return type(like).from_const(number, like.hwconf) if number else nothing(like.hwconf)


def nothing(hwconf: Any) -> Any:
    from alkaid.trace.fixed_variable import FVariable

    return FVariable(0, 0, 1, hwconf=hwconf, opr="const")


def plus(value: Any, number: float) -> Any:
    """A variable plus a constant, which alkaid joins with a constant that was added before."""
    if not number:
        return value
    whole = number
    if value.opr == "cadd":
        data, shift = value._data & 0xFFFFFFFF, (value._data >> 32) & 0xFFFFFFFF
        data, shift = ((each ^ 0x80000000) - 0x80000000 for each in (data, shift))
        whole += data * 2.0**-shift * value._factor
    digits = int(abs(frexp(whole)[0]) * 2**53)
    if digits and (digits // (digits & -digits)).bit_length() > _CONSTANT:
        raise UnfitError(f"a constant, {whole:g}, has more than {_CONSTANT} bits")
    return value + number


def _rounded(value: Any, kind: FixedPoint) -> Any:
    """A variable on the grid of a type, whatever its range."""
    signed, _, fraction = value.kif
    step, drop = 2.0**-kind.fraction, fraction - kind.fraction
    if drop <= 0:
        return value
    half, fine = step / 2, 2.0**-fraction
    mode = kind.rounding
    if mode == "RND_CONV":
        return _to_even(plus(value, half), kind.fraction)
    if mode in ("TRN_ZERO", "RND_ZERO", "RND_INF"):
        extra = {"TRN_ZERO": step - fine, "RND_ZERO": fine, "RND_INF": -fine}[mode]
        if signed:
            value = value + value.is_negative() * extra
        value = plus(value, {"TRN_ZERO": 0.0, "RND_ZERO": half - fine, "RND_INF": half}[mode])
    elif mode != "TRN":
        value = plus(value, half if mode == "RND" else half - fine)
    return _floor(value, kind.fraction)


def _floor(value: Any, fraction: int) -> Any:
    signed, integer, _ = value.kif
    step = 2.0**-fraction
    ends = [float(np.floor(end / step)) * step for end in (value.low, value.high)]
    if ends[0] == ends[1]:
        return constant(ends[0], value)
    if integer + fraction <= 0:  # nothing but the sign is left
        return value.is_negative() * -step
    return value.quantize(signed, integer, fraction)


def _to_even(value: Any, fraction: int) -> Any:
    """The floor of a value that a half was added to; of a tie, with its last bit cleared."""
    _, integer, finest = value.kif
    down = _floor(value, fraction)
    drop = finest - fraction
    if drop <= 0:  # a bias leaves nothing but ties
        return _floor(value, fraction - 1)
    step = 2.0**-fraction
    if down.low == down.high:
        if value.low > down.low or not (down.low / step) % 2:
            return down
        return plus(value.bits[-drop:].unary_bit_op("any") * step, down.low - step)
    if integer + fraction <= 0:  # nothing but the sign is left
        if value.low > -step:
            return down
        raise UnfitError("a quantizer's step lies above all its sums")
    dropped = value.bits[-drop:].unary_bit_op("any")
    last = down.bits[-1:]
    if last.low == last.high:
        return down if last.high == 0 else last * dropped
    even = (dropped * step) & last
    return even + down.bits[:-1] if sum(down.kif) > 1 else even


def _overflown(value: Any, kind: FixedPoint) -> Any:
    """A variable that is on the grid of a type, in its range."""
    low, high = (bound * kind.lsb for bound in kind._reach)
    if low <= value.low and value.high <= high:
        return value
    sign = int(kind.signed)
    integer = kind.integer - sign
    if kind.overflow == "WRAP":
        return value.quantize(sign, integer, kind.fraction)
    if kind.overflow == "SAT_ZERO":
        outside = (value > high) | (value < low)
        kept = value.quantize(sign, integer, kind.fraction)
        return outside.msb_mux(constant(0.0, value), kept)
    if value.high <= low:
        return constant(low, value)
    if value.low >= high:
        return constant(high, value)
    if low < 0:
        return value.max_of(low).min_of(high)
    value = value.relu()
    above = value.kif[1] - integer
    if above <= 0:
        return value
    if kind.word == 1:  # whatever is not 0 is the only other value
        return value.unary_bit_op("any") * kind.lsb
    full = value.bits[:above].unary_bit_op("any")
    kept = value.quantize(0, integer, kind.fraction)
    # A bit times -step is all ones, sign-extended.
    return ((full * -kind.lsb) | kept).quantize(0, integer, kind.fraction)
