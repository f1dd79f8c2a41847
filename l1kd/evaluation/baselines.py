"""Scores without a network, as a physicist would have them: what a network has to beat.

Fitted on training normals; settings tuned for the band on signals' validation halves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from l1kd.data.dataset import Block, Dataset, Events, Sample, Signal
from l1kd.data.moments import MOST_EVENTS, measure_spread, principal_axes, square_root
from l1kd.evaluation.metrics import band
from l1kd.evaluation.scores import Scorer, Values

Settings = Mapping[str, float]
Baseline = tuple[Scorer, Settings]  # and what was tuned for it

# In words; the later ones, from `pus_top4`, are for calorimeters.
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
    "ht": "HT of windows after pile-up subtraction",
    "menu": "the tuned OR of seeds",
}
# Settings are tuned among these; the first are taken where there are no signals.
_CUTS = [{"cut": cut} for cut in (20.0, 2, 3, 5, 8, 12, 30, 40, 60, 80, 120)]  # counts, of an input
_WINDOW_CUTS = [{"cut": cut} for cut in (40.0, 5, 8, 12, 20, 30, 60, 80, 120, 180)]
_COMPONENTS = [{"components": number} for number in (1, 2, 4, 8)]
SEEDS = ("single_jet", "double_jet", "ht", "top16")
_SHARES = [dict.fromkeys(SEEDS, 0.25)] + [  # of the total rate, in eighths
    {seed: eighths / 8 for seed, eighths in zip(SEEDS, each, strict=True)}
    for each in itertools.product(range(9), repeat=len(SEEDS))
    if sum(each) == 8
]
_OFFSET = 1.0  # of the square root that gives counts about equal spread
_MOST_SIGNAL = 10_000  # events of a signal that settings are tuned on


def highest(inputs: Values, count: int) -> Values:
    """Sum of the `count` highest inputs, (N, inputs) to (N,)."""
    count = min(count, inputs.shape[1])
    return np.asarray(np.partition(inputs, -count, axis=1)[:, -count:].sum(1))


def subtracted(events: Events, mean: Values) -> Values:
    """Counts above the pile-up: x - rho mean, rho the event's median of x / mean; as `events`."""
    counts, live = np.asarray(events, np.float64), mean > 0
    ratio = counts[:, live] / mean[live] if live.any() else np.zeros((len(counts), 1))
    return np.asarray(counts - np.median(ratio, axis=1).reshape(-1, *[1] * mean.ndim) * mean)


def windows(counts: Values) -> Values:
    """Sums of 3 x 3 regions around each, (N, phi, eta); phi is a circle, eta has ends."""
    rows = counts + np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1)
    rows = np.pad(rows, ((0, 0), (0, 0), (1, 1)))
    return np.asarray(rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:])


def two_jets(sums: Values) -> Values:
    """The highest window of (N, phi, eta), and the highest beside it without overlap, (2, N)."""
    phis, etas = sums.shape[1:]
    phi, eta = np.divmod(sums.reshape(len(sums), -1).argmax(1)[:, None], etas)
    turn, step = np.abs(np.arange(phis) - phi), np.abs(np.arange(etas) - eta)
    near = (np.minimum(turn, phis - turn) <= 2)[:, :, None] & (step <= 2)[:, None]
    return np.stack([sums.max((1, 2)), np.where(near, 0, sums).max((1, 2))])


def above(values: Values, cut: float) -> Values:
    """Sum of the values above a cut, (N, ...) to (N,)."""
    return np.asarray(np.where(values > cut, values, 0).reshape(len(values), -1).sum(1))


def rarity(normal: Values) -> Callable[[Values], Values]:
    """Minus the log of the share of normals at or above a value; exponential beyond 1e-3."""
    levels = np.linspace(0, np.log(1000), 16)
    knots, first = np.unique(np.quantile(normal, 1 - np.exp(-levels)), return_index=True)
    logs = levels[first]
    past = max(len(knots) - 5, 0)
    slope = (logs[-1] - logs[past] or 1.0) / max(knots[-1] - knots[past], 1e-12)
    return lambda values: np.interp(values, knots, logs) + slope * np.maximum(values - knots[-1], 0)


def menu(rarities: Values, **shares: float) -> Values:
    """An OR of seeds (seeds, N) as one score (N,): each fires at its share of the total rate."""
    pairs = zip(rarities, shares.values(), strict=True)
    return np.asarray(np.max([own + np.log(share) for own, share in pairs if share], axis=0))


