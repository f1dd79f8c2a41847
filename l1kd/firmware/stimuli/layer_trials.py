"""Inputs of one layer of the exact network: ends of its sums, a basis, zeros, random points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.layers import Bound, Conv, Dense, Node
from l1kd.firmware.certificate.layer_conditions import as_convolution, image

_RANDOM = 64  # random points, dense and as many sparse
Counts = NDArray[Any]


def ends(bound: Bound) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest value of a layer, and the one closest to 0."""
    low, high = bound.low.astype(np.int64), bound.high.astype(np.int64)
    return low, high, np.clip(np.zeros_like(low), low, high)


def extremes(node: Dense | Conv, bound: Bound) -> Iterator[list[Counts]]:
    """The inputs that drive the sum of every output of a matrix to both its ends."""
    low, high, zero = (
        values.reshape(image(values.shape) if values.ndim > 1 else (1, 1, -1))
        for values in ends(bound)
    )
    conv = as_convolution(node) if isinstance(node, Conv) or bound.low.ndim > 1 else None
    if conv is None:
        assert isinstance(node, Dense)
        positive = node.kernel.T > 0
        flat = bound.low.astype(np.int64), bound.high.astype(np.int64)
        yield [np.where(np.concatenate([positive, ~positive]), flat[1], flat[0])]
        return
    rows, columns, _, filters = conv.kernel.shape
    # Windows so far apart that they share no input, from every first one.
    steps = [-(-size // stride) for size, stride in zip((rows, columns), conv.strides, strict=True)]
    outputs = image(conv.shape)
    for first in itertools.product(*(range(step) for step in steps)):
        made = np.broadcast_to(zero, (2 * filters, *zero.shape)).copy()
        for cell in itertools.product(range(rows), range(columns)):
            places = []
            for axis in (0, 1):
                at = np.arange(first[axis], outputs[axis], steps[axis]) * conv.strides[axis]
                at += cell[axis] - conv.padding[axis][0]
                places.append(at[(at >= 0) & (at < zero.shape[axis])])
            window = np.ix_(*places)
            positive = conv.kernel[cell].T > 0
            for number, up in enumerate((*positive, *~positive)):
                made[number][window] = np.where(up, high[window], low[window])
        yield [made.reshape(-1, *bound.low.shape)]


def basis(node: Node, bounds: list[Bound]) -> list[Counts]:
    """One input at a time, at its two ends and one step from 0, the others 0.

    In a convolution or a pooling inputs so far apart that no window sees two of them go together,
    each at another value.
    """
    sets: list[list[NDArray[np.int64]]] = [[] for _ in bounds]
    for active, bound in enumerate(bounds):
        low, high, zero = ends(bound)
        levels = (high, low, np.minimum(zero + 1, high), np.maximum(zero - 1, low))
        for mask, level in itertools.product(_masks(node, bound.low.shape), levels):
            for place, other in enumerate(bounds):
                _, _, zero = ends(other)
                sets[place].append(np.where(mask, level, zero) if place == active else zero)
    return [np.array(rows) for rows in sets]


def _masks(node: Node, shape: tuple[int, ...]) -> Iterator[NDArray[np.bool_]]:
    size = int(np.prod(shape))
    if (reach := node.reach) and len(shape) in (2, 3):
        height, width, channels = image(shape)
        rows, columns = np.indices((height, width))
        starts = (range(min(reach[0], height)), range(min(reach[1], width)), range(channels))
        for row, column, channel in itertools.product(*starts):
            mask = np.zeros((height, width, channels), bool)
            mask[..., channel] = (rows % reach[0] == row) & (columns % reach[1] == column)
            yield mask.reshape(shape)
    elif size <= 8192:
        for place in range(size):
            yield (np.arange(size) == place).reshape(shape)


def plain(bounds: list[Bound], seed: Any) -> Iterator[list[Counts]]:
    """Zeros, both ends, and random inputs, dense and sparse."""
    random = np.random.default_rng(seed)
    yield [np.array([zero, low, high]) for low, high, zero in map(ends, bounds)]
    sets = []
    for low, high, zero in map(ends, bounds):
        dense = random.integers(low, high, (_RANDOM, *low.shape), endpoint=True)
        sparse = np.where(random.random(dense.shape) < 0.2, dense, zero)
        sets.append(np.concatenate([dense, sparse]))
    yield sets
