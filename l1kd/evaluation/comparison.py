"""Is a score better than another? Paired bootstrap over events, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from l1kd.core.run_files import Difference, Measured, Metrics
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.metrics import Samples, quality, share_of_band
from l1kd.evaluation.rates import BAND, REPORTED_FPR
from l1kd.evaluation.scores import Values

Outcome = Literal["better", "alike", "worse"]
SIGNIFICANT = 2.0  # standard errors below which a difference says nothing
RULE = (
    "In points of the band, mean efficiency over false-positive rates 3e-4 to 3e-3 and signals; "
    "errors by bootstrap over the same events; not distinguishable: less than "
    f"{SIGNIFICANT:g} standard errors."
)
REPLICAS, _SEED = 400, 0xB007
KINDS = ("band", "efficiency")


def replicas(scores: Mapping[str, Samples], multiplicity: float = 1.0) -> dict[str, Values]:
    """`KINDS` of scores on resampled events, the same for all, (kinds, replicas, signals) each.

    `multiplicity`: normal events per distinct collision, which are drawn together.
    """
    random, first = np.random.default_rng(_SEED), next(iter(scores.values()))
    sizes = {name: len(values) for name, values in first.items() if name != "test"}
    times = {s: random.poisson(1, (REPLICAS, n)).astype(np.uint8) for s, n in sizes.items()}
    # The hottest normals of each score: with those below, no replica's rate is in the band.
    normals = len(first["test"])
    most = BAND[1] * normals
    ranks = min(int(most + 8 * np.sqrt(multiplicity * most) + 10 * multiplicity), normals)
    hottest = {n: np.argsort(-own["test"], kind="stable")[:ranks] for n, own in scores.items()}
    union = np.unique(np.concatenate(list(hottest.values())))
    drawn = random.poisson(1 / multiplicity, (REPLICAS, len(union))) * multiplicity
    found: dict[str, Values] = {}
    for name, own in scores.items():
        tail = own["test"][hottest[name]]
        above = np.pad(drawn[:, np.searchsorted(union, hottest[name])], ((0, 0), (1, 0)))
        # The lowest rate at which an event is accepted that has 0, 1, ... normals at or above it.
        fpr = above.cumsum(1) / normals
        accepted, shares = np.stack([share_of_band(fpr), fpr <= REPORTED_FPR]), []
        for signal, weights in times.items():
            inside = np.flatnonzero((own[signal] > tail[-1]) | (ranks == normals))
            ordered = inside[np.argsort(-own[signal][inside])]
            places = np.searchsorted(-tail, -own[signal][ordered], "right")
            place, start = np.unique(places, return_index=True)
            counts = np.add.reduceat(weights[:, ordered], start, axis=1, dtype=np.int64)
            kept = np.einsum("krp,rp->kr", accepted[:, :, place], counts)
            shares.append(kept / np.maximum(weights.sum(1, dtype=np.int64), 1))
        found[name] = np.stack(shares, axis=2)
    return found


class Comparison:
    """Scores by name, their qualities with errors, and the differences of any two."""

    def __init__(self, scores: Mapping[str, Samples], multiplicity: float = 1.0) -> None:
        self.qualities = {name: quality(own) for name, own in scores.items()}
        signals = any(len(own) > 1 for own in scores.values())
        self._drawn = replicas(scores, multiplicity) if signals else {}
        for name, drawn in self._drawn.items():
            errors = drawn.mean(2).std(1, ddof=1).tolist()
            self.qualities[name].error = dict(zip(KINDS, errors, strict=True))

    def differences(self, name: str, others: Mapping[str, str]) -> dict[str, Difference]:
        """A score minus others, by names that the result calls them; empty without signals."""
        found: dict[str, Difference] = {}
        for other, key in others.items() if self._drawn else ():
            found[other] = {}
            for kind, drawn in zip(KINDS, self._drawn[name] - self._drawn[key], strict=True):
                own, its = (getattr(self.qualities[each], kind) for each in (name, key))
                values = np.array([own[signal] - its[signal] for signal in own])
                rows = zip([values.mean(), *values], [drawn.mean(1), *drawn.T], strict=True)
                measured = [
                    Measured(value=float(v), error=float(np.std(d, ddof=1))) for v, d in rows
                ]
                found[other][kind] = dict(zip(["mean", *own], measured, strict=True))
        return found


def outcome(difference: Difference) -> Outcome:
    """By the band's mean over signals, within errors."""
    mean = difference["band"]["mean"]
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
        named = {n: own["band"]["mean"] for n, own in differences.items() if outcome(own) == kind}
        if order := sorted(named, key=lambda name: -abs(named[name].value)):
            listed = (f"{in_words(metrics, name)} ({points(named[name])})" for name in order)
            found.append(f"{metrics.best} is {text} {', '.join(listed)}.")
    return [*found, RULE] if found else []