def fit_baselines(dataset: Dataset) -> dict[str, Baseline]:
    """The baselines of a data set by name, all of them where inputs form rings of one kind."""
    spread = measure_spread(dataset.train, dataset.standardise_axes)
    found: dict[str, Baseline] = {name: (score, {}) for name, score in plain(*spread).items()}
    if not dataset.standardise_axes:
        return found
    if dataset.shape[2:] in ((), (1,)):
        return found | _calorimeter(dataset, spread[0])
    first: Any = _kept(lambda events: np.asarray(events[..., :1], np.float64))
    for name, (score, settings) in _calorimeter(_counts(dataset), spread[0][..., :1]).items():
        found[name] = _after(first, score), settings
    return found


def _after(first: Any, score: Scorer) -> Scorer:
    return lambda events: score(first(events))


def _first(load: Callable[[], Any]) -> Any:
    return load()[..., :1]


def _counts(dataset: Dataset) -> Dataset:
    """The first channel of a calorimeter's events: the counts, without the bits beside them."""

    def of(sample: Sample) -> Sample:
        blocks = (Block(block.events, partial(_first, block.load)) for block in sample.blocks)
        return Sample(sample.name, (*sample.shape[:-1], 1), tuple(blocks))

    signals = {name: Signal(of(own.val), of(own.test)) for name, own in dataset.signals.items()}
    train, val, test = of(dataset.train), of(dataset.val), of(dataset.test)
    return replace(dataset, signals=signals, train=train, val=val, test=test)


def plain(mean: Values, deviation: Values) -> dict[str, Scorer]:
    """Baselines of any events; mean and deviation of every input are those of normals."""
    width = np.where(deviation > 0, deviation, 1.0)

    def flat(events: Values) -> Values:
        return np.asarray(events, np.float64).reshape(len(events), -1)

    return {
        "sum": lambda events: flat(events).sum(1),
        "max": lambda events: flat(events).max(1),
        "top4": lambda events: highest(flat(events), 4),
        "mean_square": lambda events: np.square(flat(events)).mean(1),
        "std_mean_square": lambda events: np.square(flat((events - mean) / width)).mean(1),
        "std_fourth": lambda events: (flat((events - mean) / width) ** 4).mean(1),
    }


def _kept(function: Scorer) -> Scorer:
    """The same function, which remembers its last result: several scores ask for one chunk."""
    last: list[tuple[Events, Values]] = []

    def result(events: Events) -> Values:
        if not last or last[0][0] is not events:
            last[:] = [(events, function(events))]
        return last[0][1]

    return result


def _calorimeter(dataset: Dataset, mean: Values) -> dict[str, Baseline]:
    center, axes, whitening = principal_axes(dataset.train, _OFFSET)
    # Thresholds are of the normals of training and validation, validation alone has too few.
    normal = np.concatenate([own.events(MOST_EVENTS) for own in (dataset.train, dataset.val)])
    signals = [own.val.events(_MOST_SIGNAL) for own in dataset.signals.values()]
    tuning = np.concatenate([normal, *signals])
    ends = np.cumsum([len(normal), *map(len, signals)])[:-1]

    def tuned(prepare: Scorer, candidates: Sequence[Settings], score: Any) -> Baseline:
        def quality(settings: Settings) -> float:
            known, *own = np.split(score(prepare(tuning), **settings), ends)
            return sum(band(known, values) for values in own)

        best = max(candidates, key=quality) if signals else candidates[0]
        return lambda events: score(prepare(events), **best), best

    flat = _kept(lambda events: subtracted(events, mean).reshape(len(events), -1))
    sums = _kept(lambda events: windows(flat(events).reshape(-1, *mean.shape[:2])))
    roots = _kept(lambda events: square_root(events, _OFFSET).reshape(len(events), -1) - center)

    def residual(values: Values, components: int) -> Values:
        basis = axes[:, -components:]
        return np.asarray(values - (values @ basis) @ basis.T)

    ht, window_cut = tuned(sums, _WINDOW_CUTS, above)

    def seeds(events: Events) -> Values:
        return np.stack([*two_jets(sums(events)), ht(events), highest(flat(events), 16)])

    levels = [rarity(values[: len(normal)]) for values in seeds(tuning)]

    rare = _kept(lambda e: np.stack([f(v) for f, v in zip(levels, seeds(e), strict=True)]))

    return {
        "pus_top4": (lambda events: highest(flat(events), 4), {}),
        "pus_top16": (lambda events: highest(flat(events), 16), {}),
        "pus_above": tuned(flat, _CUTS, above),
        "pca": tuned(roots, _COMPONENTS, lambda v, **k: np.square(residual(v, **k)).mean(1)),
        "pca_top16": tuned(roots, _COMPONENTS, lambda v, **k: highest(residual(v, **k), 16)),
        "mahalanobis": (lambda e: np.square(roots(e) @ whitening).mean(1), {}),
        "ht": (ht, window_cut),
        "menu": tuned(rare, _SHARES, menu),
    }
