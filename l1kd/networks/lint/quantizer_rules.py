"""Lint rules for quantizers: of activations, by their place, and of weights."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l1kd.networks.quantizers import reading

_PLAIN = "use quantized_relu(bits,integer) or quantized_bits(bits,integer,alpha=1)"
_KNOWN = ("quantized_bits", "quantized_relu", "quantized_tanh", "quantized_sigmoid")
_REPAIR = "run l1kd.repair, or train with"


class Finding(NamedTuple):
    """A problem without its layer."""

    construct: str
    reason: str
    remedy: str


def activation(quantizer: Any, *, port: bool = False) -> Iterator[Finding]:
    """Problems of an activation's quantizer; at the `port` it becomes the input port's type."""
    name = _name(quantizer)
    if name not in _KNOWN:
        yield Finding(name, _UNKNOWN.get(name, "hls4ml has no such activation"), _PLAIN)
        return
    if port and name != "quantized_bits":
        yield Finding(
            f"{name} at the input",
            "hls4ml cannot make an input port of it",
            "put quantized_bits(bits,integer,alpha=1) between the input and it",
        )
    found = list(_mixtures(quantizer, name)) + list(_ACTIVATIONS[name](quantizer))
    if not found:
        found = list(_integer_only(quantizer, name, port=port))
    if not found and reading(quantizer) is None:  # the rules above say why; this is their net
        found = [Finding(name, "it does more than to round and saturate", _PLAIN)]
    yield from found


def weights(quantizer: Any, values: NDArray[Any], *, part: str) -> Iterator[Finding]:
    """Problems of a quantizer of stored weights; `part` is bias, kernel, depthwise or pointwise."""
    if not np.isfinite(values).all():
        yield Finding(f"{part} values", "NaN or infinity is among them", "train the network again")
        return
    if quantizer is None:
        yield Finding(
            f"{part} without quantizer",
            "float32 weights need more bits than QKeras' own sums keep: hls4ml differs from it",
            f"give it {part}_quantizer='quantized_bits(bits,integer,alpha=1)'",
        )
        return
    name = _name(quantizer)
    if name not in _WEIGHTS:
        yield Finding(
            f"{part}: {name}",
            "hls4ml has no exact type for its values",
            f"{_REPAIR} quantized_bits(bits,integer,alpha=1)",
        )
        return
    rule = _WEIGHTS[name]
    found = [*(rule(quantizer, part) if rule else ())] + [
        Finding(f"{part}: {each.construct}", each.reason, each.remedy)
        for each in _exponents(quantizer)
    ]
    yield from found or _strayed(quantizer, values, part)


def _strayed(quantizer: Any, values: NDArray[Any], part: str) -> Iterator[Finding]:
    kind = reading(quantizer)
    if kind is None or kind.halved:
        return
    given = np.asarray(quantizer(np.asarray(values, np.float32)), np.float64)
    off = int(np.sum(given != kind.type.quantize(values)))
    if off:
        yield Finding(
            f"{part} values far beyond their quantizer",
            f"QKeras' float32 arithmetic (x + (q(x) - x)) puts {off} of {values.size} off their "
            "grid, and hls4ml takes them as they come",
            "run l1kd.repair, which stores the quantized weights",
        )


def _mixtures(quantizer: Any, name: str) -> Iterator[Finding]:
    factor = float(getattr(quantizer, "qnoise_factor", 1.0))
    if factor != 1:
        yield Finding(
            f"{name}(qnoise_factor={factor:g})",
            "QKeras mixes unquantized values in, hls4ml does not",
            "set qnoise_factor=1 when training is done",
        )
    yield from _exponents(quantizer)


def _exponents(quantizer: Any) -> Iterator[Finding]:
    integer = float(getattr(quantizer, "integer", 0))
    if integer < 0 or integer % 1:
        yield Finding(
            f"{_name(quantizer)}({quantizer.bits},{integer:g})",
            "QKeras raises an integer 2 to this power, which TensorFlow refuses",
            "use 0 integer bits and more bits in all, or scale the layer's weights",
        )


def _bits(quantizer: Any) -> Iterator[Finding]:
    bits, integer, alpha = int(quantizer.bits), quantizer.integer, quantizer.alpha
    if not (alpha is None or _is_one(alpha)):
        yield Finding(
            f"quantized_bits(alpha={_text(alpha)})",
            "hls4ml ignores the scale of an activation",
            "use alpha=1 and the integer bits of the scaled values",
        )
    if not quantizer.keep_negative:
        yield Finding(
            "quantized_bits(keep_negative=0)",
            "hls4ml types it signed, with one fraction bit less",
            f"use quantized_relu({bits},{integer}), which is the same function",
        )
    elif quantizer.symmetric:
        yield Finding(
            "quantized_bits(symmetric=1)",
            "hls4ml saturates to the lowest value of the type, one step below QKeras'",
            "use symmetric=0",
        )
    if bits == 1 and quantizer.keep_negative:
        yield Finding(
            "quantized_bits(1,...)",
            "QKeras makes a sign of it, -1 or 1, which hls4ml's one bit cannot be",
            "use two bits, or quantized_relu(1,0), which is 0 or 1/2",
        )


def _relu(quantizer: Any) -> Iterator[Finding]:
    bits, integer = quantizer.bits, quantizer.integer
    if quantizer.negative_slope:
        yield Finding(
            f"quantized_relu(negative_slope={quantizer.negative_slope:g})",
            "hls4ml stops with an error on it, or computes a slope of another width",
            f"use quantized_relu({bits},{integer})",
        )
    if quantizer.use_sigmoid:
        yield Finding(
            "quantized_relu(use_sigmoid=1)",
            "hls4ml ignores use_sigmoid",
            f"use quantized_sigmoid({bits})",
        )
    if quantizer.relu_upper_bound is not None and not quantizer.is_quantized_clip:
        yield Finding(
            f"quantized_relu(relu_upper_bound={quantizer.relu_upper_bound:g},"
            "is_quantized_clip=False)",
            "hls4ml saturates to the type's highest value, not to the bound",
            f"use quantized_relu({bits},{integer}): its type is the bound",
        )


def _tanh(quantizer: Any) -> Iterator[Finding]:
    if quantizer.use_real_tanh:
        yield Finding(
            "quantized_tanh(use_real_tanh=True)",
            "hls4ml looks it up in a table that is not exact",
            f"use quantized_tanh({quantizer.bits}), the hard one",
        )
    elif quantizer.bits == 1:
        yield Finding(
            "quantized_tanh(1)",
            "hls4ml's one bit loses rounding and saturation",
            "use two bits: quantized_tanh(2)",
        )


def _sigmoid(quantizer: Any) -> Iterator[Finding]:
    if quantizer.use_real_sigmoid:
        yield Finding(
            "quantized_sigmoid(use_real_sigmoid=True)",
            "hls4ml looks it up in a table that is not exact",
            f"use quantized_sigmoid({quantizer.bits}), the hard one",
        )
    elif quantizer.symmetric:
        yield Finding(
            "quantized_sigmoid(symmetric=True)",
            "hls4ml's lowest value is 0, QKeras' is one step",
            "use symmetric=False",
        )


def _integer_only(quantizer: Any, name: str, *, port: bool) -> Iterator[Finding]:
    """A type without fraction bits; hls4ml makes ap_int of it, which truncates and wraps around."""
    if name not in ("quantized_bits", "quantized_relu"):
        return
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    fraction = bits - integer - int(name == "quantized_bits")
    if fraction > 0 or (port and fraction == 0):
        return
    if port:
        yield Finding(
            f"{name}({bits},{integer}) at the input",
            f"hls4ml makes an integer of {integer + 1} bits of it, without its step of "
            f"{2**-fraction}",
            f"use quantized_bits({integer + 1},{integer},alpha=1)",
        )
        return
    yield Finding(
        f"{name}({bits},{integer}) inside the network",
        "a type without fraction bits loses rounding and saturation in hls4ml",
        f"give it a fraction bit: {name}({bits + 1 - fraction},{integer}"
        f"{',alpha=1' if name == 'quantized_bits' else ''})",
    )


def _scaled(quantizer: Any, part: str) -> Iterator[Finding]:
    alpha, name = quantizer.alpha, _name(quantizer)
    if _is_one(alpha) or (alpha is None and part == "bias" and name == "quantized_bits"):
        return
    # Behind a kernel hls4ml multiplies with the scale; for a depthwise one it takes the products.
    if part in ("kernel", "depthwise") and name == "quantized_bits" and _is_power(alpha):
        return
    if part == "depthwise" and alpha == "auto_po2":
        return
    yield Finding(
        f"{part}: {name}(alpha={_text(alpha)})",
        "hls4ml makes the scale a separate layer, which does not compile or is not exact",
        f"{_REPAIR} alpha=1",
    )


_ACTIVATIONS = {
    "quantized_bits": _bits,
    "quantized_relu": _relu,
    "quantized_tanh": _tanh,
    "quantized_sigmoid": _sigmoid,
}
# hls4ml lets QKeras itself quantize the weights and then finds the type that holds them.
_WEIGHTS = {
    "quantized_bits": _scaled,
    "quantized_relu": None,
    "quantized_sigmoid": None,
    "quantized_tanh": None,
    "stochastic_ternary": _scaled,
    "ternary": _scaled,
}
_UNKNOWN = {
    "binary": "hls4ml computes it wrongly behind a Flatten with io_stream",
    "ternary": "hls4ml does not compile it with io_stream, and shifts its threshold",
    "linear": "it is not a quantizer",
}


def _name(quantizer: Any) -> str:
    name = getattr(quantizer, "__name__", None) or type(quantizer).__name__
    return str(name)


def _is_one(alpha: Any) -> bool:
    return isinstance(alpha, Real) and not isinstance(alpha, bool) and float(alpha) == 1


def _is_power(alpha: Any) -> bool:
    return isinstance(alpha, Real) and bool(np.frexp(float(alpha))[0] == 0.5)


def _text(alpha: Any) -> str:
    return repr(alpha) if alpha is None or isinstance(alpha, (str, int, float)) else "<array>"
