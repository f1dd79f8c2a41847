"""Weights on their grid: what a layer multiplies with becomes what it stores.

QKeras keeps float weights and quantizes them whenever a layer is called. Once trained, only the
quantized ones matter, and every quantizer that scales (alpha, powers of two), leaves out a value
(symmetric) or knows few of them (ternary, binary) is as good as the plain type that holds them all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.quantizers import text_of, type_of

# Weights with a quantizer by the class of their layer, in the order in which they are stored.
SLOTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("QDense", "QConv1D", "QConv2D", "QConv2DTranspose"), ("kernel", "bias")),
    "QDepthwiseConv2D": ("depthwise", "bias"),
    "QSeparableConv1D": ("depthwise", "pointwise", "bias"),
    "QSeparableConv2D": ("depthwise", "pointwise", "bias"),
}
MOST = 24  # bits that a float32 holds


@dataclass(frozen=True)
class Settled:
    """Weights as their quantizer gives them."""

    values: NDArray[np.float64]  # of the shape of the stored weights, float64
    # QKeras' text of a plain quantizer whose values they are; None if the quantizer stays
    text: str | None
    strayed: int  # how many of them QKeras' float32 arithmetic puts off their grid


def settled(quantizer: Any, stored: NDArray[Any]) -> Settled | None:
    """What a quantizer of weights gives; None if its values are on no grid of at most 24 bits."""
    stored = np.asarray(stored, np.float32)
    given = np.asarray(quantizer(stored), np.float64)
    kind = type_of(quantizer)
    if kind is not None:
        values, grid = kind.quantize(stored), plain_grid(kind)
    else:
        values = np.asarray(_without_detour(quantizer)(stored), np.float64)
        if type(quantizer).__name__ == "quantized_bits" and _is_sign(quantizer):
            return Settled(values, None, int(np.sum(given != values)))
        found = on_a_grid(values)
        if found is None:
            return None
        grid = plain_grid(found)
    return Settled(values, text_of(grid), int(np.sum(given != values)))


def _without_detour(quantizer: Any) -> Any:
    # x + (q(x) - x) is what gradients pass through; in float32 it need not be q(x).
    direct = copy.copy(quantizer)
    if hasattr(direct, "use_ste"):
        direct.use_ste = False
    return direct


def _is_sign(quantizer: Any) -> bool:
    alpha = quantizer.alpha
    return bool(quantizer.bits == 1 and quantizer.keep_negative and alpha in (None, 1))


def on_a_grid(values: NDArray[Any]) -> FixedPoint | None:
    """The narrowest type that holds all of `values`; None if it has more than 24 bits."""
    flat = np.abs(np.asarray(values, np.float64)).reshape(-1)
    flat = flat[flat > 0]
    if not flat.size:
        return FixedPoint(2, 1)
    mantissas, exponents = np.frexp(flat)
    counts = np.ldexp(mantissas, 53).astype(np.int64)
    spare = np.log2((counts & -counts).astype(np.float64)).astype(int)
    fraction = int(53 - (exponents + spare).min())
    if int(exponents.max()) + fraction > MOST:
        return None
    integers = np.ldexp(np.asarray(values, np.float64), fraction).astype(np.int64)
    kind = FixedPoint.holding(int(integers.min()), int(integers.max()), fraction)
    return kind if kind.word <= MOST else None


def plain_grid(kind: FixedPoint) -> FixedPoint:
    """The narrowest signed type that QKeras can say and that holds all values of `kind`.

    It has a sign, a bit beside it, and no negative integer bits.
    """
    word, integer = kind.word, kind.integer
    if not kind.signed:
        word, integer = word + 1, integer + 1
    word, integer = word + max(1 - integer, 0), max(integer, 1)
    return FixedPoint(max(word, 2), integer)


def requantized(values: NDArray[Any], word: int) -> FixedPoint:
    """The type of `word` bits with the finest step that holds all of `values` but for rounding.

    Narrow types of small values are widened: QKeras has no negative integer bits.
    """
    high = float(np.abs(values).max(initial=0.0))
    integer = 1 if high == 0 else int(np.floor(np.log2(high))) + 2  # and the sign
    kind = FixedPoint(word, integer)
    if high > kind.high + kind.lsb / 2 or (kind.quantize(high) < high - kind.lsb / 2):
        kind = FixedPoint(word, integer + 1)
    return plain_grid(kind)
