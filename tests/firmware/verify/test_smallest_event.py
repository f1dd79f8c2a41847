"""The smallest event: it still differs, and nothing of it is needless."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l1kd.firmware.verify.comparison import shrink


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.data())
def test_it_differs_and_every_input_is_needed(values: list[int], data: st.DataObject) -> None:
    event = np.array(values, np.int64)
    place = data.draw(st.integers(0, len(values) - 1))
    least = data.draw(st.integers(-50, 50))

    def differs(events: np.ndarray) -> np.ndarray:
        return events[:, place] >= least

    event[place] = max(event[place], least)
    small = shrink(event, differs)
    assert differs(small[None])[0]
    others = np.delete(small, place)
    assert not others.any()
    assert small[place] == max(least, 0)


def test_inputs_that_are_needed_together_stay() -> None:
    event = np.arange(1, 101)

    def differs(events: np.ndarray) -> np.ndarray:
        return (events[:, 3] > 0) & (events[:, 70] + events[:, 98] > 100)

    small = shrink(event, differs)
    assert differs(small[None])[0]
    assert set(np.flatnonzero(small)) <= {3, 70, 98} and small[3] == 1
    assert small[70] + small[98] == 101


def test_an_event_that_cannot_shrink_stays() -> None:
    event = np.array([5, -3])
    assert shrink(event, lambda events: (events == [5, -3]).all(1)).tolist() == [5, -3]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_nothing_is_asked_twice_over(size: int) -> None:
    asked = []

    def differs(events: np.ndarray) -> np.ndarray:
        asked.append(len(events))
        return np.ones(len(events), bool)

    assert not shrink(np.full(size, 9), differs).any()
    assert len(asked) <= 4
