"""Target transforms: monotone, inverted exactly up to the grid, stored with the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l1kd.core.config import Score
from l1kd.core.errors import UserError
from l1kd.training.target_transform import (
    TARGETS,
    TargetTransform,
    load_target,
    log_quantiles,
    save_target,
)

SCORE = Score().type
RAW = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1e6))


def fitted(raw: np.ndarray) -> TargetTransform:  # type: ignore[type-arg]
    transform: TargetTransform = TARGETS["fitted"](SCORE)
    return transform.fitted(*log_quantiles(raw))


@pytest.mark.parametrize("kind", TARGETS)
@given(raw=RAW)
def test_targets_are_values_of_the_output_type_and_keep_the_order(
    kind: str,
    raw: np.ndarray,  # type: ignore[type-arg]
) -> None:
    targets = TARGETS[kind](SCORE).forward(np.sort(raw))
    assert SCORE.holds(targets).all()
    assert (np.diff(targets) >= 0).all()


@pytest.mark.parametrize("kind", TARGETS)
def test_the_inverse_undoes_it_inside_the_range(kind: str) -> None:
    transform = TARGETS[kind](SCORE)
    scores = SCORE.quantize(np.linspace(0, 100 if kind != "paper" else 5, 1001))
    assert (transform.forward(transform.inverse(scores)) == scores).all()


def test_saturated_scores_invert_to_the_edge() -> None:
    transform = TARGETS["cicada"](SCORE)
    assert transform.inverse(1e9) == transform.inverse(SCORE.high)
    assert transform.inverse(-1.0) == transform.inverse(0.0)


def test_the_published_transforms() -> None:
    assert TARGETS["paper"](SCORE).forward(np.e - 1) == 1
    assert TARGETS["cicada"](SCORE).forward(np.e) == 32
    assert TARGETS["cicada"](SCORE).forward(0.5) == 0


def test_fitted_leaves_headroom_above_the_normals_whatever_their_scale() -> None:
    random = np.random.default_rng(0)
    for scale in (1e-4, 1.0, 1e4):
        raw = scale * np.exp(0.3 * random.standard_normal(20_000))
        targets = fitted(raw).forward(raw)
        assert abs(np.median(targets) - 64) < 1
        assert abs(targets.std() - 16) < 1
        assert targets.max() < 0.6 * 256
        assert (targets > 0).mean() > 0.999


def test_a_constant_score_does_not_divide_by_zero() -> None:
    assert np.isfinite(fitted(np.full(10, 0.0)).forward([0.0, 1.0])).all()


def test_it_is_stored_with_the_run(tmp_path: Path) -> None:
    transform = fitted(np.array([1.0, 2.0, 3.0]))
    save_target(transform, tmp_path)
    assert load_target(tmp_path) == transform


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"base": "exp", "gain": 1, "offset": 0}'])
def test_a_damaged_one_is_said_to_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "target.json").write_text(text)
    with pytest.raises(UserError, match=r"target\.json is damaged"):
        load_target(tmp_path)


def test_a_missing_one_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train"):
        load_target(tmp_path)
