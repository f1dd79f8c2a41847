"""A network's outputs in exact arithmetic.

Every layer computes in the cheapest carrier that its proven width allows: float32 up to 24 bits,
float64 up to 53, 64-bit integers up to 62, Python's integers beyond. Floats first: NumPy multiplies
matrices of them tens of times faster than matrices of integers, and as long as every partial sum
fits the significand, in whatever order the sums are taken, no float operation rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.exact import arithmetic
from l1kd.exact.bounds import Bound, aligned, halved
from l1kd.exact.network import (
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
_CELLS = 1 << 22  # values of the largest layer that are in memory at a time


def carrier(bits: int) -> Any:
    """The cheapest kind of number that holds integers of `bits` bits, sign not counted."""
    for limit, kind in ((24, np.float32), (53, np.float64), (62, np.int64)):
        if bits <= limit:
            return kind
    return object


def counts_of(network: Network, events: ArrayLike) -> NDArray[np.int64]:
    """Events (N, *shape) or (N, inputs) as counts of the port's LSB, (N, *shape)."""
    array: NDArray[Any] = np.asarray(events)
    shape, port = network.shape, network.port
    if array.ndim < 1 or array.shape[1:] not in (shape, (network.nodes[0].size,)):
        raise ValueError(f"{network.name} reads events of the shape {shape}, not {array.shape[1:]}")
    steps = np.multiply(array, 2.0**port.fraction, dtype=np.float64)
    low, high = port.bounds
    with np.errstate(invalid="ignore"):
        counts = steps.astype(np.int64)
    held = (counts == steps) & (counts >= low) & (counts <= high)
    if not held.all():
        event, *place = np.argwhere(~held)[0]
        found = array[(event, *place)]
        raise ValueError(
            f"event {event}, input {tuple(map(int, place))}: {found} is no value of the port "
            f"{port.text}"
        )
    return counts.reshape(len(counts), *shape)


def predict(network: Network, events: ArrayLike) -> NDArray[np.float64]:
    """Outputs (N, outputs) of events; see `Network.predict`."""
    found = values(network, events, network.outputs)
    return np.concatenate(
        [found[name].reshape(len(found[name]), network[name].size) for name in network.outputs],
        axis=1,
    )


def values(
    network: Network, events: ArrayLike, names: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """What named layers give, (N, *their shape), as values; see `Network.values`."""
    counts = counts_of(network, events)
    largest = max(_cells(node) for node in network.nodes)
    chunk = max(1, _CELLS // largest)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for start in range(0, max(len(counts), 1), chunk):
        for name, found in forward(network, counts[start : start + chunk], names).items():
            scale = 2.0 ** -network.bounds[name].fraction
            parts[name].append(np.asarray(found, np.float64) * scale)
    return {name: np.concatenate(each) for name, each in parts.items()}


def _cells(node: Node) -> int:
    if isinstance(node, Conv):
        return node.size // node.shape[-1] * int(np.prod(node.kernel.shape[:3]))
    return node.size


def forward(
    network: Network, counts: NDArray[np.int64], names: tuple[str, ...]
) -> dict[str, Counts]:
    """Counts (N, *shape) through the network; what the named layers give, as counts."""
    readers: dict[str, int] = {}
    for node in network.nodes:
        for source in node.sources:
            readers[source] = readers.get(source, 0) + 1
    for name in names:
        readers[name] = readers.get(name, 0) + 1
    alive: dict[str, Counts] = {}
    for node in network.nodes:
        parts = [alive[name] for name in node.sources]
        if isinstance(node, Input):
            alive[node.name] = _carried(counts, carrier(network.bounds[node.name].bits))
        else:
            alive[node.name] = step(network, node, parts)
        for source in node.sources:
            readers[source] -= 1
            if not readers[source]:
                del alive[source]
    return {name: alive[name] for name in names}


def step(network: Network, node: Node, parts: list[Counts]) -> Counts:
    """One layer on counts of the layers that it reads, in the carrier of its proven width."""
    before = [network.bounds[name] for name in node.sources]
    kind = carrier(network.bounds[node.name].bits)
    if isinstance(node, Quantize):
        source, fraction = parts[0], before[0].fraction
        if not node.halved and _is_identity(node, before[0]):
            return _carried(source, kind)
        if node.halved:
            wide = carrier(before[0].bits + abs(fraction) + 2)
            source, fraction = halved(_carried(source, wide), fraction)
        return _carried(node.type.requantize(source, fraction), kind)
    if isinstance(node, (Dense, Conv)):
        _, left, bias_left = aligned(node, before[0].fraction)
        kernel = _shifted(node.kernel, left, kind)
        product = arithmetic.affine(node, _carried(parts[0], kind), kernel)
        if node.bias.any():
            product += _shifted(node.bias, bias_left, kind)
        return product
    if isinstance(node, Pool):
        return arithmetic.pool(node, _carried(parts[0], kind), int(before[0].low.min()))
    if isinstance(node, Pad):
        return arithmetic.padded(node, parts[0])
    if isinstance(node, Reshape):
        return parts[0].reshape(len(parts[0]), *node.shape)
    if isinstance(node, Permute):
        return arithmetic.permuted(node, parts[0])
    if isinstance(node, Rectify):
        return arithmetic.rectified(node, _carried(parts[0], kind))
    assert isinstance(node, Merge)
    if node.operation == "multiply":
        return arithmetic.merge(node, [_carried(part, kind) for part in parts])
    fraction = max(bound.fraction for bound in before)
    return arithmetic.merge(
        node,
        [
            _shifted(part, fraction - bound.fraction, kind)
            for part, bound in zip(parts, before, strict=True)
        ],
    )


def _is_identity(node: Quantize, source: Bound) -> bool:
    """Whether a quantizer changes nothing, as that of the port, whose events are on its grid."""
    low, high = node.type.bounds
    inside = low <= int(source.low.min()) and int(source.high.max()) <= high
    plain = node.type.overflow != "SAT_SYM"  # which leaves out the lowest value
    return plain and node.type.fraction == source.fraction and inside


def _carried(counts: Counts, kind: Any) -> Counts:
    if counts.dtype == kind:
        return counts
    if kind is object and counts.dtype.kind == "f":
        counts = counts.astype(np.int64)  # Python's floats are no integers
    return counts.astype(kind)


def _shifted(counts: Counts, left: int, kind: Any) -> Counts:
    """Counts times 2^left in a carrier."""
    carried = _carried(counts, kind)
    if left == 0:
        return carried
    return carried * ((1 << left) if kind is object else kind(1 << left))
