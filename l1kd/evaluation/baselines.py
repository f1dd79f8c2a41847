"""Scores without a network, as a physicist would have them: what a network has to beat.

Fitted on training normals; settings tuned for the band on signals' validation halves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from l1kd.data.dataset import Dataset, Events
from l1kd.data.moments import MOST_EVENTS, PrincipalAxes, measure_spread, square_root
from l1kd.evaluation.metrics import band
from l1kd.evaluation.scores import Scorer, Values

Settings = Mapping[str, float]

# Of inputs (N, inputs); `std_`: of standardised inputs.
_PLAIN: dict[str, Callable[[Values], Values]] = {
    "sum": lambda inputs: inputs.sum(1),
    "max": lambda inputs: inputs.max(1),
    "top4": lambda inputs: highest(inputs, 4),
    "mean_square": lambda inputs: np.square(inputs).mean(1),
    "std_mean_square": lambda inputs: np.square(inputs).mean(1),
    "std_fourth": lambda inputs: np.square(np.square(inputs)).mean(1),
}
# Every baseline in words; the second half is for calorimeters.
BASELINES = {
    "sum": "the sum of all inputs",
    "max": "the highest input",
    "top4": "the sum of the four highest",
    "mean_square": "the mean square",
    "std_mean_square": "the standardised mean square",
    "std_fourth": "the standardised fourth power",
    "pus_top4": "the four highest after pile-up subtraction",
    "pus_top16": "the 16 highest after pile-up subtraction",
    "pus_above": "the sum above a cut after pile-up subtraction",
    "pca": "PCA",
    "pca_top16": "the 16 highest residuals of PCA",
    "mahalanobis": "the Mahalanobis distance",
    "ht": "HT of windows",
    "menu": "the tuned OR of seeds",
}
# Settings are tuned among these; the first are taken where there are no signals.
_CUTS = [{"cut": cut} for cut in (20.0, 2, 3, 5, 8, 12, 30, 40, 60, 80, 120)]  # counts, of an input
_WINDOW_CUTS = [{"cut": cut} for cut in (40.0, 5, 8, 12, 20, 30, 60, 80, 120, 180)]
_COMPONENTS = [{"components": number} for number in (1, 2, 4, 8)]
SEEDS = ("single_jet", "double_jet", "ht", "top16")
# Shares of the total rate: multiples of an eighth.
_SHARES = [dict.fromkeys(SEEDS, 0.25)] + [
    dict(zip(SEEDS, (eighths / 8 for eighths in each), strict=True))
    for each in itertools.product(range(9), repeat=len(SEEDS))
    if sum(each) == 8
]
_OFFSET = 1.0  # of the square root that gives counts about equal spread
_MOST_SIGNAL = 10_000  # events of a signal that settings are tuned on


class Baseline(NamedTuple):
    """A score of events and the settings that were tuned for it."""

    score: Scorer
    settings: Settings


def highest(inputs: Values, count: int) -> Values:
    """Sum of the `count` highest inputs, (N, inputs) to (N,)."""
    count = min(count, inputs.shape[1])
    return np.partition(inputs, -count, axis=1)[:, -count:].sum(1)


def subtracted(events: Events, mean: Values) -> Values:
    """Counts above the pile-up: x - rho mean, rho the event's median of x / mean; as `events`."""
    counts, live = np.asarray(events, np.float64), mean > 0
    if not live.any():
        return counts
    rho = np.median(counts[:, live] / mean[live], axis=1)
    return counts - rho.reshape(-1, *[1] * mean.ndim) * mean


def windows(counts: Values) -> Values:
    """Sums of 3 x 3 regions around each, (N, phi, eta); phi is a circle, eta has ends."""
    rows = counts + np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1)
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1)))
    return padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]


def two_jets(sums: Values) -> tuple[Values, Values]:
    """The highest window of (N, phi, eta), and the highest that has no region in common with it."""
    number, phis, etas = sums.shape
    first = sums.reshape(number, -1).argmax(1)
    phi, eta = np.divmod(first, etas)
    turn = np.abs(np.arange(phis) - phi[:, None])
    near = np.minimum(turn, phis - turn)[:, :, None] <= 2
    near = near & (np.abs(np.arange(etas) - eta[:, None])[:, None] <= 2)
    second = np.where(near, -np.inf, sums).reshape(number, -1).max(1)
    return sums.reshape(number, -1).max(1), np.where(np.isfinite(second), second, sums.min((1, 2)))


def above(values: Values, cut: float) -> Values:
    """Sum of the values above a cut, (N, ...) to (N,)."""
    return np.where(values > cut, values, 0).reshape(len(values), -1).sum(1)


