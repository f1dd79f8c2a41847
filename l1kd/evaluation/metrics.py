"""Separation of anomalies by a score, and likeness of two scores. Higher is more abnormal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from l1kd.core.run_files import Emd, PerSignal, Quality
from l1kd.evaluation.rates import REPORTED_FPR, accept, threshold

POOLED = "all"  # the key of `auc` that stands for all signals together

Scores = NDArray[Any]
Samples = Mapping[str, Scores]  # by name: `test` and the signals


def auc(normal: Scores, anomalous: Scores) -> float:
    """Area under the ROC curve (Mann-Whitney, ties one half): exact but for one division."""
    normal, anomalous = _scores(normal), _scores(anomalous)
    ordered = np.sort(normal)
    below = int(np.searchsorted(ordered, anomalous, "left").sum())
    not_above = int(np.searchsorted(ordered, anomalous, "right").sum())
    return (below + not_above) / (2 * len(normal) * len(anomalous))


def efficiency(normal: Scores, anomalous: Scores, fpr: float = REPORTED_FPR) -> float:
    """Share of anomalies accepted by the threshold that lets at most `fpr` of the normals pass."""
    normal, anomalous = _scores(normal), _scores(anomalous)
    return float(np.mean(accept(anomalous, threshold(normal, fpr))))


def quality(normal: Scores, signals: Mapping[str, Scores], fpr: float = REPORTED_FPR) -> Quality:
    """AUC (`all`: signals pooled) and efficiency for each signal; both empty without signals."""
    if not signals:
        return Quality(auc={}, efficiency={})
    areas = {name: auc(normal, scores) for name, scores in signals.items()}
    areas[POOLED] = auc(normal, np.concatenate([np.ravel(scores) for scores in signals.values()]))
    shares = {name: efficiency(normal, scores, fpr) for name, scores in signals.items()}
    return Quality(auc=areas, efficiency=shares)


def mean_over_signals(values: PerSignal) -> float | None:
    """Unweighted mean over the signals, `all` left out; None without signals."""
    single = [value for name, value in values.items() if name != POOLED]
    return float(np.mean(single)) if single else None


def emd(a: Scores, b: Scores) -> float:
    """Earth mover's distance (Wasserstein-1) of two samples, in the scores' unit."""
    return float(stats.wasserstein_distance(_scores(a), _scores(b)))


def distance(
    teacher: tuple[Scores, Mapping[str, Scores]], student: tuple[Scores, Mapping[str, Scores]]
) -> Emd:
    """Earth mover's distance of raw scores on log(1 + raw), of normals and of pooled signals."""

    normal = emd(*(np.log1p(_scores(own)) for own, _ in (teacher, student)))
    if not teacher[1]:
        return Emd(normal=normal, anomalous=None)
    pooled = (np.concatenate([_scores(p) for p in own.values()]) for _, own in (teacher, student))
    return Emd(normal=normal, anomalous=emd(*map(np.log1p, pooled)))


def normals_and_signals(samples: Samples) -> tuple[Scores, dict[str, Scores]]:
    """Scores of `test`, and of all other samples by name."""
    return samples["test"], {name: part for name, part in samples.items() if name != "test"}


def likeness(raw: Samples, scores: Samples, inverse: Callable[[Scores], Scores]) -> dict[str, Any]:
    """`emd` and `spearman` of scores, made raw by `inverse`, to the teacher's raw ones."""
    as_raw = {name: np.asarray(inverse(part)) for name, part in scores.items()}
    return {
        "emd": distance(normals_and_signals(raw), normals_and_signals(as_raw)),
        "spearman": spearman(raw["test"], scores["test"]),
    }


def spearman(a: Scores, b: Scores) -> float | None:
    """Rank correlation of two scores (N,) of the same events; None if one is constant or N < 2."""
    a, b = _pair(a, b)
    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    ranks = (stats.rankdata(values).astype(np.float64) for values in (a, b))
    a, b = (values - values.mean() for values in ranks)
    return float(np.clip(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)), -1.0, 1.0))


def shared_decisions(a: Scores, b: Scores, fpr: float = REPORTED_FPR) -> float | None:
    """Events that both scores accept over events that at least one accepts."""
    first, second = (accept(s, threshold(_scores(s), fpr)) for s in _pair(a, b))
    either = int(np.sum(first | second))
    return int(np.sum(first & second)) / either if either else None


def _pair(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    a, b = np.ravel(a), np.ravel(b)
    if len(a) != len(b):
        raise ValueError(f"scores of the same events are of one length, not {len(a)} and {len(b)}")
    return a, b


def _scores(values: Scores) -> Scores:
    scores = np.ravel(values)
    if not len(scores):
        raise ValueError("a metric needs at least one event")
    if not np.isfinite(scores).all():
        raise ValueError("scores are finite numbers")
    return scores
