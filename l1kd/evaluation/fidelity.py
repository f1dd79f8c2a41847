"""The ladder of fidelity: from the float teacher to the firmware, every rung judged alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import CheckFailed
from l1kd.core.run_files import Rung
from l1kd.evaluation.metrics import distance, mean_over_signals, quality, spearman

Scores = Mapping[str, NDArray[Any]]  # by sample: `test` and the signals


class Inverse(Protocol):
    """What is needed of a target transform."""

    def inverse(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Scores to raw scores; those outside the output range to its edge."""


def rung(
    stage: Literal["float", "qkeras", "csim", "rtl"],
    scores: Scores,
    raw: Scores | None = None,
    target: Inverse | None = None,
) -> Rung:
    """One step of the ladder: how a student's scores compare with the teacher's."""
    judged = quality(scores["test"], _signals(scores))
    if raw is None or target is None:
        return Rung(
            stage=stage, auc=judged.auc, efficiency=judged.efficiency, emd=None, spearman=None
        )
    as_raw = {sample: np.asarray(target.inverse(values)) for sample, values in scores.items()}
    return Rung(
        stage=stage,
        auc=judged.auc,
        efficiency=judged.efficiency,
        emd=distance((raw["test"], _signals(raw)), (as_raw["test"], _signals(as_raw))),
        spearman=spearman(raw["test"], scores["test"]),
    )


def teacher_rung(raw: Scores) -> Rung:
    """The top of the ladder: the teacher, at distance 0 from itself."""
    judged = quality(raw["test"], _signals(raw))
    itself = (raw["test"], _signals(raw))
    return Rung(
        stage="teacher",
        auc=judged.auc,
        efficiency=judged.efficiency,
        emd=distance(itself, itself),
        spearman=spearman(raw["test"], raw["test"]),
    )


def auc_loss(ladder: list[Rung]) -> float | None:
    """Mean AUC over signals that is lost from the float teacher to the C simulation.

    None if there are no signals, or a rung is missing.
    """
    areas = {step.stage: mean_over_signals(step.auc) for step in ladder}
    teacher, csim = areas.get("teacher"), areas.get("csim")
    return None if teacher is None or csim is None else teacher - csim


def check_auc_loss(student: str, ladder: list[Rung], allowed: float) -> None:
    """Refuse a firmware whose scores tell anomalies worse than the float teacher's by too much."""
    loss = auc_loss(ladder)
    if loss is not None and loss > allowed:
        raise CheckFailed(
            f"student {student!r}: its firmware loses {loss:.4f} of the float teacher's mean AUC, "
            f"verify.max_auc_loss allows {allowed:g}"
        )


def _signals(scores: Scores) -> dict[str, NDArray[Any]]:
    return {sample: values for sample, values in scores.items() if sample != "test"}
