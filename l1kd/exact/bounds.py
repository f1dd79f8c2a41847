"""What every layer of a network can give, by interval arithmetic: for *all* events on the port.

The bound of a layer whose inputs do not depend on each other is reached by some event; further back
it may be wider than what can happen, and never narrower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import arithmetic
from l1kd.exact.network import (
    Affine,
    Conv,
    Dense,
    Input,
    Merge,
    Network,
    Node,
    Pad,
    Permute,
    Pool,
    Quantize,
    Rectify,
    Reshape,
)

Counts = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Bound:
    """What a layer can give."""

    fraction: int  # its values are counts of 2^-fraction
    low: Counts  # the lowest and the highest count of every output, (*shape), Python integers
    high: Counts
    # no sum on the way to any output, in whatever order it is taken, is further from 0 than this
    # many counts
    magnitude: int

    @property
    def bits(self) -> int:
        """Bits that hold every partial sum without its sign: a float32 has 24, a float64 53."""
        return self.magnitude.bit_length()

    @property
    def type(self) -> FixedPoint:
        """The narrowest type that holds every output of the layer."""
        return FixedPoint.holding(int(self.low.min()), int(self.high.max()), self.fraction)


def pool_shift(node: Pool) -> int:
    """Bits by which an average is finer than what it is taken of."""
    return (int(np.prod(node.window)).bit_length() - 1) if node.operation == "average" else 0


def aligned(node: Affine, fraction: int) -> tuple[int, int, int]:
    """The fraction of a layer's sums, and the left shifts of its products and of its bias."""
    product = fraction + node.kernel_fraction
    common = max(product, node.bias_fraction) if node.bias.any() else product
    return common, common - product, common - node.bias_fraction


def bounds(network: Network) -> dict[str, Bound]:
    """The bound of every layer, by name."""
    found: dict[str, Bound] = {}
    for node in network.nodes:
        found[node.name] = _bound(node, [found[name] for name in node.sources])
    return found


def _bound(node: Node, before: list[Bound]) -> Bound:
    if isinstance(node, Input):
        lowest, highest = node.type.bounds
        return _made(node.type.fraction, _full(node, lowest), _full(node, highest))
    source = before[0]
    if isinstance(node, Quantize):
        return _made(node.type.fraction, *_quantized(node, source))
    if isinstance(node, (Dense, Conv)):
        return _affine(node, source)
    if isinstance(node, Pool):
        lowest = int(source.low.min())
        low, high = (arithmetic.pool(node, each[None], lowest)[0] for each in _ends(source))
        shift = pool_shift(node)
        found = _made(source.fraction + shift, low, high)
        furthest = max(abs(int(source.low.min())), abs(int(source.high.max())))
        return Bound(found.fraction, found.low, found.high, furthest << shift)
    if isinstance(node, Pad):
        low, high = (arithmetic.padded(node, each[None])[0] for each in _ends(source))
        return _made(source.fraction, low, high)
    if isinstance(node, Reshape):
        low, high = (each.reshape(node.shape) for each in _ends(source))
        return _made(source.fraction, low, high)
    if isinstance(node, Permute):
        low, high = (arithmetic.permuted(node, each[None])[0] for each in _ends(source))
        return _made(source.fraction, low, high)
    if isinstance(node, Rectify):
        low, high = (arithmetic.rectified(node, each) for each in _ends(source))
        return _made(source.fraction + (node.shift or 0), low, high)
    assert isinstance(node, Merge)
    return _merged(node, before)


def _quantized(node: Quantize, source: Bound) -> tuple[Counts, Counts]:
    """Rounding and saturation never turn two values round; an overflow that wraps may do it."""
    low, high = _ends(source)
    fraction = source.fraction
    if node.halved:
        (low, finer), (high, _) = halved(low, fraction), halved(high, fraction)
        fraction = finer
    lowest, highest = node.type.bounds
    ends = [node.type.requantize(each, fraction) for each in (low, high)]
    if node.type.overflow in ("SAT", "SAT_SYM"):
        return ends[0], ends[1]
    shift = node.type.fraction - fraction
    below = [(each << shift) if shift >= 0 else -((-each) >> -shift) for each in (low, high)]
    inside = (below[0] > lowest) & (below[1] < highest)
    return np.where(inside, ends[0], lowest), np.where(inside, ends[1], highest)


def halved(counts: Counts, fraction: int) -> tuple[Counts, int]:
    """x/2 + 1/2: counts and their fraction, in which 1/2 is a whole number of them."""
    if fraction < 0:
        counts, fraction = counts * (1 << -fraction), 0
    return counts + (1 << fraction), fraction + 1


def _affine(node: Dense | Conv, source: Bound) -> Bound:
    fraction, left, bias_left = aligned(node, source.fraction)
    kernel = node.kernel.astype(object) * (1 << left)
    up, down = np.maximum(kernel, 0), np.minimum(kernel, 0)
    bias = node.bias.astype(object) * (1 << max(bias_left, 0))
    low, high = (each[None] for each in _ends(source))
    furthest = np.maximum(abs(low), abs(high))
    if _fits(furthest, kernel):
        up, down, low, high, furthest = (
            each.astype(np.int64) for each in (up, down, low, high, furthest)
        )
    lowest = arithmetic.affine(node, low, up) + arithmetic.affine(node, high, down)
    highest = arithmetic.affine(node, high, up) + arithmetic.affine(node, low, down)
    reached = arithmetic.affine(node, furthest, up - down)
    reached = reached.astype(object) + abs(bias)
    return Bound(
        fraction,
        lowest[0].astype(object) + bias,
        highest[0].astype(object) + bias,
        int(reached.max()),
    )


def _fits(furthest: Counts, kernel: Counts) -> bool:
    """Whether 64 bits hold every sum: Python's integers take a hundred times as long."""
    sums = abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0)
    return int(furthest.max()) * int(sums.max()) < 2**62


def _merged(node: Merge, before: list[Bound]) -> Bound:
    if node.operation == "multiply":
        one, two = before
        ends = [a[None] * b[None] for a in _ends(one) for b in _ends(two)]
        low, high = np.minimum.reduce(ends)[0], np.maximum.reduce(ends)[0]
        return _made(one.fraction + two.fraction, low, high)
    fraction = max(each.fraction for each in before)
    lows, highs = (
        [end[None] * (1 << (fraction - each.fraction)) for each, end in ends]
        for ends in (
            [(each, each.low) for each in before],
            [(each, each.high) for each in before],
        )
    )
    if node.operation == "subtract":
        low, high = lows[0] - highs[1], highs[0] - lows[1]
    else:
        low, high = arithmetic.merge(node, lows), arithmetic.merge(node, highs)
    bound = _made(fraction + (node.operation == "average"), low[0], high[0])
    furthest = [
        max(int(abs(each).max()) for each in ends) for ends in zip(lows, highs, strict=True)
    ]
    sums = node.operation in ("add", "subtract", "average")
    magnitude = sum(furthest) if sums else max(furthest)
    return Bound(bound.fraction, bound.low, bound.high, magnitude)


def _ends(bound: Bound) -> tuple[Counts, Counts]:
    return bound.low, bound.high


def _full(node: Node, count: int) -> Counts:
    counts = np.empty(node.shape, object)
    counts[...] = count
    return counts


def _made(fraction: int, low: Counts, high: Counts) -> Bound:
    low, high = low.astype(object), high.astype(object)
    magnitude = int(max(abs(low).max(), abs(high).max()))
    return Bound(fraction, low, high, magnitude)
