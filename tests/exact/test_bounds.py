"""Interval arithmetic: nothing leaves a bound, and what has one layer reaches it."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import beyond_float32
from tests.exact.networks import chain, events_of, everything


@pytest.mark.parametrize("seed", range(5))
def test_nothing_leaves_its_bound(seed: int) -> None:
    network = everything(seed)
    names = tuple(node.name for node in network.nodes)
    for name, values in network.values(events_of(network, 400, seed), names).items():
        bound = network.bounds[name]
        counts = values * 2.0**bound.fraction
        assert (counts == np.rint(counts)).all(), name
        assert (counts >= bound.low.astype(float)).all(), name
        assert (counts <= bound.high.astype(float)).all(), name
        assert bound.type.holds(values).all(), name
        assert max(abs(int(bound.low.min())), abs(int(bound.high.max()))) <= bound.magnitude


def test_the_bound_of_one_matrix_is_reached() -> None:
    kernel = np.array([[3, -2], [-1, 0], [2, 5]])
    network = chain(kernel, FixedPoint(4, 4), FixedPoint(9, 9), bias=[4, -1])
    bound = network.bounds["d"]
    low, high = network.port.bounds
    up = np.where(kernel > 0, high, low)
    ends = np.array([*up.T, *np.where(kernel > 0, low, high).T], float)
    reached = network.values(ends, ("d",))["d"]
    assert (np.diag(reached[:2]) == bound.high).all()
    assert (np.diag(reached[2:]) == bound.low).all()
    # In whatever order: 3*8 + 1*8 + 2*8 and the bias.
    assert bound.magnitude == max(6 * 8 + 4, 7 * 8 + 1)


def test_a_quantizer_that_wraps_can_give_anything() -> None:
    wraps = FixedPoint(3, 3, True, "TRN", "WRAP")
    bound = chain([[1]], FixedPoint(5, 5), wraps).bounds["out"]
    assert (bound.low.tolist(), bound.high.tolist()) == ([-4], [3])
    small = chain([[1]], FixedPoint(2, 2), wraps).bounds["out"]
    assert (small.low.tolist(), small.high.tolist()) == ([-2], [1])


def test_a_stated_port_makes_bounds_smaller() -> None:
    network = everything()
    narrow = network.at_port(FixedPoint(3, 2, False))
    assert narrow.bounds["a"].magnitude < network.bounds["a"].magnitude
    events = events_of(narrow, 50)
    assert (narrow.predict(events) == network.predict(events)).all()


def test_what_float32_cannot_hold_is_named() -> None:
    wide = chain(np.full((64, 1), 2**15 - 1), FixedPoint(16, 16), FixedPoint(16, 16))
    assert list(beyond_float32(wide)) == ["d", "out"]
    assert "36 bits" in beyond_float32(wide)["d"]
    assert beyond_float32(everything()) == {}
    # 24 bits of sum, but a quantizer with a finer step than what it is given: x + (q - x).
    fine = chain([[1]], FixedPoint(20, 20), FixedPoint(12, 2))
    assert list(beyond_float32(fine)) == ["out"]
    assert beyond_float32(chain([[1]], FixedPoint(20, 20), FixedPoint(12, 2, False))) == {}
