"""Stores weights as the values that their quantizers give, on a plain grid.

QKeras keeps float weights and quantizes them whenever a layer is called. Once trained, only the
quantized ones matter, and every quantizer that scales (alpha, powers of two), leaves out a value
(symmetric) or knows few of them (ternary, binary) is as good as the plain type that holds them all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import qkeras
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.lint.keras_graph import PARTS
from l1kd.networks.lint.layer_rules import fraction_bits
from l1kd.networks.quantizers import text_of, type_of

# Weights with a quantizer by the class of their layer, in the order in which they are stored.
SLOTS = {**PARTS, "QConv2DTranspose": ("kernel", "bias")}
MOST = 24  # bits that a float32 holds
# Bits of weights that are rounded to a new grid: what it costs in quality is little.
KERNEL_BITS, BIAS_BITS = 16, 18


class Settled(NamedTuple):
    """Weights as their quantizer gives them."""

    values: NDArray[np.float64]
    text: str | None  # QKeras' text of a plain quantizer that holds them; None: it stays
    strayed: int  # how many of them QKeras' float32 arithmetic puts off their grid


def quantized(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Store every layer's quantized weights; round those that have no grid if `lossy`."""
    model = graph.build()
    for node in graph.nodes:
        if node.kind in SLOTS and node.weights:
            yield from _quantized(node, model.get_layer(node.name), lossy)


def _quantized(node: Node, layer: Any, lossy: bool) -> Iterator[Repair]:
    renamed: list[str] = []
    strayed = 0
    for place, slot in enumerate(SLOTS[node.kind][: len(node.weights)]):
        quantizer = getattr(layer, f"{slot}_quantizer_internal", None)
        found = None if quantizer is None else settled(quantizer, node.weights[place])
        if found is None:
            yield _on_some_grid(node, place, slot, quantizer, lossy)
            continue
        strayed += found.strayed
        if found.text is not None:
            if reworded(quantizer, found.text):
                renamed.append(f"{slot} {quantizer} -> {found.text}")
            node.config[f"{slot}_quantizer"] = found.text
        node.weights[place] = found.values.astype(np.float32)
    if renamed:
        what = f"weights keep their values on a plain grid: {'; '.join(renamed)}"
        yield Repair(node.name, what)
    pairs = zip(layer.get_weights(), node.weights, strict=True)
    if strayed:
        what = f"{strayed} weights so far out of their range that float32 left the grid are on it"
        yield Repair(node.name, what, "settled")
    elif not renamed and any((np.asarray(old) != new).any() for old, new in pairs):
        yield Repair(node.name, "weights stored as the values that their quantizers give")


def _on_some_grid(node: Node, place: int, slot: str, quantizer: Any, lossy: bool) -> Repair:
    """Weights without a quantizer, or with one whose values are on no grid."""
    stored = np.asarray(node.weights[place], np.float32)
    given = stored if quantizer is None else np.asarray(quantizer(stored))
    why = "has no quantizer" if quantizer is None else f"is on no binary grid: {quantizer}"
    kind = on_a_grid(given)
    bits = BIAS_BITS if slot == "bias" else KERNEL_BITS
    if kind is not None and plain_grid(kind).word <= bits:
        text = text_of(plain_grid(kind))
        node.config[f"{slot}_quantizer"] = text
        node.weights[place] = given
        return Repair(node.name, f"its {slot} {why}; all its values are on that of {text}")
    if not lossy:
        return Repair(node.name, f"its {slot} {why}; it can be rounded to {bits} bits", "offered")
    wide = requantized(given, bits)
    node.config[f"{slot}_quantizer"] = text_of(wide)
    node.weights[place] = wide.quantize(given).astype(np.float32)
    return Repair(node.name, f"its {slot} {why}; rounded to {text_of(wide)}", "lossy")


def settled(quantizer: Any, stored: NDArray[Any]) -> Settled | None:
    """The values that a weight quantizer gives; None if they are on no grid of at most 24 bits."""
    stored = np.asarray(stored, np.float32)
    given = np.asarray(quantizer(stored), np.float64)
    kind = type_of(quantizer)
    if kind is not None:
        values = kind.quantize(stored)
    else:
        # x + (q(x) - x) is what gradients pass through; in float32 it need not be q(x).
        direct = copy.copy(quantizer)
        if hasattr(direct, "use_ste"):
            direct.use_ste = False
        values = np.asarray(direct(stored), np.float64)
        sign = type(quantizer).__name__ == "quantized_bits" and quantizer.bits == 1
        if sign and quantizer.keep_negative and quantizer.alpha in (None, 1):
            return Settled(values, None, int(np.sum(given != values)))
        kind = on_a_grid(values)
    if kind is None:
        return None
    return Settled(values, text_of(plain_grid(kind)), int(np.sum(given != values)))


def reworded(given: Any, text: str) -> bool:
    """True if a quantizer's text is more than another spelling of it."""
    ours, theirs = qkeras.get_quantizer(text), given.get_config()
    return type(given) is not type(ours) or any(
        theirs[key] != value
        for key, value in ours.get_config().items()
        if key in theirs and not (key == "alpha" and theirs[key] is None)
    )


def on_a_grid(values: NDArray[Any]) -> FixedPoint | None:
    """The narrowest type that holds all of `values`; None if it has more than 24 bits."""
    exact = np.asarray(values, np.float64)
    largest = np.abs(exact).max(initial=0)
    if not largest:
        return FixedPoint(2, 1)
    fraction = fraction_bits(exact)
    if int(np.frexp(largest)[1]) + fraction > MOST:
        return None
    integers = np.ldexp(exact, fraction).astype(np.int64)
    kind = FixedPoint.holding(int(integers.min()), int(integers.max()), fraction)
    return kind if kind.word <= MOST else None


def plain_grid(kind: FixedPoint) -> FixedPoint:
    """The narrowest signed type that QKeras can say and that holds all values of `kind`.

    It has a sign, a bit beside it, and no negative integer bits.
    """
    word, integer = kind.word + (not kind.signed), kind.integer + (not kind.signed)
    return FixedPoint(max(word + max(1 - integer, 0), 2), max(integer, 1))


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
