"""Calibrations: monotone, half of the way, from events that no test sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from l1kd.core.config import Config
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Sample
from l1kd.evaluation.evaluate import Calibration, calibration_sample

VALUES = arrays.arrays(np.float64, st.integers(1, 300), elements=st.integers(0, 65_535)).map(
    lambda counts: counts / 256
)


PAIRS = st.integers(1, 300).flatmap(
    lambda events: arrays.arrays(np.float64, (2, events), elements=st.integers(0, 65_535)).map(
        lambda counts: counts / 256
    )
)


@given(PAIRS, VALUES)
def test_no_decision_changes(pairs: np.ndarray, others: np.ndarray) -> None:  # type: ignore[type-arg]
    own = Calibration.fit(*pairs)
    before = np.unique(others)
    after = own(before)
    assert np.isfinite(after).all()
    assert (np.diff(after) > 0).all()


def test_a_perfect_student_is_left_alone() -> None:
    scores = np.random.default_rng(1).normal(80, 20, 1000)
    own = Calibration.fit(scores, scores)
    assert np.allclose(own(scores), scores, rtol=0, atol=1e-9)


def test_it_goes_half_of_the_way_to_the_same_rank() -> None:
    random = np.random.default_rng(2)
    targets = random.normal(90, 20, 20_000)
    scores = 70 + 0.5 * (targets - 90)  # too low, and its spread is half of the teacher's
    counting = targets <= np.quantile(targets, 0.875)
    # Whose target it is does not matter, among those that count.
    targets[counting] = random.permutation(targets[counting])
    shuffled = scores.copy()
    shuffled[counting] = random.permutation(scores[counting])
    own = Calibration.fit(shuffled, targets)
    middle = np.linspace(55, 80, 6)
    assert np.allclose(own(middle), (middle + 90 + 2 * (middle - 70)) / 2, atol=0.5)
    assert [len(pair) for pair in own.knots] == [2] * 64


def test_what_is_furthest_out_does_not_count() -> None:
    random = np.random.default_rng(4)
    targets, scores = random.normal(90, 20, (2, 8000))
    own = Calibration.fit(scores, targets)
    furthest = targets > np.quantile(targets, 0.875)
    targets[furthest] += 1000
    scores[furthest] = 0
    assert Calibration.fit(scores, targets).knots == own.knots
    targets[~furthest] += 1
    assert Calibration.fit(scores, targets).knots != own.knots


def test_beyond_its_knots_it_shifts() -> None:
    own = Calibration(np.array([10.0, 20.0]), np.array([12.0, 18.0]))
    assert own(np.array([0.0, 10.0, 15.0, 20.0, 30.0])).tolist() == [2.0, 12.0, 15.0, 18.0, 28.0]


def test_a_constant_student_is_shifted() -> None:
    own = Calibration.fit(np.full(50, 64.0), np.linspace(0, 100, 50))
    # Of 50 targets 43 count, up to 42/49 of 100.
    expected = (64 + 50 * 42 / 49) / 2
    assert own.knots == [(64.0, pytest.approx(expected))]
    assert own(np.array([1.0, 64.0])).tolist() == pytest.approx([expected - 63, expected])


def test_its_events_are_training_normals_and_their_exposure() -> None:
    events = np.random.default_rng(3).integers(0, 32, (200, 6)).astype(np.float32)
    train, test = Sample.of("train", events[:100]), Sample.of("test", events[100:])
    dataset = Dataset(train, test, test, {}, FixedPoint(6, 6))
    given = {
        "name": "x",
        "data": {"source": "arrays", "background": ["unused"]},
        "teacher": {"architecture": "dense"},
        "students": [{"name": "a", "architecture": "dense"}],
        "distillation": {"exposure": ["shuffle"]},
    }
    sample = calibration_sample(Config.model_validate(given), dataset)
    assert sample is not None
    found = sample.events()
    assert (found[:100] == events[:100]).all()
    shuffled, normal = ({tuple(sorted(e)) for e in part.tolist()} for part in (found[100:], events))
    assert len(found) == 200 and shuffled <= normal
    assert len({tuple(e) for e in found[100:].tolist()} & {tuple(e) for e in events.tolist()}) < 5
    assert calibration_sample(Config.model_validate({**given, "distillation": {}}), dataset) is None
