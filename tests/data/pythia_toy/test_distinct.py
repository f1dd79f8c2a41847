from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from l1kd.data.pythia_toy.generate import (
    RATES,
    SCORES,
    accepted,
    effective_number,
    effective_numbers,
)


def test_the_effective_number_of_one_of_none_and_of_all_different():
    assert effective_number(np.full(50, 7)) == 1
    assert effective_number(np.arange(50)) == 50
    assert effective_number(np.empty(0, np.int64)) == 0
    assert effective_number(np.array([1, 1, 2])) == pytest.approx(9 / 5)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1))
def test_the_effective_number_lies_between_one_and_the_number_of_names(names):
    number = effective_number(np.array(names))
    assert 1 <= number <= len(set(names)) + 1e-9


@settings(deadline=None)
@given(
    hnp.arrays(np.int64, st.integers(1, 300), elements=st.integers(0, 50)),
    st.sampled_from((*RATES, 0.1, 1.0)),
)
def test_at_most_the_wanted_share_is_accepted_and_no_tie_is_split(scores, rate):
    chosen = accepted(scores, rate)
    assert chosen.sum() <= rate * len(scores) + 1e-9
    rest = scores[~chosen]
    if chosen.any() and len(rest):
        assert scores[chosen].min() > rest.max()
    if len(rest):
        # One step lower would be too many.
        assert (scores >= rest.max()).sum() > rate * len(scores) - 1e-9


@pytest.mark.parametrize("rate", RATES)
def test_the_share_is_met_exactly_without_ties(rate):
    assert accepted(np.random.default_rng(1).permutation(52_000), rate).sum() == round(
        52_000 * rate
    )


def test_reference_scores():
    event = np.zeros((1, 18, 14), np.int16)
    event[0, 0, :5] = [1023, 3, 1000, 2, 900]
    assert {name: int(score(event)[0]) for name, score in SCORES.items()} == {
        "sum": 2928,
        "max": 1023,
        "top4": 2926,
        "mean_square": 1023**2 + 9 + 1000**2 + 4 + 900**2,
    }
    assert SCORES["mean_square"](np.full((1, 18, 14), 1023, np.int16))[0] == 252 * 1023**2


def test_a_false_tail_is_found_out():
    random = np.random.default_rng(0)
    events = random.poisson(5, (4000, 18, 14)).astype(np.int16)
    names = np.arange(4000)
    honest = effective_numbers(events, names)
    assert honest["sum"][0] > 30
    # One and the same hot collision in a per cent of the events.
    events[:40, 3, 3] = 900
    names[:40] = -1
    false = effective_numbers(events, names)
    assert [false[name][0] for name in SCORES] == [1, 1, 1, 1]
