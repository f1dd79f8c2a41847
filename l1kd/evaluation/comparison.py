"""Is a score better than another? Paired bootstrap over events, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core.run_files import Compared, Difference, Measured, Metrics
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.metrics import Samples, quality, share_of_band
from l1kd.evaluation.rates import BAND, REPORTED_FPR

Kind = Literal["band", "efficiency"]
Outcome = Literal["better", "alike", "worse"]
SIGNIFICANT = 2.0  # standard errors below which a difference says nothing
RULE = (
    "In points of the band, mean efficiency over false-positive rates 3e-4 to 3e-3 and signals; "
    "errors by bootstrap over the same events; a difference of less than "
    f"{SIGNIFICANT:g} standard errors is none."
)
REPLICAS, _STREAM = 400, 0xB007
Replicas = dict[Kind, NDArray[np.float64]]  # (replicas, signals)


def replicas(
    scores: Mapping[str, Samples],
    multiplicity: float = 1.0,
    *,
    seed: int = 0,
    count: int = REPLICAS,
) -> dict[str, Replicas]:
    """Band and efficiency of scores on resampled events, signals' and normals', alike for all.

    `multiplicity`: normal events per distinct collision, which are drawn together.
    """
    random = np.random.default_rng([seed, _STREAM])
    first = next(iter(scores.values()))
    normals = len(first["test"])
    weights = {n: random.poisson(1.0, (count, len(own))) for n, own in first.items() if n != "test"}
    # The hottest normals of each score: with those below, no replica's rate is in the band.
    most = BAND[1] * normals
    ranks = min(int(most + 8 * np.sqrt(multiplicity * most) + 10 * multiplicity), normals)
    hottest = {n: np.argsort(-own["test"], kind="stable")[:ranks] for n, own in scores.items()}
    union = np.unique(np.concatenate(list(hottest.values())))
    drawn = random.poisson(1 / multiplicity, (count, len(union))) * multiplicity
    found: dict[str, Replicas] = {}
    for name, own in scores.items():
        tail = own["test"][hottest[name]]
        times = drawn[:, np.searchsorted(union, hottest[name])]
        # The lowest rate at which an event is accepted that has 0, 1, ... normals at or above it.
        fpr = np.pad(times, ((0, 0), (1, 0))).cumsum(1) / normals
        accepted = {"band": share_of_band(fpr), "efficiency": fpr <= REPORTED_FPR}
        found[name] = {"band": np.zeros((count, 0)), "efficiency": np.zeros((count, 0))}
        for signal, weight in weights.items():
            events = own[signal]
            inside = (events > tail[-1]) | (ranks == normals)
            above = np.searchsorted(-tail, -events[inside], "right")
            total = np.maximum(weight.sum(1), 1)
            for kind, columns in found[name].items():
                share = (accepted[kind][:, above] * weight[:, inside]).sum(1) / total
                found[name][kind] = np.column_stack([columns, share])
    return found


class Comparison:
    """Scores by name, their qualities with errors, and the differences of any two."""

    def __init__(self, scores: Mapping[str, Samples], multiplicity: float = 1.0) -> None:
        self.qualities = {name: quality(own) for name, own in scores.items()}
        signals = any(len(own) > 1 for own in scores.values())
        self._drawn = replicas(scores, multiplicity) if signals else {}
        for name, drawn in self._drawn.items():
            self.qualities[name].error = {k: _error(own.mean(1)) for k, own in drawn.items()}

    def difference(self, name: str, other: str) -> Difference:
        """A score minus another, signal by signal and in the mean."""

        def compared(kind: Kind) -> Compared:
            apart = self._drawn[name][kind] - self._drawn[other][kind]
            own, others = (getattr(self.qualities[each], kind) for each in (name, other))
            signals = {
                signal: Measured(value=own[signal] - others[signal], error=_error(column))
                for signal, column in zip(own, apart.T, strict=True)
            }
            mean = float(np.mean([each.value for each in signals.values()]))
            return Compared(mean=Measured(value=mean, error=_error(apart.mean(1))), signals=signals)

        return Difference(band=compared("band"), efficiency=compared("efficiency"))


def _error(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1))


def outcome(difference: Difference) -> Outcome:
    """By the band's mean over signals, within errors."""
    mean = difference.band.mean
    if abs(mean.value) < SIGNIFICANT * mean.error or not mean.value:
        return "alike"
    return "better" if mean.value > 0 else "worse"


def points(measured: Measured) -> str:
    """In per cent: `+1.2 ± 0.4`."""
    return f"{100 * measured.value:+.1f} ± {100 * measured.error:.1f}"


def in_words(metrics: Metrics, name: str) -> str:
    """The teacher, or a baseline with its setting if it has one: `PCA (components 1)`."""
    settings = metrics.baselines[name].settings if name in metrics.baselines else {}
    text = ", ".join(f"{key} {value:g}" for key, value in settings.items())
    return BASELINES.get(name, f"the {name}") + (f" ({text})" if len(settings) == 1 else "")


def sentences(metrics: Metrics) -> list[str]:
    """The best student against teacher and baselines: a sentence for each outcome, and the rule."""
    differences, found = metrics.students[metrics.best].difference, []
    words = {"better": "better than", "alike": "not distinguishable from", "worse": "worse than"}
    for kind, text in words.items():
        named = {n: own.band.mean for n, own in differences.items() if outcome(own) == kind}
        if order := sorted(named, key=lambda name: -abs(named[name].value)):
            listed = (f"{in_words(metrics, name)} ({points(named[name])})" for name in order)
            found.append(f"{metrics.best} is {text} {', '.join(listed)}.")
    return [*found, RULE] if found else []
