"""The ladder's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed
from l1kd.evaluation.metrics import auc_loss, check_auc_loss, rung


class Double:
    """score = 2 raw."""

    def inverse(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores) / 2


RANDOM = np.random.default_rng(0)
RAW = {"test": RANDOM.exponential(1, 500), "a": RANDOM.exponential(3, 200)}


def test_a_perfect_student_is_the_teacher() -> None:
    top = rung("teacher", RAW, RAW)
    step = rung("csim", {name: 2 * values for name, values in RAW.items()}, RAW, Double())
    assert step.model_dump(exclude={"stage"}) == top.model_dump(exclude={"stage"})
    assert auc_loss([top, step]) == 0
    check_auc_loss("x", [top, step], 0)


def test_a_blind_student_is_refused() -> None:
    blind = {name: RANDOM.random(len(values)) for name, values in RAW.items()}
    ladder = [rung("teacher", RAW, RAW), rung("csim", blind, RAW, Double())]
    loss = auc_loss(ladder)
    assert loss is not None and 0.1 < loss < 0.4
    check_auc_loss("x", ladder, loss)
    with pytest.raises(CheckFailed, match=r"'x': its firmware loses 0\.\d+ .*allows 0\.05"):
        check_auc_loss("x", ladder, 0.05)


def test_without_signals_there_is_no_loss() -> None:
    alone = {"test": RAW["test"]}
    ladder = [rung("teacher", alone, alone), rung("csim", alone, alone, Double())]
    assert auc_loss(ladder) is None
    assert ladder[1].emd.anomalous is None
    check_auc_loss("x", ladder, 0)
