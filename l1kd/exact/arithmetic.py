"""Arithmetic of layers on counts, in whatever carries them: floats, 64-bit or Python integers.

Floats are tens of times faster in NumPy's matrix products, and round nothing as long as every
partial sum, in whatever order, fits the significand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]
Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)
NO_PADS: Pads = ((0, 0), (0, 0))


def carrier(bits: int) -> Any:
    """The cheapest number type that holds integers of `bits` bits, sign not counted."""
    kinds = ((24, np.float32), (53, np.float64), (62, np.int64))
    return next((kind for limit, kind in kinds if bits <= limit), object)


def carried(counts: Counts, kind: Any) -> Counts:
    """The same counts in another carrier."""
    if counts.dtype == kind:
        return counts
    if kind is object and counts.dtype.kind == "f":
        counts = counts.astype(np.int64)  # Python's floats are no integers
    return counts.astype(kind)


def shifted(counts: Counts, left: int, kind: Any) -> Counts:
    """Counts times 2^left in a carrier."""
    counts = carried(counts, kind)
    if left == 0:
        return counts
    return counts * ((1 << left) if kind is object else kind(1 << left))


def halved(counts: Counts, fraction: int) -> tuple[Counts, int]:
    """x/2 + 1/2: counts and their fraction, in which 1/2 is a whole number of them."""
    if fraction < 0:
        counts, fraction = counts * (1 << -fraction), 0
    return counts + (1 << fraction), fraction + 1


def as_images(counts: Counts) -> Counts:
    """(N, width, channels) as (N, 1, width, channels), (N, channels) as (N, 1, 1, channels)."""
    return counts.reshape(len(counts), *(1,) * (4 - counts.ndim), *counts.shape[1:])


def pad(images: Counts, padding: Pads, value: Any = 0) -> Counts:
    """Cells of `value` around images."""
    if padding == NO_PADS:
        return images
    return np.pad(images, ((0, 0), *padding, (0, 0)), constant_values=value)


def crop(images: Counts, padding: Pads) -> Counts:
    """Images without the cells that `pad` put around them."""
    (top, bottom), (left, right) = padding
    return images[:, top : images.shape[1] - bottom, left : images.shape[2] - right]


def windows(
    images: Counts,
    window: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Counts:
    """A view of all windows: (N, rows, columns, channels, window height, window width)."""
    reach = tuple((size - 1) * step + 1 for size, step in zip(window, dilation, strict=True))
    view: Counts = np.lib.stride_tricks.sliding_window_view(  # type: ignore[call-overload]
        images, reach, axis=(1, 2), writeable=True
    )
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
