"""Thresholds never let more pass than asked, in integers as in floats."""

import copy
import json
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from l1kd.core.fixed_point import FixedPoint
from l1kd.data.pythia_toy.generate import accepted, effective_number
from l1kd.evaluation.rates import (
    Threshold,
    accept,
    independent_share,
    interval,
    out_of_reach,
    score_histogram,
    threshold,
    threshold_for,
    working_points,
)
from l1kd.evaluation.rates import accepted as accepted_of

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
    below = level - 1 if isinstance(level, Threshold) else np.nextafter(level, -np.inf)
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


@given(st.lists(INTEGERS, min_size=1, max_size=3), RATES)
def test_a_histogram_of_parts_decides_like_all_scores(parts, fpr):
    kind = FixedPoint(5, 4)  # -16 to 15, in halves
    total = sum(
        (score_histogram(kind, part) for part in parts[1:]), score_histogram(kind, parts[0])
    )
    scores = np.concatenate(parts)
    level = threshold_for(total, fpr)
    assert level == threshold(scores, fpr)
    assert accepted_of(total, level) == np.sum(scores >= level)
    assert [accepted_of(total, end) for end in (-99, 99)] == [len(scores), 0]


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


@pytest.mark.parametrize("mhz", [28.61, 40.0])
def test_working_points_of_rates_follow_the_crossings(mhz):
    normal = np.arange(50_000)
    points = working_points({"test": normal}, mhz, [3.0, 30.0, 50_000.0])
    fprs = [1e-2, 1e-3, 1e-4, 3e-3 / mhz, 30e-3 / mhz]
    assert [point.target_fpr for point in points] == pytest.approx(sorted(fprs, reverse=True))
    for point in points:
        assert point.rate_khz == pytest.approx(point.fpr * 1000 * mhz)
    free = working_points({"test": normal}, None, [3.0])
    assert [point.rate_khz for point in free] == [None] * 3


COMPARISONS = ("lt", "le", "eq", "ne", "ge", "gt")


@pytest.mark.parametrize("name", COMPARISONS)
@given(INTEGERS, st.integers(-9, 9))
def test_a_threshold_is_an_integer_from_either_side(name, scores, level):
    compare, mark = getattr(operator, name), Threshold(level)
    for kind in (np.int64, np.int16):
        narrow = scores.astype(kind)
        np.testing.assert_array_equal(compare(narrow, mark), compare(narrow, level))
        np.testing.assert_array_equal(compare(mark, narrow), compare(level, narrow))
        assert compare(narrow[0], mark) == compare(narrow[0], level)
    assert compare(mark, 3) is compare(level, 3) and compare(3, mark) is compare(3, level)
    assert compare(mark, Threshold(4)) is compare(level, 4)


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize(
    "scores",
    [
        np.zeros(3),
        np.zeros(3, np.float32),
        np.zeros((2, 1), np.float16),
        np.float64(1),
        np.bool_(1),
        0.5,
        float("nan"),
    ],
    ids=repr,
)
def test_scores_in_units_are_not_compared_with_a_threshold(name, scores):
    compare, mark = getattr(operator, name), Threshold(0)
    with pytest.raises(TypeError, match=r"compare integer scores|__array_ufunc__"):
        compare(scores, mark)
    with pytest.raises(TypeError, match="compare integer scores"):
        compare(mark, scores)
    with pytest.raises(TypeError):
        accept(np.asarray(scores, np.float32), mark)


def test_a_threshold_stands_where_an_integer_does():
    level = threshold(np.arange(10), 0.2)
    assert isinstance(level, Threshold)
    assert (json.dumps(int(level)), f"{level + 1_000:,}", hash(level)) == ("8", "1,008", hash(8))
    assert (
        [*range(level)] == [*range(8)]
        and level - 1 == 7
        and (str(level), repr(level)) == ("8", "Threshold(8)")
    )
    assert copy.copy(level) == level
    assert level != "8" and level is not None and {8: "x"}[level] == "x"
    with pytest.raises(TypeError):
        _ = np.arange(3.0) - level
    assert isinstance(threshold(np.arange(10.0), 0.2), float)
    assert Threshold(np.int16(8)) == level
    with pytest.raises(TypeError):
        Threshold(8.0)


def test_intervals_are_jeffreys():
    low, high = interval(52, 52_000)
    assert (low * 52_000, high * 52_000) == pytest.approx((45.3, 59.7), abs=0.1)
    assert interval(0, 100)[0] == 0 and 0.005 < interval(0, 100)[1] < 0.015
    assert interval(100, 100)[1] == 1
    # A quarter of the events is independent: twice as wide.
    wide = interval(52, 52_000, 0.25)
    assert wide[1] - wide[0] == pytest.approx(2 * (high - low), rel=0.02)


def test_the_share_of_independent_events_is_between_the_known_ones():
    known = {"1e-2": 260.0, "1e-3": 52.0, "1e-4": 7.0}
    share = {fpr: independent_share(fpr, 52_000, known) for fpr in (1e-1, 1e-2, 1e-3, 1e-4, 0)}
    assert share == pytest.approx({1e-1: 0.5, 1e-2: 0.5, 1e-3: 1, 1e-4: 1, 0: 1})
    assert 0.5 < independent_share(3e-3, 52_000, known) < 1
    assert independent_share(1e-3, 52_000, {}) == 1


POOLS, EVENTS, TRUE = 100, 20_000, 2e-3


def _pool(random, repeated):
    """Scores of a pool whose true share at or above `-log(share)` is known, and its collisions."""
    if not repeated:
        return random.exponential(size=EVENTS), np.arange(EVENTS)
    uses = random.integers(1, 9, EVENTS)  # events in which a collision is the leading one
    names = np.repeat(np.arange(EVENTS), uses)[:EVENTS]
    return random.exponential(size=EVENTS)[names], names


def holds(seed, repeated, chosen):
    """If a pool's interval holds the true rate; if one that takes no notice of repeats does."""
    scores, names = _pool(np.random.default_rng(seed), repeated)
    level = threshold(scores, TRUE) if chosen else -np.log(TRUE)
    truth = np.exp(-level)
    passed = int(np.sum(scores >= level))
    distinct = {
        str(rate): effective_number(names[accepted(scores, rate)]) for rate in (1e-2, 1e-3, 1e-4)
    }
    share = independent_share(passed / EVENTS, EVENTS, distinct)
    both = interval(passed, EVENTS, share), interval(passed, EVENTS)
    return tuple(low <= truth <= high for low, high in both)


@pytest.mark.parametrize("chosen", [False, True], ids=["fixed", "chosen"])
@pytest.mark.parametrize("repeated", [False, True], ids=["once", "repeated"])
def test_intervals_hold_in_68_of_100_pools(repeated, chosen):
    found = [holds([seed, 2], repeated, chosen) for seed in range(POOLS)]
    held, naive = (sum(each) for each in zip(*found, strict=True))
    assert 60 <= held <= 76
    assert not repeated or naive < 50
