"""The fixed-point type: what a number on a wire can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FixedPoint"]


@dataclass(frozen=True)
class FixedPoint:
    """A fixed-point type in the convention of `ap_fixed`.

    Parameters
    ----------
    word
        All bits, the sign included.
    integer
        Bits left of the binary point, the sign included; may be negative or above `word`.
    signed
        Two's complement if true.
    """

    word: int
    integer: int
    signed: bool = True

    def __post_init__(self) -> None:
        if self.word < 1:
            raise ValueError(f"a fixed-point type has at least 1 bit, not {self.word}")

    @property
    def fraction(self) -> int:
        """Bits right of the binary point (negative if the step is larger than 1)."""
        return self.word - self.integer

    @property
    def lsb(self) -> float:
        """The step between neighbouring values."""
        return 2.0**-self.fraction

    @property
    def low(self) -> float:
        """The lowest value."""
        return -(2.0 ** (self.integer - 1)) if self.signed else 0.0

    @property
    def high(self) -> float:
        """The highest value."""
        return 2.0 ** (self.integer - (1 if self.signed else 0)) - self.lsb

    def quantize(self, values: ArrayLike) -> NDArray[np.float64]:
        """Round half to even, then saturate: `AP_RND_CONV`, `AP_SAT`."""
        steps = np.rint(np.asarray(values, np.float64) / self.lsb)
        return np.clip(steps * self.lsb, self.low, self.high)

    def integers(self, values: ArrayLike) -> NDArray[np.int64]:
        """Values on the grid as counts of the LSB."""
        return np.rint(np.asarray(values, np.float64) / self.lsb).astype(np.int64)

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Where a value is on the grid and in the range."""
        values = np.asarray(values, np.float64)
        steps = values / self.lsb
        return (steps == np.rint(steps)) & (values >= self.low) & (values <= self.high)
