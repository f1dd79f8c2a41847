"""Thresholds never let more pass than asked, in integers as in floats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from l1kd.core.fixed_point import FixedPoint
from l1kd.evaluation.rates import (
    CROSSING_RATE_KHZ,
    TRIGGER_FPR,
    accept,
    out_of_reach,
    rate_khz,
    threshold,
    working_points,
)

INTEGERS = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(-8, 8))
FLOATS = hnp.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 2)),
)
RATES = st.one_of(st.floats(0, 1, exclude_max=True), st.integers(0, 59).map(lambda i: i / 60))


@given(st.one_of(INTEGERS, FLOATS), RATES)
def test_rate_is_never_exceeded_and_the_threshold_is_the_lowest(scores, fpr):
    level = threshold(scores, fpr)
    assert np.sum(accept(scores, level)) <= fpr * len(scores) * (1 + 1e-12)
    below = level - 1 if isinstance(level, int) else np.nextafter(level, -np.inf)
    assert np.mean(accept(scores, below)) > fpr


@given(st.one_of(INTEGERS, FLOATS), RATES, RATES)
def test_a_higher_rate_never_has_a_higher_threshold(scores, one, other):
    low, high = sorted((one, other))
    assert threshold(scores, high) <= threshold(scores, low)


@given(INTEGERS, RATES)
def test_integers_and_floats_decide_alike(scores, fpr):
    floats = scores.astype(np.float64)
    np.testing.assert_array_equal(
        accept(scores, threshold(scores, fpr)), accept(floats, threshold(floats, fpr))
    )


@given(INTEGERS, RATES)
def test_float32_scores_decide_like_integers(scores, fpr):
    narrow = (scores / 256).astype(np.float32)
    np.testing.assert_array_equal(
        accept(scores, threshold(scores, fpr)), accept(narrow, threshold(narrow, fpr))
    )


@pytest.mark.parametrize("events", [1, 9])
def test_a_tiny_sample_lets_nothing_pass(events):
    scores = np.arange(events)
    level = threshold(scores, 0.1)
    assert level == events
    assert not accept(scores, level).any()


def test_a_tie_is_never_split():
    scores = np.array([1, 5, 5, 5, 2, 3, 4, 0, 1, 2])
    assert threshold(scores, 0.2) == 6
    assert threshold(scores, 0.3) == 5


@pytest.mark.parametrize("fpr", [0.29, 0.57, 0.07])
def test_rounding_does_not_lose_an_event(fpr):
    # int(0.29 * 100) is 28
    scores = np.arange(100)
    assert np.sum(accept(scores, threshold(scores, fpr))) == round(fpr * 100)


def test_int64_edge_does_not_wrap():
    scores = np.array([np.iinfo(np.int64).max])
    assert threshold(scores, 0.0) == 2**63


@pytest.mark.parametrize("fpr", [-0.1, 1.0, float("nan")])
def test_no_rate_at_all_is_refused(fpr):
    with pytest.raises(ValueError, match="false-positive rate"):
        threshold(np.arange(4), fpr)


def test_no_events_and_no_numbers_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        threshold(np.array([], np.int64), 0.1)
    with pytest.raises(ValueError, match="finite"):
        threshold(np.array([1.0, np.inf]), 0.1)


def test_three_kilohertz():
    assert rate_khz(TRIGGER_FPR) == pytest.approx(3.0, abs=0.01)
    assert rate_khz(1.0) == CROSSING_RATE_KHZ


def test_working_points_where_the_sample_can_say():
    normal = np.arange(5_000)
    points = working_points({"test": normal, "hot": np.array([4_999, 4_995, 4_994, 0])})
    assert [point.target_fpr for point in points] == [1e-2, 1e-3]
    point = points[1]
    assert point.threshold == 4_995
    assert point.fpr == pytest.approx(1e-3)
    assert point.rate_khz == pytest.approx(28.61)
    assert point.efficiency == {"hot": 0.5}


def test_saturated_scores_put_the_threshold_out_of_reach():
    score = FixedPoint(16, 8, signed=False)
    normal = np.full(1_000, 2**16 - 1)
    (point, *_) = working_points({"test": normal, "hot": normal})
    assert out_of_reach(point.threshold, score)
    assert point.fpr == 0 and point.efficiency == {"hot": 0.0}
    assert not out_of_reach(2**16 - 1, score)
