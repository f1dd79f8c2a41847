"""Baselines: anomaly scores without training that a network has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.data.dataset import Events

Baseline = Callable[[Events], NDArray[np.float64]]  # events (N, *shape) to scores (N,)
NAMES = ("sum", "max", "top4", "mean_square", "std_mean_square", "std_fourth")


def baselines(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> dict[str, Baseline]:
    """The baselines by name; mean and deviation of every input are those of training normals."""
    centre = np.asarray(mean, np.float64)
    width = np.where(np.asarray(deviation) > 0, deviation, 1.0)

    def standardised(events: Events) -> NDArray[np.float64]:
        return _flat((events - centre) / width)

    def top4(events: Events) -> NDArray[np.float64]:
        inputs = _flat(events)
        if inputs.shape[1] > 4:
            inputs = np.partition(inputs, -4, axis=1)[:, -4:]
        return np.asarray(inputs.sum(1))

    return {
        "sum": lambda events: _flat(events).sum(1),
        "max": lambda events: _flat(events).max(1),
        "top4": top4,
        "mean_square": lambda events: np.square(_flat(events)).mean(1),
        "std_mean_square": lambda events: np.square(standardised(events)).mean(1),
        "std_fourth": lambda events: np.square(np.square(standardised(events))).mean(1),
    }


def _flat(events: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(events, np.float64).reshape(len(events), -1)
