"""Separation of anomalies by a score, and likeness of two scores. Higher is more abnormal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import scipy  # its `stats` takes a second to load: only where it is called
from numpy.typing import NDArray

from l1kd.core.errors import CheckFailed
from l1kd.core.run_files import Emd, PerSignal, Quality, Rung
from l1kd.evaluation.rates import BAND, REPORTED_FPR, accept, threshold
from l1kd.training.target_transform import TargetTransform

POOLED = "all"  # the key of `auc` that stands for all signals together

Scores = NDArray[Any]
Samples = Mapping[str, Scores]  # by name: `test`, of normal events, and the signals


def auc(normal: Scores, anomalous: Scores) -> float:
    """Area under the ROC curve (Mann-Whitney, ties one half): exact but for one division."""
    normal, anomalous = _scores(normal), _scores(anomalous)
    ordered = np.sort(normal)
    below = int(np.searchsorted(ordered, anomalous, "left").sum())
    not_above = int(np.searchsorted(ordered, anomalous, "right").sum())
    return (below + not_above) / (2 * len(normal) * len(anomalous))


def efficiency(normal: Scores, anomalous: Scores, fpr: float = REPORTED_FPR) -> float:
    """Share of anomalies accepted by the threshold that lets at most `fpr` of the normals pass."""
    return float(np.mean(accept(_scores(anomalous), threshold(normal, fpr))))


def band(normal: Scores, anomalous: Scores, rates: tuple[float, float] = BAND) -> float:
    """Mean efficiency over false-positive rates from one to another, by their logarithm."""
    normal, anomalous = np.sort(_scores(normal)), _scores(anomalous)
    above = len(normal) - np.searchsorted(normal, anomalous, "left")
    return float(np.mean(share_of_band(above / len(normal), rates)))


def share_of_band(fpr: Scores, rates: tuple[float, float] = BAND) -> Scores:
    """Share of the band in which an event is accepted, from the lowest rate at which it is."""
    low, high = rates
    return np.asarray(np.clip(np.log(high / np.maximum(fpr, low)) / np.log(high / low), 0, 1))


def quality(samples: Samples) -> Quality:
    """AUC (`all`: signals pooled), efficiency and band by signal; all empty without signals."""
    normal, signals = samples["test"], _signals(samples)
    areas = {name: auc(normal, scores) for name, scores in signals.items()}
    if signals:
        areas[POOLED] = auc(normal, _pooled(samples))
    shares = {name: efficiency(normal, scores) for name, scores in signals.items()}
    bands = {name: band(normal, scores) for name, scores in signals.items()}
    return Quality(auc=areas, efficiency=shares, band=bands)


def mean_over_signals(values: PerSignal) -> float | None:
    """Unweighted mean over the signals, `all` left out; None without signals."""
    single = [value for name, value in values.items() if name != POOLED]
    return float(np.mean(single)) if single else None


def emd(a: Scores, b: Scores) -> float:
    """Earth mover's distance (Wasserstein-1) of two samples, in the scores' unit."""
    return float(scipy.stats.wasserstein_distance(_scores(a), _scores(b)))


def distance(teacher: Samples, student: Samples) -> Emd:
    """Earth mover's distance of raw scores on log(1 + raw), of normals and of pooled signals."""
    normal = emd(*(np.log1p(_scores(own["test"])) for own in (teacher, student)))
    if not _signals(teacher):
        return Emd(normal=normal, anomalous=None)
    anomalous = emd(*(np.log1p(_pooled(own)) for own in (teacher, student)))
    return Emd(normal=normal, anomalous=anomalous)


def likeness(
    scores: Samples, raw: Samples | None, target: TargetTransform | None
) -> dict[str, Any]:
    """`emd` and `spearman` to the teacher's raw scores, if any; without a target both are raw."""
    if raw is None:
        return {"emd": None, "spearman": None}
    as_raw = scores if target is None else {n: target.inverse(part) for n, part in scores.items()}
    return {"emd": distance(raw, as_raw), "spearman": spearman(raw["test"], scores["test"])}


def spearman(a: Scores, b: Scores) -> float | None:
    """Rank correlation of two scores (N,) of the same events; None if one is constant or N < 2."""
    a, b = _pair(a, b)
    if len(a) < 2 or not all(np.isfinite(own).all() and np.ptp(own) for own in (a, b)):
        return None
    return float(scipy.stats.spearmanr(a, b).statistic)


def shared_decisions(a: Scores, b: Scores, fpr: float = REPORTED_FPR) -> float | None:
    """Events that both scores accept over events that at least one accepts."""
    first, second = (accept(s, threshold(s, fpr)) for s in _pair(a, b))
    either = int(np.sum(first | second))
    return int(np.sum(first & second)) / either if either else None


def rung(
    stage: Literal["teacher", "float", "qkeras", "csim", "rtl"],
    scores: Samples,
    raw: Samples | None = None,
    target: TargetTransform | None = None,
) -> Rung:
    """A rung of the ladder from the float teacher to the firmware; the teacher's scores are raw."""
    return Rung(stage=stage, **dict(quality(scores)), **likeness(scores, raw, target))


def auc_loss(ladder: list[Rung]) -> float | None:
    """Mean AUC over signals lost from float teacher to C simulation; None if either is missing."""
    areas = {step.stage: mean_over_signals(step.auc) for step in ladder}
    teacher, csim = areas.get("teacher"), areas.get("csim")
    return None if teacher is None or csim is None else teacher - csim


def check_auc_loss(student: str, ladder: list[Rung], allowed: float) -> None:
    """`CheckFailed` if the firmware loses more mean AUC than `allowed`."""
    loss = auc_loss(ladder)
    if loss is not None and loss > allowed:
        raise CheckFailed(
            f"student {student!r}: its firmware loses {loss:.4f} of the float teacher's mean AUC, "
            f"verify.max_auc_loss allows {allowed:g}"
        )


def _signals(samples: Samples) -> Samples:
    return {name: scores for name, scores in samples.items() if name != "test"}


def _pooled(samples: Samples) -> Scores:
    return np.concatenate([np.ravel(scores) for scores in _signals(samples).values()])


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
