"""Derivatives of a network's values: directions for a search, no proof.

Quantizers count as the identity inside their range and as constant outside (straight-through).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact import layers
from l1kd.exact.arithmetic import Counts, Pads, as_images, crop, pad, windows
from l1kd.exact.network import Network

Slopes = NDArray[np.float64]


def backward(
    network: Network,
    recorded: Mapping[str, Counts],
    upstream: Mapping[str, Slopes],
    *,
    leak: float = 0.0,
) -> dict[str, Slopes]:
    """Derivatives of `upstream`-weighted values by layer; `recorded` is from `Network.record`."""
    first = network.nodes[0]
    slopes = dict(upstream)
    for node in reversed(network.ancestors(upstream)):
        if node.name not in slopes or isinstance(node, layers.Input):
            continue
        parts = [recorded[name] for name in node.sources]
        before = [network.bounds[name] for name in node.sources]
        at = _Pass(parts, before, slopes[node.name], leak)
        given = layers.of_kind(PULLS, NO_PULL, node)(node, at)
        for name, slope in zip(node.sources, given, strict=True):
            shaped = slope.reshape(recorded[name].shape)
            slopes[name] = slopes[name] + shaped if name in slopes else shaped
    slopes.setdefault(first.name, np.zeros(recorded[first.name].shape))
    return slopes


def sensitivities(
    network: Network, node: layers.Affine, source: Counts, slope: Slopes
) -> tuple[Slopes, Slopes]:
    """Derivatives to weights (N, *kernel's shape) and biases (N, outputs), from the layer's."""
    values = source.astype(np.float64) * 2.0 ** -network.bounds[node.sources[0]].fraction
    per_output = slope.reshape(len(slope), -1, node.outputs)
    if isinstance(node, layers.Conv):
        values = node.seen(values)
    rows = values.reshape(len(values), per_output.shape[1], -1)
    kernels = np.matmul(rows.transpose(0, 2, 1), per_output)
    return kernels.reshape(len(values), *node.kernel.shape), per_output.sum(axis=1)


@dataclass(frozen=True)
class _Pass:
    """Counts and bounds that a layer read, and the slopes of its values."""

    parts: list[Counts]
    before: list[layers.Bound]
    slope: Slopes  # (N, *shape)
    leak: float  # slope of a quantizer outside of its range: a search dies where it is 0


def _quantized(node: layers.Quantize, at: _Pass) -> list[Slopes]:
    passed = at.slope * 0.5 if node.halved else at.slope
    if node.type.overflow == "WRAP":
        return [passed]
    offset, fraction = node.seen(at.before[0].fraction)
    low, high = (end * 2.0 ** (fraction - node.type.fraction) for end in node.type.bounds)
    value = at.parts[0].astype(np.float64) + offset
    return [np.where((value >= low) & (value <= high), passed, passed * at.leak)]


def _dense(node: layers.Dense, at: _Pass) -> list[Slopes]:
    kernel = node.kernel * 2.0**-node.kernel_fraction
    return [at.slope.reshape(-1, node.outputs) @ kernel.T]


def _convolved(node: layers.Conv, at: _Pass) -> list[Slopes]:
    kernel = node.kernel * 2.0**-node.kernel_fraction
    images = as_images(at.slope)
    flat = images.reshape(-1, node.outputs) @ kernel.transpose(3, 0, 1, 2).reshape(node.outputs, -1)
    of_windows = flat.reshape(*images.shape[:3], *kernel.shape[:3])
    return [_scattered(of_windows, at.parts[0].shape, node.strides, node.padding, node.dilation)]


def _pooled(node: layers.Pool, at: _Pass) -> list[Slopes]:
    images = as_images(at.slope)[:, :, :, None, None]
    whole = (*images.shape[:3], *node.window, images.shape[-1])
    if node.operation == "average":
        share = np.broadcast_to(images * 2.0**-node.finer, whole)
    else:
        padded = pad(as_images(at.parts[0]), node.padding, at.before[0].lowest)
        view = windows(padded, node.window, node.strides)
        seen = view.reshape(*view.shape[:4], -1)
        # The first of equals: a step along it is a step of the highest.
        chosen = np.arange(seen.shape[-1]) == seen.argmax(axis=-1)[..., None]
        share = images * chosen.transpose(0, 1, 2, 4, 3).reshape(whole)
    return [_scattered(share, at.parts[0].shape, node.strides, node.padding)]


def _scattered(
    slopes: Slopes,
    shape: tuple[int, ...],
    strides: tuple[int, int],
    padding: Pads,
    dilation: tuple[int, int] = (1, 1),
) -> Slopes:
    """Slopes of windows, (N, rows, columns, height, width, channels), added up where they lie."""
    window = slopes.shape[3], slopes.shape[4]
    whole = pad(as_images(np.zeros(shape)), padding)
    view = windows(whole, window, strides, dilation)
    for row, column in np.ndindex(window):
        view[..., row, column] += slopes[:, :, :, row, column]
    return crop(whole, padding)


def _rectified(node: layers.Rectify, at: _Pass) -> list[Slopes]:
    below = 0.0 if node.shift is None else 2.0**-node.shift
    return [np.where(at.parts[0] >= 0, at.slope, at.slope * below)]


def _merged(node: layers.Merge, at: _Pass) -> list[Slopes]:
    slope = at.slope
    if node.operation == "concatenate":
        ends = np.cumsum([part.shape[node.batch_axis] for part in at.parts])[:-1]
        return [np.asarray(each) for each in np.split(slope, ends, axis=node.batch_axis)]
    one, two = (
        part.astype(np.float64) * 2.0**-bound.fraction
        for part, bound in zip(at.parts, at.before, strict=True)
    )
    if node.operation == "multiply":
        given = [slope * two, slope * one]
    elif node.operation in ("maximum", "minimum"):  # the first where they are equal
        first = one >= two if node.operation == "maximum" else one <= two
        given = [np.where(first, slope, 0.0), np.where(first, 0.0, slope)]
    else:
        factors = {"add": (1, 1), "subtract": (1, -1), "average": (0.5, 0.5)}[node.operation]
        given = [slope * factor for factor in factors]
    for index, part in enumerate(at.parts):  # slopes of values that were repeated add up
        repeated = np.flatnonzero(np.not_equal(slope.shape, part.shape))
        given[index] = given[index].sum(axis=tuple(repeated), keepdims=True)
    return given


PULLS: dict[type[layers.Node], Callable[[Any, _Pass], list[Slopes]]] = {
    layers.Quantize: _quantized,
    layers.Dense: _dense,
    layers.Conv: _convolved,
    layers.Pool: _pooled,
    layers.Sum: lambda node, at: [np.broadcast_to(at.slope, at.parts[0].shape)],
    layers.Pad: lambda node, at: [crop(as_images(at.slope), node.padding)],
    layers.Reshape: lambda node, at: [at.slope],
    layers.Permute: lambda node, at: [at.slope.transpose(0, *(np.argsort(node.axes) + 1))],
    layers.Rectify: _rectified,
    layers.Merge: _merged,
}
NO_PULL: dict[type[layers.Node], str] = {layers.Input: "it reads no layer"}
