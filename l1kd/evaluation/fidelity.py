"""The ladder from the float teacher to the firmware: the same metrics on every rung."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from l1kd.core.errors import CheckFailed
from l1kd.core.run_files import Rung
from l1kd.evaluation import metrics
from l1kd.evaluation.metrics import Samples

if TYPE_CHECKING:
    from l1kd.training.target_transform import TargetTransform


def rung(
    stage: Literal["float", "qkeras", "csim", "rtl"],
    scores: Samples,
    raw: Samples | None = None,
    target: TargetTransform | None = None,
) -> Rung:
    """A rung: a student's scores (output units) beside the teacher's raw ones, if there are any."""
    like = {"emd": None, "spearman": None}
    if raw is not None and target is not None:
        like = metrics.likeness(raw, scores, target.inverse)
    return Rung(stage=stage, **_quality(scores), **like)


def teacher_rung(raw: Samples) -> Rung:
    """The top of the ladder: the teacher, at distance 0 from itself."""
    like = metrics.likeness(raw, raw, lambda scores: scores)
    return Rung(stage="teacher", **_quality(raw), **like)


def _quality(scores: Samples) -> dict[str, Any]:
    return dict(metrics.quality(*metrics.normals_and_signals(scores)))


def auc_loss(ladder: list[Rung]) -> float | None:
    """Mean AUC over signals lost from float teacher to C simulation; None if either is missing."""
    areas = {step.stage: metrics.mean_over_signals(step.auc) for step in ladder}
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
