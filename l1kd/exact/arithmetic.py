"""The arithmetic of layers on counts, in whatever carries them: floats, 64-bit or Python integers.

None of these functions rounds; the callers choose a carrier that is wide enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.network import Conv, Dense, Merge, Pad, Permute, Pool, Rectify

_DEEP = 4  # channels from which a convolution goes cell by cell
Counts = NDArray[Any]
Pads = tuple[tuple[int, int], tuple[int, int]]


def as_images(counts: Counts) -> Counts:
    """(N, width, channels) as (N, 1, width, channels); images stay as they are."""
    return counts[:, None] if counts.ndim == 3 else counts


def windows(
    images: Counts,
    window: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Counts:
    """A view of all windows: (N, rows, columns, channels, window height, window width)."""
    reach = tuple((size - 1) * step + 1 for size, step in zip(window, dilation, strict=True))
    view: Counts = np.lib.stride_tricks.sliding_window_view(images, reach, axis=(1, 2))  # type: ignore[call-overload]
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def pad(counts: Counts, padding: Pads, value: Any = 0) -> Counts:
    """Cells of `value` around images."""
    if padding == ((0, 0), (0, 0)):
        return counts
    return np.pad(counts, ((0, 0), *padding, (0, 0)), constant_values=value)


def affine(node: Dense | Conv, counts: Counts, kernel: Counts) -> Counts:
    """`counts` times a kernel of the node's shape, without bias, (N, *shape)."""
    if isinstance(node, Dense):
        product: Counts = counts.reshape(-1, kernel.shape[0]) @ kernel
        return product.reshape(len(counts), *node.shape)
    images = pad(as_images(counts), node.padding)
    height, width, channels, filters = kernel.shape
    if channels >= _DEEP and kernel.dtype != object:
        return _cell_by_cell(node, images, kernel)
    seen = windows(images, (height, width), node.strides, node.dilation)
    matrix = kernel.transpose(2, 0, 1, 3).reshape(-1, filters)
    sums: Counts = seen.reshape(-1, channels * height * width) @ matrix
    return sums.reshape(len(counts), *node.shape)


def _cell_by_cell(node: Conv, images: Counts, kernel: Counts) -> Counts:
    """One matrix product per cell of the kernel: whole pixels are copied, not single values."""
    total: Counts | None = None
    for i, j in np.ndindex(*kernel.shape[:2]):
        seen = _cell(images, node, (i * node.dilation[0], j * node.dilation[1]), node.shape)
        part = seen.reshape(-1, kernel.shape[2]) @ kernel[i, j]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total.reshape(len(images), *node.shape)


def _cell(
    images: Counts, node: Conv | Pool, place: tuple[int, int], shape: tuple[int, ...]
) -> Counts:
    """What all windows see at one place, (N, rows, columns, channels)."""
    rows, columns = (shape[0], shape[1]) if len(shape) == 3 else (1, shape[0])
    if len(shape) == 1:  # a global pool
        rows, columns = 1, 1
    (y, x), (down, right) = place, node.strides
    return images[
        :, y : y + (rows - 1) * down + 1 : down, x : x + (columns - 1) * right + 1 : right
    ]


def pool(node: Pool, counts: Counts, lowest: int) -> Counts:
    """The highest value, or the *sum*, of windows; `lowest` is no more than any count."""
    maximum = node.operation == "max"
    images = pad(as_images(counts), node.padding, lowest if maximum else 0)
    found: Counts | None = None
    for place in np.ndindex(*node.window):
        seen = _cell(images, node, (place[0], place[1]), node.shape)
        if found is None:
            found = seen.copy()
        else:
            found = np.maximum(found, seen) if maximum else found + seen
    assert found is not None
    return found.reshape(len(counts), *node.shape)


def merge(node: Merge, parts: list[Counts]) -> Counts:
    """Parts of one fraction and carrier as one; of an average, the sum."""
    if node.operation == "concatenate":
        return np.concatenate(parts, axis=node.axis + 1 if node.axis >= 0 else node.axis)
    one, two = parts
    function: Any = {
        "add": np.add,
        "average": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }[node.operation]
    found: Counts = function(one, two)
    return found


def permuted(node: Permute, counts: Counts) -> Counts:
    """Axes in another order; the first one, the events, stays."""
    return counts.transpose(0, *(axis + 1 for axis in node.axes))


def rectified(node: Rectify, counts: Counts) -> Counts:
    """max(x, 0), or the counts of a slope's finer step: see `Rectify`."""
    if node.shift is None:
        return np.maximum(counts, 0)
    return np.where(counts >= 0, counts * (1 << node.shift), counts)


def padded(node: Pad, counts: Counts) -> Counts:
    """Zeros around images."""
    return pad(as_images(counts), node.padding).reshape(len(counts), *node.shape)
