"""Monotone transforms: from the teacher's raw score to the students' output type, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import read_as

_FILE = "target.json"
# Below this a raw score counts as 0: a reconstruction can be perfect in float32.
TINY = 1e-12
MEDIAN_AT, SPREAD_AS = 1 / 4, 1 / 16
MIN_SPREAD = 1e-3
QUANTILES = 0.16, 0.5, 0.84  # median, and a spread that the tail does not change


@dataclass(frozen=True)
class TargetTransform:
    """`clip(offset + gain * log(raw))`, or of `log(1 + raw)`, on the grid of the output type."""

    base: Literal["log", "log1p"]
    gain: Annotated[float, Field(gt=0)]  # as the offset, in units of the output type
    offset: float
    score: FixedPoint  # the output type

    def forward(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Raw scores of any shape to targets: values of the output type."""
        raw = np.asarray(raw, np.float64)
        log = np.log1p(raw) if self.base == "log1p" else np.log(np.maximum(raw, TINY))
        return self.score.quantize(self.offset + self.gain * log)

    def inverse(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores of any shape to raw scores; a saturated one to that of the range's edge."""
        scores = np.clip(np.asarray(scores, np.float64), self.score.low, self.score.high)
        log = (scores - self.offset) / self.gain
        return np.maximum(np.expm1(log) if self.base == "log1p" else np.exp(log), 0)

    def fitted(self, median: float, spread: float) -> TargetTransform:
        """With gain and offset from the median and the spread of log(raw) over normals."""
        top = self.score.high + self.score.lsb
        gain = SPREAD_AS * top / max(spread, MIN_SPREAD)
        return replace(self, gain=gain, offset=MEDIAN_AT * top - gain * median)


def log_quantiles(raw: ArrayLike) -> tuple[float, float]:
    """Median of log(raw) and half the distance of its 16 and 84 % quantiles."""
    low, median, high = np.quantile(np.log(np.maximum(raw, TINY)), QUANTILES)
    return float(median), float(high - low) / 2


TARGETS: dict[str, Callable[[FixedPoint], TargetTransform]] = {
    # log(1 + s) (arXiv 2310.06047); a tiny range for images in [0, 1]
    "paper": lambda score: TargetTransform("log1p", 1.0, 0.0, score),
    "cicada": lambda score: TargetTransform("log", 32.0, 0.0, score),  # 0 wherever s < 1
    "fitted": lambda score: TargetTransform("log", 1.0, 0.0, score).fitted(0.0, 1.0),
}


def save_target(transform: TargetTransform, directory: Path) -> None:
    """Store the transform with its run."""
    write_json(directory / _FILE, asdict(transform))


def load_target(directory: Path) -> TargetTransform:
    """The transform that a run stores; without one, or with a damaged one, a `UserError`."""
    path = directory / _FILE
    missing = f"{directory} has no {_FILE}: its `train` stage has not finished"
    transform: TargetTransform = read_as(TargetTransform, path, missing, "train the run again")
    return transform
