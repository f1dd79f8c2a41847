"""Is a score better than another? Paired bootstrap over events, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from l1kd.core.run_files import Compared, Difference, Measured, Metrics, Quality
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.metrics import Samples, quality, share_of_band
from l1kd.evaluation.rates import BAND, REPORTED_FPR

Kind = Literal["band", "efficiency"]
KINDS: tuple[Kind, ...] = ("band", "efficiency")
Outcome = Literal["better", "alike", "worse"]
# Standard errors below which a difference says nothing.
SIGNIFICANT = 2.0
RULE = (
    "Differences in points of the mean over signals of the band, the efficiency at false-positive "
    "rates from 3e-4 to 3e-3; errors by paired bootstrap over events; below "
    f"{SIGNIFICANT:g} standard errors a difference is not distinguishable from none."
)
_REPLICAS, _STREAM = 400, 0xB007

# Of replicas: (replicas, signals), by kind.
Replicas = dict[Kind, NDArray[np.float64]]
_Key = TypeVar("_Key")


def replicas(
    scores: Mapping[_Key, Samples],
    multiplicity: float = 1.0,
    *,
    seed: int = 0,
    count: int = _REPLICAS,
) -> dict[_Key, Replicas]:
    """Band and efficiency of every score on the same resampled events.

    Parameters
    ----------
    scores
        By score: (events,) by sample, `test` of the normals and the signals, events in one order.
    multiplicity
        Normal events that come from one collision and are drawn together, on average.
    seed, count
        Of the resampling; replicas.

    Returns
    -------
    dict
        By score and kind an array (count, signals).
    """
    random = np.random.default_rng([seed, _STREAM])
    first = next(iter(scores.values()))
    normals, signals = len(first["test"]), [name for name in first if name != "test"]
    # Ranks beyond which no replica's false-positive rate is in the band.
    most = BAND[1] * normals
    ranks = min(int(most + 8 * np.sqrt(multiplicity * most) + 10 * multiplicity), normals)
    hottest = {
        name: np.argsort(-own["test"], kind="stable")[:ranks] for name, own in scores.items()
    }
    union = np.unique(np.concatenate(list(hottest.values())))
    # Mean 1, variance `multiplicity`.
    drawn = random.poisson(1 / multiplicity, (count, len(union))) * multiplicity
    weights = {n: random.poisson(1.0, (count, len(first[n]))).astype(np.float32) for n in signals}
    found: dict[_Key, Replicas] = {}
    for name, own in scores.items():
        tail, places = own["test"][hottest[name]], np.searchsorted(union, hottest[name])
        # False-positive rates at which an event above so many normals is accepted.
        fpr = np.concatenate([np.zeros((count, 1)), drawn[:, places].cumsum(1) / normals], axis=1)
        accepted = {"band": share_of_band(fpr), "efficiency": (fpr <= REPORTED_FPR) * 1.0}
        result = {kind: np.zeros((count, len(signals))) for kind in KINDS}
        for column, signal in enumerate(signals):
            above = np.searchsorted(-tail, -own[signal], "right")
            inside = own[signal] > tail[-1] if ranks < normals else np.ones(len(above), bool)
            weight = weights[signal]
            total = np.maximum(weight.sum(1), 1)
            for kind in KINDS:
                gathered = accepted[kind][:, above[inside]] * weight[:, inside]
                result[kind][:, column] = gathered.sum(1) / total
        found[name] = result
    return found


class Comparison(NamedTuple):
    """Qualities with errors, by name, and by student its differences to the others."""

    qualities: dict[str, Quality]
    others: dict[str, Quality]
    differences: dict[str, dict[str, Difference]]


def compare(
    students: Mapping[str, Samples], others: Mapping[str, Samples], multiplicity: float = 1.0
) -> Comparison:
    """Compare students with the teacher and baselines; see `replicas`."""
    # A student may have the name of a baseline.
    scored = {("student", n): own for n, own in students.items()}
    scored |= {("other", n): own for n, own in others.items()}
    found = {key: quality(own) for key, own in scored.items()}
    drawn: dict[tuple[str, str], Replicas] = {}
    if any(own.efficiency for own in found.values()):
        drawn = replicas(scored, multiplicity)
        for key, own in drawn.items():
            found[key].error = {kind: _error(own[kind].mean(1)) for kind in KINDS}

    def difference(a: tuple[str, str], b: tuple[str, str]) -> Difference:
        def compared(kind: Kind) -> Compared:
            apart = drawn[a][kind] - drawn[b][kind]
            values, of_b = getattr(found[a], kind), getattr(found[b], kind)
            each = {
                signal: Measured(value=value - of_b[signal], error=_error(apart[:, column]))
                for column, (signal, value) in enumerate(values.items())
            }
            mean = float(np.mean([own.value for own in each.values()]))
            return Compared(mean=Measured(value=mean, error=_error(apart.mean(1))), signals=each)

        return Difference(band=compared("band"), efficiency=compared("efficiency"))

    return Comparison(
        {name: found["student", name] for name in students},
        {name: found["other", name] for name in others},
        {
            student: {n: difference(("student", student), ("other", n)) for n in others if drawn}
            for student in students
        },
    )


def _error(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1))


def outcome(difference: Difference) -> Outcome:
    """Of the band's mean over signals, within errors."""
    mean = difference.band.mean
    if abs(mean.value) < SIGNIFICANT * mean.error or not mean.value:
        return "alike"
    return "better" if mean.value > 0 else "worse"


def points(measured: Measured) -> str:
    """In per cent: `+1.2 ± 0.4`."""
    return f"{100 * measured.value:+.1f} ± {100 * measured.error:.1f}"


def sentences(metrics: Metrics) -> list[str]:
    """The best student against teacher and baselines: a sentence per outcome, then the rule."""
    differences = metrics.students[metrics.best].difference
    words = {
        "better": f"{metrics.best} is better than",
        "alike": f"{metrics.best} is not distinguishable from",
        "worse": f"{metrics.best} is worse than",
    }
    found = []
    for each, start in words.items():
        named = {n: own.band.mean for n, own in differences.items() if outcome(own) == each}
        if order := sorted(named, key=lambda name: -abs(named[name].value)):
            listed = (f"{in_words(metrics, name)} ({points(named[name])})" for name in order)
            found.append(f"{start} {', '.join(listed)}.")
    return [*found, RULE] if found else []


def in_words(metrics: Metrics, name: str) -> str:
    """The teacher, or a baseline with its setting if it has one: `PCA (components 1)`."""
    known = metrics.baselines.get(name)
    if known is None:
        return f"the {name}"
    setting = "".join(f", {key} {value:g}" for key, value in known.settings.items())
    return BASELINES.get(name, name) + (setting if len(known.settings) == 1 else "")
