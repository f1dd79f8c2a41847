"""Fixed-point types and their arithmetic, in values (float64) or in counts of the type's LSB."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The names of `ap_fixed` without their AP_; AP_WRAP_SM has no user and is not here.
Rounding = Literal["RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO"]
Overflow = Literal["SAT", "SAT_ZERO", "SAT_SYM", "WRAP"]

_TEXT = re.compile(r"^(?:ap_)?(u?)(int|fixed)\s*<([^<>]*)>$")


@dataclass(frozen=True)
class FixedPoint:
    """A fixed-point type in the convention of `ap_fixed`."""

    word: int  # all bits, the sign included
    # Bits left of the binary point, the sign included; may be negative or above `word`
    integer: int
    signed: bool = True  # two's complement if true
    # What becomes of a value that is not on the grid or not in the range. The defaults are those of
    # QKeras and of every quantizer that we write: half to even, saturate. (`ap_fixed` itself
    # defaults to truncate and wrap around; `parse` knows that.)
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
        """As HLS writes it: `ap_fixed<22,16>`, `ap_int<8>`, `ap_ufixed<6,2,AP_RND_CONV,AP_SAT>`."""
        prefix = "ap_" if self.signed else "ap_u"
        if (self.integer, self.rounding, self.overflow) == (self.word, "TRN_ZERO", "WRAP"):
            return f"{prefix}int<{self.word}>"
        default = (self.rounding, self.overflow) == ("TRN", "WRAP")
        modes = "" if default else f",AP_{self.rounding},AP_{self.overflow}"
        return f"{prefix}fixed<{self.word},{self.integer}{modes}>"

    @classmethod
    def parse(cls, text: str) -> FixedPoint:
        """Read `ap_fixed<W,I,...>`, `ap_uint<W>` and their kin, with or without `ap_` and `AP_`."""
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
        # Where `ap_fixed` drops a fraction downwards, `ap_int` drops it towards zero, as C does.
        default = {"rounding": "TRN_ZERO" if kind == "int" else "TRN", "overflow": "WRAP"}
        return cls(word, integer, not unsigned, **{**default, **given})

    @classmethod
    def holding(cls, low: int, high: int, fraction: int) -> FixedPoint:
        """The narrowest type for counts of 2**-fraction; signed only if `low` is negative."""
        if low > high:
            raise ValueError(f"no count lies between {low} and {high}")
        if low >= 0:
            word = max(1, high.bit_length())
        else:
            word = 1 + max((-low - 1).bit_length(), max(high, 0).bit_length())
        return cls(word, word - fraction, low < 0)

    def quantize(self, values: ArrayLike) -> NDArray[np.float64]:
        """The values that this type makes of `values`, of any shape: round, then overflow."""
        steps = np.asarray(np.asarray(values, np.float64) / self.lsb)
        return np.asarray(self._overflow(self._round(steps)) * self.lsb)

    def requantize(self, counts: NDArray[Any], fraction: int) -> NDArray[Any]:
        """Counts of this type's LSB that it makes of counts of 2**-fraction, exactly.

        The array's type carries the result too: int64 (below 2^62 in magnitude, else
        OverflowError), objects (Python integers), float64 or float32 (integers below 2^53, 2^24).
        """
        shift = fraction - self.fraction
        if counts.dtype in (np.float32, np.float64):
            return self._requantize_floats(counts, shift)
        if counts.dtype == object:
            return self._requantize_integers(counts, shift)
        if counts.dtype != np.int64:
            raise TypeError(f"counts are int64, object, float64 or float32, not {counts.dtype}")
        spare = 62 - self.word
        if shift < 0 and counts.size:
            largest = max(-int(counts.min()), int(counts.max()))
            spare = min(spare, 62 - largest.bit_length() + shift)
        if spare < 0:
            return self._requantize_integers(counts.astype(object), shift).astype(np.int64)
        # Beyond 63 bits nothing is left but the sign, as at 63.
        return self._requantize_integers(counts, min(shift, 63))

    def integers(self, values: ArrayLike) -> NDArray[np.int64]:
        """Values on the grid as counts of the LSB."""
        return np.asarray(np.rint(np.asarray(values, np.float64) / self.lsb), np.int64)

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Where a value is on the grid and in the range."""
        values = np.asarray(values, np.float64)
        steps = values / self.lsb
        held: NDArray[np.bool_] = steps == np.rint(steps)
        return held & (values >= self.low) & (values <= self.high)

    def carries(self, low: int, high: int, fraction: int) -> bool:
        """True if every count from `low` to `high` of 2**-fraction stays the value that it is."""
        if not low and not high:
            return True
        shift, (bottom, top) = self.fraction - fraction, self.bounds
        return shift >= 0 and bottom <= low << shift and high << shift <= top

    def _requantize_floats(self, counts: NDArray[Any], shift: int) -> NDArray[Any]:
        # Products with powers of two are exact. Shifts by more than a carrier's bits all do the
        # same, so they are cut where neither 0 nor infinity of a float32 is near.
        if shift == 0:
            return self._overflow(counts)
        scaled = np.asarray(counts * counts.dtype.type(2.0 ** -min(max(shift, -100), 100)))
        if shift < 0:
            return self._overflow(scaled, scaled)
        rounded = self._round(scaled, scaled)
        return self._overflow(rounded, rounded)

    def _requantize_integers(self, counts: NDArray[Any], shift: int) -> NDArray[Any]:
        if shift <= 0:
            return self._overflow(np.left_shift(counts, -shift, dtype=counts.dtype))
        half = 2 ** (shift - 1)
        added: dict[Rounding, Callable[[], Any]] = {
            "TRN": lambda: 0,
            "TRN_ZERO": lambda: (2 * half - 1) * (counts < 0),
            "RND": lambda: half,
            "RND_MIN_INF": lambda: half - 1,
            "RND_ZERO": lambda: half - 1 + (counts < 0),
            "RND_INF": lambda: half - (counts < 0),
            "RND_CONV": lambda: half - 1 + ((counts >> shift) & 1),
        }
        steps = (counts + added[self.rounding]()) >> shift
        return self._overflow(np.asarray(steps, counts.dtype))

    @property
    def _reach(self) -> tuple[int, int]:
        """The bounds of what saturates."""
        low, high = self.bounds
        # One bit has no symmetric range, and `ap_fixed` leaves it as it is.
        symmetric = self.overflow == "SAT_SYM" and self.signed and self.word > 1
        return (-high if symmetric else low), high

    def _round(self, steps: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        plain: Any = {"TRN": np.floor, "TRN_ZERO": np.trunc, "RND_CONV": np.rint}
        if self.rounding in plain:
            return np.asarray(plain[self.rounding](steps, out=out))
        # `floor(steps + 0.5)` would round in the addition; what `rint` leaves is exact.
        near = np.rint(steps)
        rest = steps - near
        if self.rounding == "RND":
            return np.asarray(near + (rest == 0.5))
        if self.rounding == "RND_MIN_INF":
            return np.asarray(near - (rest == -0.5))
        tied = np.abs(rest) == 0.5
        if self.rounding == "RND_ZERO":
            return np.where(tied, np.trunc(steps), near)
        return np.where(tied, steps + np.copysign(steps.dtype.type(0.5), steps), near)

    def _overflow(self, steps: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Steps of any of `requantize`'s types, within the bounds."""
        number = steps.dtype.type
        low, high = map(number, self._reach)
        if self.overflow == "WRAP" and issubclass(number, np.floating):
            # The remainder is exact at any distance, other than counting the turns.
            turned = np.remainder(steps, 2.0**self.word)
            return np.asarray(np.where(turned > high, turned - 2.0**self.word, turned))
        if self.overflow == "WRAP":
            return np.asarray(((steps - low) & number(2**self.word - 1)) + low, steps.dtype)
        if self.overflow == "SAT_ZERO":
            return np.where((steps < low) | (steps > high), number(0), steps)
        return np.asarray(np.clip(steps, low, high, out=out), steps.dtype)


def signed_digits(counts: ArrayLike) -> NDArray[np.int64]:
    """Non-zero canonical signed digits: where n and 3n differ (Reitwiesner 1960); any shape."""
    magnitude = np.abs(np.asarray(counts, np.int64))
    changed = magnitude ^ (3 * magnitude)
    found: NDArray[np.int64] = np.zeros_like(changed)
    while changed.any():
        found += changed & 1
        changed >>= 1
    return found
