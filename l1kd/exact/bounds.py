"""Bounds of a layer's values by interval arithmetic: for *all* events on the port.

The bound of a layer whose inputs do not depend on each other is reached by some event; further back
it may be wider than what can happen, and never narrower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint


@dataclass(frozen=True, eq=False)
class Bound:
    """Lowest and highest values of a layer, as counts of 2^-fraction."""

    fraction: int
    low: NDArray[Any]  # of every output, (*shape), Python integers
    high: NDArray[Any]
    magnitude: int  # no sum on the way to any output, in any order, is further from 0

    @classmethod
    def of(cls, fraction: int, low: Any, high: Any, magnitude: int | None = None) -> Bound:
        """A bound; the magnitude is that of the ends unless given."""
        low, high = np.asarray(low).astype(object), np.asarray(high).astype(object)
        ends = max(abs(int(low.min())), abs(int(high.max())))
        return cls(fraction, low, high, ends if magnitude is None else magnitude)

    @property
    def bits(self) -> int:
        """Bits that hold every partial sum without its sign: a float32 has 24, a float64 53."""
        return self.magnitude.bit_length()

    @property
    def lowest(self) -> int:
        """The lowest count of any output."""
        return int(self.low.min())

    @property
    def highest(self) -> int:
        """The highest count of any output."""
        return int(self.high.max())

    @property
    def furthest(self) -> int:
        """The largest magnitude of any output, without the sums on the way to it."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def type(self) -> FixedPoint:
        """The narrowest type that holds every output of the layer."""
        return FixedPoint.holding(self.lowest, self.highest, self.fraction)
