"""Derivatives of a network's values: which input, weight or unit a value hangs on, and how much.

Quantizers count as the identity inside their range and as constant outside, as in training
(straight-through); what follows from these derivatives is a direction for a search, no proof.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.exact import arithmetic
from l1kd.exact.bounds import pool_shift
from l1kd.exact.evaluate import counts_of, step
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
Slopes = NDArray[np.float64]


def gradient(
    network: Network,
    events: ArrayLike,
    name: str,
    units: NDArray[np.int64],
    *,
    leak: float = 0.0,
) -> Slopes:
    """Derivative of one value of a layer per event, to that event's inputs.

    `events`: (N, *shape) or (N, inputs), values of the port's type.
    `units`: which of its values, counted without the batch, (N,).
    `leak`: what counts as the slope of a quantizer outside of its range. A search dies where it is
    0.
    Returns (N, *shape).
    """
    counts = counts_of(network, events)
    upstream = np.zeros((len(counts), network[name].size))
    upstream[np.arange(len(counts)), units] = 1
    found = backward(
        network,
        record(network, counts, [name]),
        {name: upstream.reshape(len(counts), *network[name].shape)},
        leak=leak,
    )
    return found[network.nodes[0].name]


def ancestors(network: Network, names: Iterable[str]) -> list[Node]:
    """The named layers and all that they read, in the network's order."""
    needed = set(names)
    for node in reversed(network.nodes):
        if node.name in needed:
            needed.update(node.sources)
    return [node for node in network.nodes if node.name in needed or isinstance(node, Input)]


def record(network: Network, counts: Counts, names: Iterable[str]) -> dict[str, Counts]:
    """What the named layers, and all that they read, give for counts (N, *shape), as counts."""
    found: dict[str, Counts] = {}
    for node in ancestors(network, names):
        parts = [found[name] for name in node.sources]
        found[node.name] = counts if isinstance(node, Input) else step(network, node, parts)
    return found


def seen(network: Network, node: Quantize) -> tuple[float, int]:
    """What a quantizer rounds, in terms of its source's counts."""
    fraction = network.bounds[node.sources[0]].fraction
    return (2.0**fraction, fraction + 1) if node.halved else (0, fraction)


def backward(
    network: Network,
    recorded: dict[str, Counts],
    upstream: dict[str, Slopes],
    *,
    leak: float = 0.0,
) -> dict[str, Slopes]:
    """Derivatives of a weighted sum of values, to the values of every layer behind it.

    `upstream`: the weights by layer, (N, *its shape).
    Returns by layer, (N, *its shape): of values to values, not of counts to counts.
    """
    first = network.nodes[0]
    slopes = dict(upstream)
    for node in reversed(ancestors(network, upstream)):
        if node.name not in slopes or isinstance(node, Input):
            continue
        parts = [recorded[name] for name in node.sources]
        given = _pulled(network, node, parts, recorded[node.name], slopes[node.name], leak)
        for name, slope in zip(node.sources, given, strict=True):
            slopes[name] = slopes[name] + slope if name in slopes else slope
    slopes.setdefault(first.name, np.zeros(recorded[first.name].shape))
    return slopes


def _pulled(
    network: Network,
    node: Node,
    parts: list[Counts],
    result: Counts,
    slope: Slopes,
    leak: float,
) -> list[Slopes]:
    """Slopes to what a layer reads, from those to what it gives."""
    shape = parts[0].shape
    if isinstance(node, Quantize):
        return [_quantized(network, node, parts[0], slope, leak)]
    if isinstance(node, Dense):
        kernel = node.kernel * 2.0**-node.kernel_fraction
        return [(slope.reshape(-1, kernel.shape[1]) @ kernel.T).reshape(shape)]
    if isinstance(node, Conv):
        return [_convolved(node, shape, slope)]
    if isinstance(node, Pool):
        return [_pooled(network, node, parts[0], slope)]
    if isinstance(node, Pad):
        whole = arithmetic.as_images(slope.reshape(len(slope), *node.shape))
        return [_cropped(whole, node.padding).reshape(shape)]
    if isinstance(node, Reshape):
        return [slope.reshape(shape)]
    if isinstance(node, Permute):
        back = np.argsort(node.axes)
        return [slope.reshape(len(slope), *node.shape).transpose(0, *(back + 1)).reshape(shape)]
    if isinstance(node, Rectify):
        below = 0.0 if node.shift is None else 2.0**-node.shift
        return [np.where(parts[0] >= 0, slope, slope * below)]
    assert isinstance(node, Merge)
    given = _merged(network, node, parts, result, slope.reshape(result.shape))
    return [_folded(each, part.shape) for each, part in zip(given, parts, strict=True)]


def _quantized(
    network: Network, node: Quantize, source: Counts, slope: Slopes, leak: float
) -> Slopes:
    passed = slope * 0.5 if node.halved else slope
    if node.type.overflow == "WRAP":
        return passed
    offset, fraction = seen(network, node)
    low, high = (end * 2.0 ** (fraction - node.type.fraction) for end in node.type.bounds)
    value = source.astype(np.float64) + offset
    return np.where((value >= low) & (value <= high), passed, passed * leak)


