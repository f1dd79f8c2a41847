"""The fixed-point type: what a number on a wire can be.

Everything is computed in float64 on counts of the LSB, which is exact below 2^53 of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FixedPoint", "Overflow", "Rounding"]

# The names of `ap_fixed` without their AP_; AP_WRAP_SM has no user and is not here.
Rounding = Literal["RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO"]
Overflow = Literal["SAT", "SAT_ZERO", "SAT_SYM", "WRAP"]

_TEXT = re.compile(r"^(?:ap_)?(u?)(int|fixed)\s*<([^<>]*)>$")


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
    rounding, overflow
        What becomes of a value that is not on the grid or not in the range. The defaults are those
        of QKeras and of every quantizer that we write: half to even, saturate. (`ap_fixed` itself
        defaults to truncate and wrap around; `parse` knows that.)
    """

    word: int
    integer: int
    signed: bool = True
    rounding: Rounding = "RND_CONV"
    overflow: Overflow = "SAT"

    def __post_init__(self) -> None:
        if self.word < 1:
            raise ValueError(f"a fixed-point type has at least 1 bit, not {self.word}")
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"no rounding is named {self.rounding!r}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"no overflow is named {self.overflow!r}")

    @property
    def fraction(self) -> int:
        """Bits right of the binary point (negative if the step is larger than 1)."""
        return self.word - self.integer

    @property
    def lsb(self) -> float:
        """The step between neighbouring values."""
        return 2.0**-self.fraction

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest value as counts of the LSB."""
        if self.signed:
            return -(2 ** (self.word - 1)), 2 ** (self.word - 1) - 1
        return 0, 2**self.word - 1

    @property
    def low(self) -> float:
        """The lowest value."""
        return -(2.0 ** (self.integer - 1)) if self.signed else 0.0

    @property
    def high(self) -> float:
        """The highest value."""
        return 2.0 ** (self.integer - (1 if self.signed else 0)) - self.lsb

    @property
    def text(self) -> str:
        """As HLS writes it: `ap_ufixed<16,8,AP_RND_CONV,AP_SAT>`, `ap_fixed<22,16>`."""
        modes = f",AP_{self.rounding},AP_{self.overflow}"
        if (self.rounding, self.overflow) == ("TRN", "WRAP"):
            modes = ""
        return f"ap_{'' if self.signed else 'u'}fixed<{self.word},{self.integer}{modes}>"

    @classmethod
    def parse(cls, text: str) -> FixedPoint:
        """Read `ap_fixed<W,I,...>`, `ap_uint<W>` and their kin, with or without `ap_` and `AP_`.

        Raises
        ------
        ValueError
            If it is no such text, or names a mode that is not supported.
        """
        match = _TEXT.match(text.strip())
        if not match:
            raise ValueError(f"{text!r} is no fixed-point type")
        unsigned, kind, inside = match.groups()
        parts = [part.strip().removeprefix("AP_") for part in inside.split(",")]
        try:
            word = int(parts[0])
            integer = word if kind == "int" else int(parts[1])
        except (ValueError, IndexError):
            raise ValueError(f"{text!r} is no fixed-point type") from None
        modes = parts[1 if kind == "int" else 2 :]
        if len(modes) > 3 or (len(modes) == 3 and modes[2] != "0"):
            raise ValueError(f"{text!r}: saturation bits are not supported")
        given: Any = dict(zip(("rounding", "overflow"), modes, strict=False))
        return cls(word, integer, not unsigned, **{"rounding": "TRN", "overflow": "WRAP", **given})

    def quantize(self, values: ArrayLike) -> NDArray[np.float64]:
        """The values that this type makes of `values`, of any shape: round, then overflow."""
        steps = self._round(np.asarray(values, np.float64) / self.lsb)
        return self._overflow(steps) * self.lsb

    def integers(self, values: ArrayLike) -> NDArray[np.int64]:
        """Values on the grid as counts of the LSB."""
        counts: NDArray[np.int64] = np.rint(np.asarray(values, np.float64) / self.lsb).astype(
            np.int64
        )
        return counts

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Where a value is on the grid and in the range."""
        values = np.asarray(values, np.float64)
        steps = values / self.lsb
        held: NDArray[np.bool_] = steps == np.rint(steps)
        return held & (values >= self.low) & (values <= self.high)

    def ties(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Where a value is exactly half way between two neighbours of the grid."""
        steps = np.asarray(values, np.float64) / self.lsb
        tied: NDArray[np.bool_] = steps - np.floor(steps) == 0.5
        return tied

    def _round(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        # `floor(steps + 0.5)` would round in the addition; the remainder below is exact.
        down = np.floor(steps)
        rest = steps - down
        half_up = down + (rest >= 0.5)
        half_down = down + (rest > 0.5)
        rounded: dict[Rounding, NDArray[np.float64]] = {
            "TRN": down,
            "TRN_ZERO": np.trunc(steps),
            "RND": half_up,
            "RND_MIN_INF": half_down,
            "RND_ZERO": np.where(steps >= 0, half_down, half_up),
            "RND_INF": np.where(steps >= 0, half_up, half_down),
            "RND_CONV": np.rint(steps),
        }
        return rounded[self.rounding]

    def _overflow(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self.bounds
        if self.overflow == "WRAP":
            turns: NDArray[np.float64] = np.floor((steps - low) / 2.0**self.word)
            return steps - 2.0**self.word * turns
        if self.overflow == "SAT_ZERO":
            return np.where((steps < low) | (steps > high), 0.0, steps)
        if self.overflow == "SAT_SYM" and self.signed:
            low = -high
        return np.clip(steps, low, high)
