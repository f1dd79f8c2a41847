"""Moments of normal events: mean and spread of every input, principal axes of them all."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.data.dataset import Sample

Values = NDArray[np.float64]
# Mean and standard deviation of every input over normal events, both of the event's shape.
Spread = tuple[Values, Values]

MOST_EVENTS = 50_000  # that principal axes are fitted to, in memory
_MOST_INPUTS = 2048  # whose covariance is inverted


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


class PrincipalAxes(NamedTuple):
    """Mean (inputs,), variances (inputs,) rising, and their axes (inputs, inputs) as columns."""

    mean: Values
    variances: Values
    axes: Values

    @classmethod
    def fit(cls, sample: Sample, offset: float | None) -> PrincipalAxes:
        """Of a sample's first events, `sqrt(x + offset)`; the covariance is Ledoit and Wolf's."""
        from sklearn.covariance import LedoitWolf

        inputs = int(np.prod(sample.shape))
        if inputs > _MOST_INPUTS:
            raise UserError(
                f"events of {inputs} inputs are too many for their covariance (at most "
                f"{_MOST_INPUTS}); use `teacher: {{architecture: dense}}`"
            )
        events = square_root(sample.events(MOST_EVENTS), offset).reshape(-1, inputs)
        # Shrunk towards a multiple of the identity: its axes are the plain covariance's.
        found = LedoitWolf().fit(events)
        variances, axes = np.linalg.eigh(found.covariance_)
        # An input that never varies has no say.
        return cls(found.location_, np.maximum(variances, 1e-6 * variances[-1] + 1e-12), axes)

    def basis(self, components: int) -> Values:
        """The axes (inputs, components) of the largest variances."""
        if components >= len(self.mean):
            raise UserError(
                f"{components} components describe {len(self.mean)} inputs without a residual; "
                "take fewer"
            )
        return self.axes[:, -components:]

    @property
    def whitening(self) -> Values:
        """The matrix (inputs, inputs) that makes deviations from the mean of unit variance."""
        return self.axes / np.sqrt(self.variances)
