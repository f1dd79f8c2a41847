"""The trigger's decision, for whatever quotes a rate, an efficiency or a threshold."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from l1kd.core.config import LHC_CROSSINGS_MHZ
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import WorkingPoint

# The false-positive rate at which efficiencies are quoted.
REPORTED_FPR = 1e-3
# False-positive rates over which the efficiency is averaged, where one alone hangs on few events.
BAND = (3e-4, 3e-3)
# Those of every table of working points, beside the configured rates.
WORKING_FPRS = (1e-2, 1e-3, 1e-4)
# Of a 68 % interval: one standard deviation of a Gaussian on either side.
_QUANTILES = (0.15866, 0.84134)

Numbers = NDArray[Any]


class Threshold:
    """A threshold on integer scores, in LSBs of the output type; `int` of it is the number.

    Integers and arrays of them are compared with it from either side. Floats are refused with a
    TypeError: they are scores in the output type's units. No subclass of int, which Python would
    compare with a float on its left without asking.
    """

    __slots__ = ("_counts",)
    __array_ufunc__ = None  # NumPy leaves comparisons to this class

    def __init__(self, counts: SupportsIndex) -> None:
        self._counts = operator.index(counts)  # no float is cut off

    if TYPE_CHECKING:  # what `_comparison` makes

        def __lt__(self, scores: Any) -> Any: ...
        def __le__(self, scores: Any) -> Any: ...
        def __gt__(self, scores: Any) -> Any: ...
        def __ge__(self, scores: Any) -> Any: ...

    def __index__(self) -> int:
        return self._counts

    def __hash__(self) -> int:
        return hash(self._counts)

    def __repr__(self) -> str:
        return f"Threshold({self._counts})"

    def __str__(self) -> str:
        return str(self._counts)

    def __format__(self, form: str) -> str:
        return format(self._counts, form)

    def __add__(self, counts: SupportsIndex) -> Threshold:
        return Threshold(self._counts + operator.index(counts))

    def __sub__(self, counts: SupportsIndex) -> Threshold:
        return Threshold(self._counts - operator.index(counts))


def _comparison(name: str) -> Callable[[Threshold, Any], Any]:
    """A threshold's method for a comparison."""

    def compare(threshold: Threshold, scores: Any) -> Any:
        whole = isinstance(scores, (int, Threshold)) and not isinstance(scores, bool)
        numbers = int(scores) if whole else np.asarray(scores)
        if not isinstance(numbers, int) and numbers.dtype.kind not in "iu":
            if numbers.dtype.kind not in "fcb":
                return NotImplemented
            raise TypeError(
                f"{numbers.dtype} scores compared with a threshold in LSBs: compare integer scores "
                "(`Run.score`, `network.counts`)"
            )
        return getattr(operator, name)(int(threshold), numbers)

    return compare


for _name in ("lt", "le", "eq", "ne", "ge", "gt"):
    setattr(Threshold, f"__{_name}__", _comparison(_name))


class Rate(NamedTuple):
    """A rate of accepted crossings with its 68 % interval, in kHz."""

    khz: float
    low: float
    high: float


@overload
def threshold(normal: NDArray[np.integer[Any]], fpr: float) -> Threshold: ...
@overload
def threshold(normal: NDArray[np.floating[Any]], fpr: float) -> float: ...
def threshold(normal: Numbers, fpr: float) -> Threshold | float:
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
        return Threshold(int(edge) + 1)
    if not np.isfinite(scores).all():
        raise ValueError("scores are finite numbers")
    return float(np.nextafter(np.float64(edge), np.inf))


def score_histogram(kind: FixedPoint, scores: Any = ()) -> Any:
    """Events by integer score of an output type: a `hist.Hist`; those of many files add up."""
    import hist

    low, high = kind.bounds
    axis = hist.axis.Integer(low, high + 1, name="score", label="score [LSB]", flow=False)
    return hist.Hist(axis, storage=hist.storage.Int64()).fill(np.asarray(scores, np.int64))


def accepted(normal: Any, threshold: SupportsIndex) -> int:
    """Events of a histogram of scores that a threshold accepts."""
    first = operator.index(threshold) - int(normal.axes[0].edges[0])
    return int(normal.values()[max(first, 0) :].sum())


def threshold_for(normal: Any, fpr: float) -> Threshold:
    """As `threshold`, of a histogram of normal scores."""
    above = normal.values()[::-1].cumsum()[::-1]  # events at or above each score
    place = np.searchsorted(-above, -_allowed(int(above[0]), fpr))
    return Threshold(int(normal.axes[0].edges[0]) + int(place))


def accept(scores: Numbers, threshold: Threshold | float) -> NDArray[np.bool_]:
    """Decide: True where an event's score is `>=` the threshold."""
    scores = np.asarray(scores)
    if np.issubdtype(scores.dtype, np.floating):
        # NumPy would round a float64 threshold to float32 scores' precision, onto the score itself.
        scores = scores.astype(np.float64)
    return np.asarray(scores >= threshold)


def interval(accepted: int, events: int, independent: float = 1.0) -> tuple[float, float]:
    """The 68 % interval of a share of which `accepted` of `events` were seen.

    Jeffreys' (Brown, Cai, DasGupta, Stat. Sci. 16 (2001) 101): it also holds for a threshold that
    was chosen on the same events. Numbers are scaled by the `independent` share of the events.
    """
    good, bad = accepted * independent + 0.5, (events - accepted) * independent + 0.5
    low, high = (float(betaincinv(good, bad, quantile)) for quantile in _QUANTILES)
    return low if accepted else 0.0, high if accepted < events else 1.0


def independent_share(fpr: float, events: int, distinct: Mapping[str, float]) -> float:
    """Effective distinct collisions per accepted event, of which `distinct` has numbers by rate."""
    shares = {
        float(rate): min(1.0, number / max(1, _allowed(events, float(rate))))
        for rate, number in distinct.items()
    }
    known = sorted(rate for rate, share in shares.items() if rate > 0 and share > 0)
    if not known:
        return 1.0
    logs, values = np.log(known), [shares[rate] for rate in known]
    return float(np.interp(np.log(max(fpr, known[0])), logs, values))


def working_points(
    samples: Mapping[str, NDArray[np.integer[Any]]],
    crossings_mhz: float | None = LHC_CROSSINGS_MHZ,
    khz: Sequence[float] = (),
) -> list[WorkingPoint]:
    """Thresholds in LSBs for the `WORKING_FPRS` and rates of at least one of the normals, `test`.

    Without crossings there are no rates.
    """
    frequency = None if crossings_mhz is None else 1000 * crossings_mhz
    fprs = {*WORKING_FPRS, *(each / frequency for each in khz if frequency and each < frequency)}
    points = []
    for fpr in sorted(fprs, reverse=True):
        if _allowed(len(samples["test"]), fpr) < 1:
            continue
        level = threshold(samples["test"], fpr)
        shares = {name: float(np.mean(accept(own, level))) for name, own in samples.items()}
        reached = shares.pop("test")
        points.append(
            WorkingPoint(
                target_fpr=fpr,
                threshold=int(level),
                fpr=reached,
                rate_khz=None if frequency is None else reached * frequency,
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
