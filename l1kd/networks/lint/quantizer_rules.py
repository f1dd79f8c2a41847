"""Lint rules for quantizers: of activations, by their place, and of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from l1kd.networks.quantizers import reading

_TEXTS = yaml.safe_load((resources.files("l1kd.networks.lint") / "problems.yaml").read_text())


class Finding(NamedTuple):
    """A problem without its layer."""

    construct: str
    reason: str
    remedy: str


def finding(key: str, **values: Any) -> Finding:
    """A problem of `problems.yaml` with the values that its texts name."""
    return Finding(*(text.format(**values) for text in _TEXTS[key]))


def activation(quantizer: Any, *, port: bool = False) -> Iterator[Finding]:
    """Problems of an activation's quantizer; at the `port` it becomes the input port's type."""
    name = _name(quantizer)
    if name not in _ACTIVATIONS:
        reason = _UNKNOWN.get(name, "hls4ml has no such activation")
        yield finding("unknown", name=name, reason=reason)
        return
    if port and name != "quantized_bits":
        yield finding("port of another kind", name=name)
    found = []
    if (factor := float(getattr(quantizer, "qnoise_factor", 1.0))) != 1:
        found.append(finding("noise", name=name, factor=factor))
    found += [*_exponents(quantizer), *_of_its_arguments(quantizer, name)]
    found = found or list(_integer_only(quantizer, name, port=port))
    if not found and reading(quantizer) is None:  # the rules above say why; this is their net
        found = [finding("more than a type", name=name)]
    yield from found


def weights(quantizer: Any, values: NDArray[Any], *, part: str) -> Iterator[Finding]:
    """Problems of a quantizer of stored weights; `part` is bias, kernel, depthwise or pointwise."""
    name = _name(quantizer)
    if not np.isfinite(values).all():
        yield finding("weights not finite", part=part)
    elif quantizer is None:
        yield finding("weights unquantized", part=part)
    elif name not in _WEIGHTS:
        yield finding("weights of no type", part=part, name=name)
    else:
        scaled = [] if _scale_fits(quantizer, name, part) else [_scaled(quantizer, name, part)]
        yield from [*scaled, *_exponents(quantizer, f"{part}: ")] or _strayed(
            quantizer, values, part
        )


def _scaled(quantizer: Any, name: str, part: str) -> Finding:
    return finding("weights scaled", part=part, name=name, alpha=_text(quantizer.alpha))


def _strayed(quantizer: Any, values: NDArray[Any], part: str) -> Iterator[Finding]:
    kind = reading(quantizer)
    if kind is None or kind.halved:
        return
    given = np.asarray(quantizer(np.asarray(values, np.float32)), np.float64)
    if off := int(np.sum(given != kind.type.quantize(values))):
        yield finding("weights strayed", part=part, off=off, size=values.size)


def _exponents(quantizer: Any, part: str = "") -> Iterator[Finding]:
    integer = float(getattr(quantizer, "integer", 0))
    if integer < 0 or integer % 1:
        yield finding("exponent", part=part, name=_name(quantizer), q=quantizer, integer=integer)


def _of_its_arguments(quantizer: Any, name: str) -> Iterator[Finding]:
    """Problems that single arguments of a quantizer have."""
    for key, has in _ACTIVATIONS[name].items():
        if has(quantizer):
            alpha = _text(getattr(quantizer, "alpha", None))
            yield finding(key, q=quantizer, bits=int(quantizer.bits), alpha=alpha)


def _integer_only(quantizer: Any, name: str, *, port: bool) -> Iterator[Finding]:
    """A type without fraction bits; hls4ml makes ap_int of it, which truncates and wraps around."""
    if name not in ("quantized_bits", "quantized_relu"):
        return
    signed = name == "quantized_bits"
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    fraction = bits - integer - int(signed)
    given = {"name": name, "bits": bits, "integer": integer}
    if port and fraction < 0:
        yield finding("integer port", **given, word=integer + 1, step=2**-fraction)
    elif not port and fraction <= 0:
        alpha = ",alpha=1" if signed else ""
        yield finding("integer inside", **given, wider=bits + 1 - fraction, alpha=alpha)


def _scale_fits(quantizer: Any, name: str, part: str) -> bool:
    if not _WEIGHTS[name] or _is_one(alpha := quantizer.alpha):
        return True
    if alpha is None and part == "bias" and name == "quantized_bits":
        return True
    # Behind a kernel hls4ml multiplies with the scale; for a depthwise one it takes the products.
    if part in ("kernel", "depthwise") and name == "quantized_bits" and isinstance(alpha, Real):
        return bool(np.frexp(float(alpha))[0] == 0.5)  # a power of two
    return bool(part == "depthwise" and isinstance(alpha, str) and alpha == "auto_po2")


# By quantizer: keys of `problems.yaml`, and which quantizers have the problem.
_ACTIVATIONS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "quantized_bits": {
        "bits scaled": lambda q: not (q.alpha is None or _is_one(q.alpha)),
        "bits unsigned": lambda q: not q.keep_negative,
        "bits symmetric": lambda q: q.keep_negative and q.symmetric,
        "bits of a sign": lambda q: q.keep_negative and q.bits == 1,
    },
    "quantized_relu": {
        "relu with slope": lambda q: q.negative_slope,
        "relu of sigmoid": lambda q: q.use_sigmoid,
        "relu with bound": lambda q: q.relu_upper_bound is not None and not q.is_quantized_clip,
    },
    "quantized_tanh": {
        "tanh real": lambda q: q.use_real_tanh,
        "tanh of one bit": lambda q: not q.use_real_tanh and q.bits == 1,
    },
    "quantized_sigmoid": {
        "sigmoid real": lambda q: q.use_real_sigmoid,
        "sigmoid symmetric": lambda q: not q.use_real_sigmoid and q.symmetric,
    },
}
# hls4ml lets QKeras itself quantize the weights and then finds the type that holds them.
_WEIGHTS = {  # and whether they have a scale
    **{f"quantized_{name}": name == "bits" for name in ("bits", "relu", "sigmoid", "tanh")},
    **{"stochastic_ternary": True, "ternary": True},
}
_UNKNOWN = {
    "binary": "hls4ml computes it wrongly behind a Flatten with io_stream",
    "ternary": "hls4ml does not compile it with io_stream, and shifts its threshold",
    "linear": "it is not a quantizer",
}


def _name(quantizer: Any) -> str:
    return str(getattr(quantizer, "__name__", None) or type(quantizer).__name__)


def _is_one(alpha: Any) -> bool:
    return isinstance(alpha, Real) and not isinstance(alpha, bool) and float(alpha) == 1


def _text(alpha: Any) -> str:
    return repr(alpha) if alpha is None or isinstance(alpha, (str, int, float)) else "<array>"