class Rarity:
    """Minus the log of the share of normals at or above a value; straight on beyond 1e-3."""

    def __init__(self, normal: Values) -> None:
        shares = np.array([1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001])
        knots, first = np.unique(np.quantile(normal, 1 - shares), return_index=True)
        self.knots, self.logs = knots, -np.log(shares[first])

    def __call__(self, values: Values) -> Values:
        """Of values (N,)."""
        found = np.interp(values, self.knots, self.logs)
        if len(self.knots) > 1:  # an exponential tail, as between its last knots
            past = max(len(self.knots) - 4, 0)
            slope = (self.logs[-1] - self.logs[past]) / (self.knots[-1] - self.knots[past])
            found += slope * np.maximum(values - self.knots[-1], 0)
        return np.asarray(found)


def menu(rarities: Values, **shares: float) -> Values:
    """An OR of seeds (N, seeds) as one score (N,): each fires at its share of the total rate."""
    used = [(place, share) for place, share in enumerate(shares.values()) if share]
    return np.max([rarities[:, place] + np.log(share) for place, share in used], axis=0)


def fit_baselines(dataset: Dataset) -> dict[str, Baseline]:
    """The baselines of a data set by name, all of them where inputs form rings of one kind."""
    spread = measure_spread(dataset.train, dataset.standardise_axes)
    found = {name: Baseline(score, {}) for name, score in plain(*spread).items()}
    return found | (_calorimeter(dataset, spread[0]) if dataset.standardise_axes else {})


def plain(mean: Values, deviation: Values) -> dict[str, Scorer]:
    """Baselines of any events; mean and deviation of every input are those of normals."""
    width = np.where(deviation > 0, deviation, 1.0)

    def scorer(name: str) -> Scorer:
        def score(events: Events) -> Values:
            inputs = (events - mean) / width if name.startswith("std_") else events
            return _PLAIN[name](np.asarray(inputs, np.float64).reshape(len(events), -1))

        return score

    return {name: scorer(name) for name in _PLAIN}


def _calorimeter(dataset: Dataset, mean: Values) -> dict[str, Baseline]:
    axes = PrincipalAxes.fit(dataset.train, _OFFSET)
    normal = np.concatenate([own.events(MOST_EVENTS) for own in (dataset.train, dataset.val)])
    signals = {name: own.val.events(_MOST_SIGNAL) for name, own in dataset.signals.items()}

    def tuned(
        prepare: Callable[[Events], Values],
        candidates: Sequence[Settings],
        score: Callable[..., Values],
    ) -> Baseline:
        """The candidate of the largest mean band; thresholds are of training and validation."""
        best = candidates[0]
        if signals:
            known, found = prepare(normal), {name: prepare(own) for name, own in signals.items()}

            def quality(settings: Settings) -> float:
                level = score(known, **settings)
                return sum(band(level, score(own, **settings)) for own in found.values())

            best = max(candidates, key=quality)
        return Baseline(lambda events: score(prepare(events), **best), best)

    def flat(events: Events) -> Values:
        return subtracted(events, mean).reshape(len(events), -1)

    def sums(events: Events) -> Values:
        return windows(flat(events).reshape(-1, *mean.shape[:2]))

    def deviations(events: Events) -> Values:
        return square_root(events, _OFFSET).reshape(len(events), -1) - axes.mean

    def residual(values: Values, components: int) -> Values:
        basis = axes.basis(components)
        return values - (values @ basis) @ basis.T

    ht = tuned(sums, _WINDOW_CUTS, above)

    def seeds(events: Events) -> Values:
        counts = flat(events)
        found = windows(counts.reshape(-1, *mean.shape[:2]))
        return np.stack([*two_jets(found), above(found, **ht.settings), highest(counts, 16)])

    rarities = [Rarity(values) for values in seeds(normal)]

    def rare(events: Events) -> Values:
        pairs = zip(rarities, seeds(events), strict=True)
        return np.stack([rarity(values) for rarity, values in pairs], axis=1)

    return {
        "pus_top4": Baseline(lambda events: highest(flat(events), 4), {}),
        "pus_top16": Baseline(lambda events: highest(flat(events), 16), {}),
        "pus_above": tuned(flat, _CUTS, above),
        "pca": tuned(
            deviations,
            _COMPONENTS,
            lambda v, components: np.square(residual(v, components)).mean(1),
        ),
        "pca_top16": tuned(
            deviations, _COMPONENTS, lambda v, components: highest(residual(v, components), 16)
        ),
        "mahalanobis": Baseline(lambda e: np.square(deviations(e) @ axes.whitening).mean(1), {}),
        "ht": ht,
        "menu": tuned(rare, _SHARES, menu),
    }
