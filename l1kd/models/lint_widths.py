"""The lint's rule for sums that are too wide: how many bits a layer's values need.

hls4ml bounds every sum by interval arithmetic in float64. Past 53 bits such a bound is rounded, and
a sum that reaches a power of two exactly has one bit too few: it wraps around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.models.lint_graph import PARTS, Graph, kind, own_activation
from l1kd.models.lint_quantizers import Finding
from l1kd.models.quantizers import reading

__all__ = ["too_wide"]

_WIDEST = 53  # bits that a float64 holds


@dataclass(frozen=True)
class _Reach:
    """Values are at most `most` in size, in steps of 2^-`fraction`."""

    most: float
    fraction: int

    @property
    def bits(self) -> int:
        return math.ceil(math.log2(self.most)) + self.fraction + 1 if self.most else 1


def too_wide(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Sums of a dense layer or a convolution that need more bits than hls4ml can bound."""
    if kind(layer) not in PARTS:
        return
    reach = _reach(graph, graph.parents(layer)[0])
    found = None if reach is None else _sum(layer, reach)
    if found is not None and found.bits > _WIDEST:
        yield Finding(
            f"sums of {found.bits} bits",
            f"hls4ml's bounds hold {_WIDEST} bits; beyond them a sum can wrap around",
            "use fewer fraction bits in its weights or in what it reads",
        )


def _reach(graph: Graph, layer: Any) -> _Reach | None:
    """What a layer's output needs; None where that is not known."""
    quantizer = layer.quantizer if kind(layer) == "QActivation" else own_activation(layer)
    if quantizer is not None and getattr(quantizer, "__name__", "") != "relu":
        found = reading(quantizer)
        if found is None:
            return None
        return _Reach(max(-found.type.low, found.type.high), found.type.fraction)
    before = [_reach(graph, parent) for parent in graph.parents(layer)]
    known = [each for each in before if each is not None]
    if not known or len(known) < len(before):
        return None
    if kind(layer) in PARTS:
        return _sum(layer, known[0])
    most, fraction = [each.most for each in known], max(each.fraction for each in known)
    if kind(layer) in ("Add", "Subtract"):
        return _Reach(sum(most), fraction)
    if kind(layer) == "Multiply":
        return _Reach(math.prod(most), sum(each.fraction for each in known))
    return _Reach(max(most), fraction)


def _sum(layer: Any, before: _Reach) -> _Reach | None:
    """The sums of a layer with weights; None if QKeras cannot quantize them."""
    reach = before
    for part, stored in zip(PARTS[kind(layer)], layer.get_weights(), strict=False):
        quantizer = getattr(layer, f"{part}_quantizer_internal", None)
        if float(getattr(quantizer, "integer", 0)) < 0:
            return None
        stored = np.asarray(stored, np.float32)
        values = np.asarray(stored if quantizer is None else quantizer(stored), np.float64)
        if part == "bias":
            size = float(np.abs(values).max(initial=0))
            reach = _Reach(reach.most + size, max(reach.fraction, _fraction(values)))
            continue
        kept = values.ndim - (2 if part == "depthwise" else 1)
        axes = tuple(range(kept))
        largest = float(np.abs(values).sum(axis=axes).max(initial=0))
        reach = _Reach(reach.most * largest, reach.fraction + _fraction(values))
    return reach


def _fraction(values: NDArray[np.float64]) -> int:
    """Fraction bits of the finest of some values."""
    present = np.abs(values[(values != 0) & np.isfinite(values)])
    if not present.size:
        return 0
    mantissas, exponents = np.frexp(present)
    counts = np.ldexp(mantissas, 53).astype(np.int64)
    spare = np.log2((counts & -counts).astype(np.float64)).astype(int)
    return int((53 - exponents - spare).max())
