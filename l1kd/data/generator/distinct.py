"""How many distinct simulated collisions stand behind the tail of a sample. Pure NumPy.

A false-positive rate measured on events that share their hard core is measured on fewer events than
it seems. So a sample is asked, at the rates a trigger works at, which collision made each accepted
event hot, and how many different ones that makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

__all__ = ["RATES", "SCORES", "accepted", "effective_number", "effective_numbers"]

IntArray = npt.NDArray[np.int64]
RegionArray = npt.NDArray[np.int16]

RATES = (1e-2, 1e-3, 1e-4)


def _highest(events: RegionArray) -> IntArray:
    highest: RegionArray = events.max(axis=(1, 2))
    return highest.astype(np.int64)


def _four_highest(events: RegionArray) -> IntArray:
    ordered = np.sort(events.reshape(len(events), -1).astype(np.int64))
    total: IntArray = ordered[:, -4:].sum(axis=1)
    return total


def _sum(events: RegionArray) -> IntArray:
    total: IntArray = events.sum(axis=(1, 2), dtype=np.int64)
    return total


def _sum_of_squares(events: RegionArray) -> IntArray:
    # Ranks like the mean square, and is an integer.
    total: IntArray = (events.astype(np.int64) ** 2).sum(axis=(1, 2))
    return total


SCORES: Mapping[str, Callable[[RegionArray], IntArray]] = MappingProxyType(
    {"sum": _sum, "max": _highest, "top4": _four_highest, "mean_square": _sum_of_squares}
)
"""The reference scores by which tails are judged: (n, 18, 14) events to (n,) scores."""


def effective_number(names: IntArray) -> float:
    """Effective number of distinct names: ``(sum n_i)^2 / sum n_i^2``; 0 for none at all.

    It is the number of names where all are equally frequent, and 1 where one has them all.
    """
    counts = np.unique(names, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def accepted(scores: IntArray, rate: float) -> npt.NDArray[np.bool_]:
    """The events at or above the lowest threshold that accepts at most a share `rate`, (n,).

    The rule of every rate l1kd quotes: a tie at the edge is left out as a whole.
    """
    # The tiny amount keeps products like 0.001 * 52000 from being rounded down for nothing.
    allowed = math.floor(rate * len(scores) + 1e-9)
    if allowed >= len(scores):
        return np.ones(len(scores), bool)
    place = len(scores) - 1 - allowed
    return np.asarray(scores > np.partition(scores, place)[place])


def effective_numbers(events: RegionArray, leading: IntArray) -> dict[str, list[float]]:
    """Effective number of leading collisions behind each reference score's accepted events.

    Parameters
    ----------
    events : (n, 18, 14) int16
    leading : (n,) int64
        The collision that made each event hot: see `overlay.Overlaid`.

    Returns
    -------
    dict
        Per score (see SCORES), one number for each of RATES.
    """
    numbers = {}
    for name, score in SCORES.items():
        scores = score(events)
        numbers[name] = [effective_number(leading[accepted(scores, rate)]) for rate in RATES]
    return numbers