def _convolved(node: Conv, shape: tuple[int, ...], slope: Slopes) -> Slopes:
    kernel = node.kernel * 2.0**-node.kernel_fraction
    height, width, channels, filters = kernel.shape
    images = arithmetic.as_images(slope.reshape(len(slope), *node.shape))
    events, rows, columns = images.shape[:3]
    flat = images.reshape(-1, filters) @ kernel.transpose(3, 0, 1, 2).reshape(filters, -1)
    flat = flat.reshape(events, rows, columns, height, width, channels)
    return _scattered(flat, shape, node.strides, node.dilation, node.padding)


def _scattered(
    slopes: NDArray[np.float64],
    shape: tuple[int, ...],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> Slopes:
    """Slopes of windows, (N, rows, columns, height, width, channels), added up where they lie."""
    events, rows, columns, height, width, channels = slopes.shape
    image = (1, *shape[1:]) if len(shape) == 3 else shape[1:]
    (top, bottom), (left, right) = padding
    whole = np.zeros((events, image[0] + top + bottom, image[1] + left + right, channels))
    for i in range(height):
        for j in range(width):
            y, x = i * dilation[0], j * dilation[1]
            ends = y + (rows - 1) * strides[0] + 1, x + (columns - 1) * strides[1] + 1
            whole[:, y : ends[0] : strides[0], x : ends[1] : strides[1]] += slopes[:, :, :, i, j]
    return _cropped(whole, padding).reshape(shape)


def _cropped(images: Slopes, padding: tuple[tuple[int, int], tuple[int, int]]) -> Slopes:
    (top, bottom), (left, right) = padding
    return images[:, top : images.shape[1] - bottom, left : images.shape[2] - right]


def _pooled(network: Network, node: Pool, source: Counts, slope: Slopes) -> Slopes:
    whole = node.shape if len(node.shape) > 1 else (1, 1, *node.shape)  # a global pool
    images = arithmetic.as_images(slope.reshape(len(slope), *whole))
    height, width = node.window
    if node.operation == "average":
        share = images[:, :, :, None, None] * 2.0 ** -pool_shift(node)
        share = np.broadcast_to(share, (*images.shape[:3], height, width, images.shape[3]))
    else:
        lowest = int(network.bounds[node.sources[0]].low.min())
        padded = arithmetic.pad(arithmetic.as_images(source), node.padding, lowest)
        view = arithmetic.windows(padded, node.window, node.strides)
        cells = view.reshape(*view.shape[:4], height * width)
        # The first of equals: a step along it is a step of the highest.
        chosen = np.arange(height * width) == cells.argmax(axis=-1)[..., None]
        share = (images[..., None] * chosen).transpose(0, 1, 2, 4, 3)
        share = share.reshape(*images.shape[:3], height, width, images.shape[3])
    return _scattered(share, source.shape, node.strides, (1, 1), node.padding)


def _merged(
    network: Network, node: Merge, parts: list[Counts], result: Counts, slope: Slopes
) -> list[Slopes]:
    if node.operation == "concatenate":
        axis = node.axis + 1 if node.axis >= 0 else node.axis
        ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
        return [np.asarray(each) for each in np.split(slope, ends, axis=axis)]
    if node.operation == "add":
        return [slope for _ in parts]
    if node.operation == "subtract":
        return [slope, -slope]
    if node.operation == "average":
        return [slope / 2, slope / 2]
    bounds = [network.bounds[name] for name in node.sources]
    if node.operation == "multiply":
        one, two = (
            part.astype(np.float64) * 2.0**-bound.fraction
            for part, bound in zip(parts, bounds, strict=True)
        )
        return [slope * two, slope * one]
    fraction = max(bound.fraction for bound in bounds)
    free = np.ones(slope.shape, np.bool_)
    given = []
    for name, part in zip(node.sources, parts, strict=True):
        left = fraction - network.bounds[name].fraction
        mine = free & (part.astype(np.float64) * 2.0**left == result.astype(np.float64))
        free &= ~mine
        given.append(np.where(mine, slope, 0.0))
    return given


def _folded(slope: Slopes, shape: tuple[int, ...]) -> Slopes:
    """Slopes of values that were repeated, added up."""
    repeated = tuple(
        axis
        for axis, (whole, own) in enumerate(zip(slope.shape, shape, strict=True))
        if whole != own
    )
    return slope.sum(axis=repeated, keepdims=True) if repeated else slope


def sensitivities(
    network: Network, node: Dense | Conv, source: Counts, slope: Slopes
) -> tuple[Slopes, Slopes]:
    """Derivatives to a layer's weights and biases, event by event.

    `source`: what the layer reads, counts (N, *shape).
    `slope`: derivatives to what the layer gives, (N, *shape), from `backward`.
    Returns (N, *shape of the kernel) and (N, outputs).
    """
    scale = 2.0 ** -network.bounds[node.sources[0]].fraction
    values = source.astype(np.float64) * scale
    outputs = node.kernel.shape[-1]
    per_output = slope.reshape(len(slope), -1, outputs)
    if isinstance(node, Dense):
        rows = values.reshape(len(values), -1, node.kernel.shape[0])
    else:
        images = arithmetic.pad(arithmetic.as_images(values), node.padding)
        height, width = node.kernel.shape[:2]
        view = arithmetic.windows(images, (height, width), node.strides, node.dilation)
        rows = view.transpose(0, 1, 2, 4, 5, 3).reshape(len(values), per_output.shape[1], -1)
    kernels = np.matmul(rows.transpose(0, 2, 1), per_output)
    return kernels.reshape(len(values), *node.kernel.shape), per_output.sum(axis=1)
