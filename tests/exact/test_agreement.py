"""Agreement: nothing but equality will do."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from l1kd.exact.agreement import KEPT, Agreement, compare

arrays = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 12), st.integers(1, 3)),
    elements=st.integers(-40, 40).map(lambda n: n / 4),
)


@given(arrays)
def test_a_thing_agrees_with_itself(values: np.ndarray) -> None:
    assert compare(values, values.copy(), 0.25) == Agreement(len(values), 0, 0)


@given(arrays, st.data())
def test_every_difference_is_counted(values: np.ndarray, data: st.DataObject) -> None:
    steps = data.draw(hnp.arrays(np.int64, values.shape, elements=st.integers(-3, 3)))
    found = compare(values, values + steps * 0.25, 0.25)
    assert found.mismatches == int((steps != 0).any(1).sum())
    assert found.max_lsb == int(np.abs(steps).max(initial=0))
    assert len(found.first) == min(KEPT, int((steps != 0).sum()))
    for offender in found.first:
        assert offender.reference == values[offender.event, offender.output]
        assert offender.candidate != offender.reference


@given(arrays, st.integers(1, 5))
def test_chunks_add_up(values: np.ndarray, size: int) -> None:
    other = values.copy()
    other[::3] += 0.5
    parts = [
        compare(values[start : start + size], other[start : start + size], 0.25)
        for start in range(0, len(values), size)
    ]
    assert reduce(Agreement.then, parts, Agreement(0, 0, 0)) == compare(values, other, 0.25)


def test_nan_and_infinity_are_mismatches() -> None:
    found = compare([[np.nan], [np.inf], [1.0]], [[np.nan], [1.0], [1.0]], 1.0)
    assert (found.mismatches, found.max_lsb) == (2, 2**63 - 1)


def test_less_than_a_step_is_a_difference_too() -> None:
    assert compare([1.0], [1.01], 0.25).max_lsb == 1


def test_an_event_counts_once() -> None:
    assert compare(np.zeros((2, 5)), np.ones((2, 5)), 1.0).mismatches == 2


@pytest.mark.parametrize(
    ("a", "b", "lsb"),
    [([1.0], [[1.0]], 1.0), ([1.0], [1.0, 2.0], 1.0), (1.0, 1.0, 1.0), ([1.0], [1.0], 0.0)],
)
def test_what_cannot_be_compared(a: object, b: object, lsb: float) -> None:
    with pytest.raises(ValueError, match=r"shape|step"):
        compare(a, b, lsb)  # type: ignore[arg-type]
