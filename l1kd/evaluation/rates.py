"""The trigger's decision, for whatever quotes a rate, an efficiency or a threshold."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import WorkingPoint

# Filled bunch crossings a second at the LHC (2,544 bunches, 11.246 kHz): what CMS quotes rates on.
CROSSING_RATE_KHZ = 28_610.0
# The false-positive rate at which efficiencies are quoted.
REPORTED_FPR = 1e-3
# False-positive rates over which the efficiency is averaged, where one alone hangs on few events.
BAND = (3e-4, 3e-3)
# 3 kHz of accepted crossings, the working point of CICADA in CMS.
TRIGGER_FPR = 1.05e-4
WORKING_FPRS = (1e-2, 1e-3, TRIGGER_FPR, 1e-4)

Numbers = NDArray[Any]


@overload
def threshold(normal: NDArray[np.integer[Any]], fpr: float) -> int: ...
@overload
def threshold(normal: NDArray[np.floating[Any]], fpr: float) -> float: ...
def threshold(normal: Numbers, fpr: float) -> float:
    """Find the lowest threshold that accepts at most a share `fpr` of normal scores (N,)."""
    # The next number above the (k+1)-th largest score, with k the events that `fpr` allows: a tie
    # is never split. Above every value of the scores' type it accepts nothing.
    scores = np.ravel(normal)
    if not len(scores):
        raise ValueError("a threshold needs at least one normal event")
    if not 0 <= fpr < 1:
        raise ValueError(f"a false-positive rate is at least 0 and below 1, not {fpr}")
    place = len(scores) - 1 - _allowed(len(scores), fpr)
    edge = np.partition(scores, place)[place]
    if np.issubdtype(scores.dtype, np.integer):
        return int(edge) + 1
    if not np.isfinite(scores).all():
        raise ValueError("scores are finite numbers")
    return float(np.nextafter(np.float64(edge), np.inf))


def accept(scores: Numbers, threshold: float) -> NDArray[np.bool_]:
    """Decide: True where an event's score is `>=` the threshold."""
    scores = np.asarray(scores)
    if np.issubdtype(scores.dtype, np.floating):
        # NumPy would round a float64 threshold to float32 scores' precision, onto the score itself.
        scores = scores.astype(np.float64)
    return np.asarray(scores >= threshold)


def rate_khz(fpr: float) -> float:
    """Rate of accepted crossings, in kHz, at a false-positive rate: fpr x 28.61 MHz."""
    return fpr * CROSSING_RATE_KHZ


def working_points(samples: Mapping[str, NDArray[np.integer[Any]]]) -> list[WorkingPoint]:
    """Thresholds in LSBs for the `WORKING_FPRS` of at least one of the normals, `test`."""
    points = []
    for fpr in WORKING_FPRS:
        if _allowed(len(samples["test"]), fpr) < 1:
            continue
        level = threshold(samples["test"], fpr)
        shares = {name: float(np.mean(accept(own, level))) for name, own in samples.items()}
        reached = shares.pop("test")
        points.append(
            WorkingPoint(
                target_fpr=fpr,
                threshold=level,
                fpr=reached,
                rate_khz=rate_khz(reached),
                efficiency=shares,
            )
        )
    return points


def out_of_reach(threshold: int, score: FixedPoint) -> bool:
    """True if an integer threshold lies above every score of the type: it accepts nothing."""
    return threshold * score.lsb > score.high


def events_per_collision(description: Mapping[str, Any], events: int) -> float:
    """Accepted test normals per distinct collision, at a rate of 1e-3; 1 if that is not known."""
    known = description.get("distinct_collisions")
    distinct = known.get("test", {}).get("1e-3") if isinstance(known, dict) else None
    return max(events * REPORTED_FPR / distinct, 1.0) if distinct else 1.0


def _allowed(events: int, fpr: float) -> int:
    """The largest k with k / events <= fpr; `floor(fpr * events)` alone is off by rounding."""
    return bisect.bisect_right(range(events + 1), fpr, key=lambda k: k / events) - 1
