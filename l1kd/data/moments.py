"""Moments of normal events: mean and spread of every input, principal axes of them all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.data.dataset import Sample

Values = NDArray[np.float64]
# Mean and standard deviation of every input over normal events, both of the event's shape.
Spread = tuple[Values, Values]

MOST_EVENTS = 50_000  # normals in memory, which principal axes are of


def square_root(events: NDArray[Any], offset: float | None) -> Values:
    """`sqrt(x + offset)` of events of any shape, what lies below as there; None: as they are."""
    values = np.asarray(events, np.float64)
    return values if offset is None else np.sqrt(np.maximum(values + offset, 0))


def measure_spread(sample: Sample, axes: tuple[int, ...], offset: float | None = None) -> Spread:
    """Mean and spread of a sample's inputs, or of `sqrt(x + offset)`, pooled along `axes`."""
    count, total, square = 0, np.zeros(sample.shape), np.zeros(sample.shape)
    for chunk in sample.chunks():
        events = square_root(chunk, offset)
        count += len(events)
        total += events.sum(0)
        square += np.square(events).sum(0)
    mean, second = total / count, square / count
    if axes:
        mean = np.broadcast_to(mean.mean(axes, keepdims=True), sample.shape)
        second = np.broadcast_to(second.mean(axes, keepdims=True), sample.shape)
    deviation = np.sqrt(np.maximum(second - np.square(mean), 0))
    # An input that never fires must not dominate the score when it does by one count.
    floor = max(1e-3 * float(deviation.max()), 1e-6)
    return np.array(mean), np.maximum(deviation, floor)


def principal_axes(sample: Sample, offset: float | None) -> tuple[Values, Values, Values]:
    """Mean (inputs,), axes (inputs, inputs) as columns by rising variance, and a whitening matrix.

    Of a sample's first events, `sqrt(x + offset)`, with the covariance of Ledoit and Wolf (2004).
    """
    from sklearn.covariance import LedoitWolf

    events = square_root(sample.events(MOST_EVENTS), offset)
    found = LedoitWolf().fit(events.reshape(len(events), -1))
    # Shrunk towards a multiple of the identity: its axes are the plain covariance's.
    variances, axes = np.linalg.eigh(found.covariance_)
    floor = max(1e-6 * variances[-1], 1e-12)  # an input that never varies has no say
    return found.location_, axes, axes / np.sqrt(np.maximum(variances, floor))
