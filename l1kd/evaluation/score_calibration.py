"""A student's scores on its teacher's scale, by events that are in no test.

The map is monotone: decisions and firmware stay, only the raw score that a score stands for moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.config import Config
from l1kd.data.dataset import Dataset, Sample
from l1kd.training.exposure import mixer

_EVENTS = 4096  # normal ones at most
_STREAM = 0xCA1  # random events that are no one else's
_KNOTS = 64
# Anomalies resemble exposure, but are none: all of the way would be right for exposure, none of it
# trusts the student. What it does to anomalies of validation halves: bench_ablations.
_SHARE = 0.5
# What the teacher finds most abnormal, a quarter of the exposure, is left out. That is empirical:
# docs/training.md says on which events this and the share were chosen.
_HELD = 0.875


@dataclass(frozen=True)
class Calibration:
    """A monotone map between values of the output type: straight between knots, shifted beyond."""

    scores: NDArray[np.float64]  # the knots, both increasing, (knots,)
    calibrated: NDArray[np.float64]

    def __call__(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Scores of any shape, calibrated."""
        scores = np.asarray(scores, np.float64)
        # Where there is no knot the nearest one's shift goes on.
        return np.add(scores, np.interp(scores, self.scores, self.calibrated - self.scores))

    @property
    def knots(self) -> list[tuple[float, float]]:
        """As pairs."""
        return list(zip(self.scores.tolist(), self.calibrated.tolist(), strict=True))

    @classmethod
    def fit(cls, scores: NDArray[Any], targets: NDArray[Any]) -> Calibration:
        """Half of the way from a score to the target of the same rank."""
        scores, targets = (np.asarray(values, np.float64) for values in (scores, targets))
        kept = targets <= np.quantile(targets, _HELD)
        levels = (np.arange(_KNOTS) + 0.5) / _KNOTS
        own, wanted = (np.quantile(values[kept], levels) for values in (scores, targets))
        knots, first = np.unique(own, return_index=True)
        # Scores that are alike stay alike: theirs is the mean of the targets.
        ends = [*first[1:], _KNOTS]
        means = [wanted[a:b].mean() for a, b in zip(first, ends, strict=True)]
        return cls(knots, (1 - _SHARE) * knots + _SHARE * np.array(means))


def calibration_sample(config: Config, dataset: Dataset) -> Sample | None:
    """Training normals and as much exposure; None if students were shown none."""
    if not config.distillation.exposure:
        return None
    mix = mixer(config.distillation.exposure, 1.0, dataset)
    normal = dataset.train.events(_EVENTS)
    exposure = mix(normal, np.random.default_rng([config.seed, _STREAM]))
    return Sample.of("calibration", np.concatenate([normal, exposure]))
