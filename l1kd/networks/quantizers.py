"""QKeras' quantizers as fixed-point types, and back; read by class and attributes, without QKeras.

QKeras 0.9.0 has no negative integer bits, and `quantized_bits` counts those without the sign.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint

MOST_BITS = 24  # bits that a float32 holds


@dataclass(frozen=True)
class Quantizer:
    """The type that a quantizer rounds and saturates to in inference."""

    type: FixedPoint
    halved: bool = False  # a hard sigmoid, which quantizes x / 2 + 1 / 2


def reading(quantizer: Any) -> Quantizer | None:
    """A QKeras quantizer as a type; None if it does more than round and saturate (scale, slope)."""
    read = _READERS.get(type(quantizer).__name__)
    if read is None or float(getattr(quantizer, "qnoise_factor", 1)) != 1:
        return None
    return read(quantizer)


def type_of(quantizer: Any) -> FixedPoint | None:
    """The type that a quantizer rounds and saturates to; None if it does anything else."""
    found = reading(quantizer)
    return found.type if found and not found.halved else None


def text_of(kind: FixedPoint) -> str:
    """QKeras' text of a type's activation quantizer; a `ValueError` if QKeras has none."""
    bits, integer = kind.word, kind.integer - int(kind.signed)
    if kind.rounding != "RND_CONV" or kind.overflow not in ("SAT", "SAT_SYM"):
        raise ValueError(f"QKeras rounds half to even and saturates; {kind.text} does not")
    if integer < 0:
        raise ValueError(f"QKeras has no negative integer bits, as {kind.text} has")
    if not kind.signed:
        if kind.overflow == "SAT_SYM":
            raise ValueError(f"QKeras has no unsigned type that is symmetric, as {kind.text} is")
        return f"quantized_relu({bits},{integer})"
    if bits == 1:
        raise ValueError(f"QKeras makes a sign of one signed bit, not {kind.text}")
    return f"quantized_bits({bits},{integer},{int(kind.overflow == 'SAT_SYM')},alpha=1)"


def output_layer(model: Any) -> Any:
    """The layer that gives a Keras model's first output its values; reshaping ones do not."""
    last = model.get_layer(model.output_names[0])
    while type(last).__name__ in ("Flatten", "Reshape", "Permute"):
        last = last.inbound_nodes[0].inbound_layers
    return last


def _bits(quantizer: Any) -> Quantizer | None:
    alpha, symmetric = quantizer.alpha, quantizer.symmetric
    if not (alpha is None or (isinstance(alpha, Real) and alpha == 1)):
        return None
    if symmetric not in (0, 1) or quantizer.keep_negative not in (0, 1):
        return None
    return _plain(quantizer, bool(quantizer.keep_negative), symmetric=bool(symmetric))


def _relu(quantizer: Any) -> Quantizer | None:
    # An upper bound is dead where values are clipped to the type's range, which is the default;
    # the flag is not in the configuration, so a network that was saved has the default.
    bounded = quantizer.relu_upper_bound is not None and not quantizer.is_quantized_clip
    if quantizer.negative_slope or quantizer.use_sigmoid or bounded:
        return None
    return _plain(quantizer, signed=False)


def _tanh(quantizer: Any) -> Quantizer | None:
    if quantizer.use_real_tanh or quantizer.symmetric not in (0, 1) or quantizer.bits < 1:
        return None
    if quantizer.symmetric and quantizer.bits == 1:  # always 0
        return None
    overflow: Any = "SAT_SYM" if quantizer.symmetric else "SAT"
    return Quantizer(FixedPoint(int(quantizer.bits), 1, overflow=overflow))


def _sigmoid(quantizer: Any) -> Quantizer | None:
    # `symmetric` takes the 0 away, which no type can say.
    if quantizer.use_real_sigmoid or quantizer.symmetric or quantizer.bits < 1:
        return None
    return Quantizer(FixedPoint(int(quantizer.bits), 0, False), halved=True)


_READERS = {
    "quantized_bits": _bits,
    "quantized_relu": _relu,
    "quantized_tanh": _tanh,
    "quantized_sigmoid": _sigmoid,
}


def _plain(quantizer: Any, signed: bool, *, symmetric: bool = False) -> Quantizer | None:
    bits, integer = float(quantizer.bits), float(quantizer.integer)
    if bits - int(signed) < 1 or integer < 0 or bits % 1 or integer % 1:
        return None
    overflow: Any = "SAT_SYM" if symmetric and signed else "SAT"
    return Quantizer(FixedPoint(int(bits), int(integer) + int(signed), signed, overflow=overflow))


class Settled(NamedTuple):
    """Weights as their quantizer defines them."""

    values: NDArray[np.float64]
    type: FixedPoint  # the quantizer's, or the narrowest that holds them
    text: str | None  # QKeras' text of a plain quantizer that holds them; None: it stays
    strayed: NDArray[np.bool_]  # where QKeras' float32 arithmetic gives something else


def settled(quantizer: Any, stored: NDArray[Any]) -> Settled | None:
    """The values that a weight quantizer gives; None if they are on no grid of at most 24 bits."""
    stored = np.asarray(stored, np.float32)
    given = np.asarray(quantizer(stored), np.float64)
    kind, plain = type_of(quantizer), True
    if kind is not None:
        values = kind.quantize(stored)
    else:
        # x + (q(x) - x) is what gradients pass through; in float32 it need not be q(x).
        direct = copy.copy(quantizer)
        if hasattr(direct, "use_ste"):
            direct.use_ste = False
        values = np.asarray(direct(stored), np.float64)
        if (kind := on_a_grid(values)) is None:
            return None
        sign = type(quantizer).__name__ == "quantized_bits" and quantizer.bits == 1
        plain = not (sign and quantizer.keep_negative and quantizer.alpha in (None, 1))
    text = text_of(plain_grid(kind)) if plain else None
    return Settled(values, kind, text, np.asarray(given != values))


def fraction_bits(values: NDArray[np.float64]) -> int:
    """Fraction bits of the finest of some values."""
    present = np.abs(values[(values != 0) & np.isfinite(values)])
    if not present.size:
        return 0
    mantissas, exponents = np.frexp(present)
    counts = np.ldexp(mantissas, 53).astype(np.int64)
    spare = np.log2((counts & -counts).astype(np.float64)).astype(int)
    return int((53 - exponents - spare).max())


def on_a_grid(values: NDArray[Any]) -> FixedPoint | None:
    """The narrowest type that holds all of `values`; None if it has more than 24 bits."""
    exact = np.asarray(values, np.float64)
    largest = np.abs(exact).max(initial=0)
    if not largest:
        return FixedPoint(2, 1)
    fraction = fraction_bits(exact)
    if int(np.frexp(largest)[1]) + fraction > MOST_BITS:
        return None
    integers = np.ldexp(exact, fraction).astype(np.int64)
    kind = FixedPoint.holding(int(integers.min()), int(integers.max()), fraction)
    return kind if kind.word <= MOST_BITS else None


def plain_grid(kind: FixedPoint) -> FixedPoint:
    """The narrowest type that holds all of `kind`, with a sign, as weights and ports have to be."""
    word, integer = kind.word + (not kind.signed), kind.integer + (not kind.signed)
    return FixedPoint(max(word + max(1 - integer, 0), 2), max(integer, 1))
