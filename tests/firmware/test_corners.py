"""Corner inputs: on the port, without repetitions, seeded; and hard on what is behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.firmware.corners import corners
from l1kd.firmware.network import Probe
from l1kd.fixedpoint import FixedPoint
from tests.firmware.networks import COUNTS, conv_counts

ports = st.builds(
    FixedPoint, word=st.integers(1, 16), integer=st.integers(-4, 16), signed=st.booleans()
)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@dataclass
class Linear:
    """One matrix in front of one quantizer."""

    matrix: np.ndarray
    types: dict[str, FixedPoint] = field(
        default_factory=lambda: {"relu": FixedPoint(8, 4, signed=False)}
    )

    def values(self, events: np.ndarray) -> dict[str, np.ndarray]:
        return {"relu": events.reshape(len(events), -1) @ self.matrix}

    def gradient(self, events: np.ndarray, layer: str, units: np.ndarray) -> np.ndarray:
        return self.matrix.T[units].reshape(events.shape)


@given(ports, shapes, st.integers(0, 5), st.integers(20, 300))
@settings(deadline=None, max_examples=60)
def test_every_value_is_one_of_the_port_s(
    port: FixedPoint, shape: tuple[int, ...], seed: int, limit: int
) -> None:
    events, report = corners(port, shape, seed=seed, limit=limit)
    assert port.holds(events).all()
    assert events.shape == (report.events, *shape) and 0 < report.events <= limit
    assert len(np.unique(events.reshape(len(events), -1), axis=0)) == len(events)
    again, _ = corners(port, shape, seed=seed, limit=limit)
    assert (again == events).all()


def test_the_plain_corners_are_there() -> None:
    port = FixedPoint(6, 6)
    events, _ = corners(port, (4, 3), limit=400)
    rows = {tuple(event.ravel()) for event in events}
    for level in (0.0, port.high, port.low, 1.0, -1.0):
        assert (level,) * 12 in rows
    for place in range(12):
        for level in (port.high, port.low, 1.0, -1.0):
            assert tuple(level * (np.arange(12) == place)) in rows
    board = np.indices((4, 3)).sum(0).ravel() % 2
    assert tuple(np.where(board, port.high, port.low)) in rows


def test_large_events_have_a_seeded_share_of_single_inputs() -> None:
    port = FixedPoint(9, 1)
    one, _ = corners(port, (28, 28, 1), seed=1)
    two, _ = corners(port, (28, 28, 1), seed=2)
    single = [
        (np.count_nonzero(events.reshape(len(events), -1), axis=1) == 1) for events in (one, two)
    ]
    assert min(each.sum() for each in single) > 500
    assert (one.shape != two.shape) or (one != two).any()


def test_ties_and_both_ends_are_reached() -> None:
    random = np.random.default_rng(3)
    # Steps of 1/4096 in front of steps of 1/16: a tie is one value in 256.
    network = Linear(np.rint(random.normal(0, 0.05, (24, 3)) * 2**12) / 2**12)
    events, report = corners(FixedPoint(8, 8), (24,), network, limit=600)
    assert FixedPoint(8, 8).holds(events).all() and len(events) <= 600
    reached = report.layers["relu"]
    assert reached.ties >= 5 and reached.above >= 20 and reached.below >= 20
    assert reached.values == 3 * len(events)
    values = network.values(events)["relu"]
    assert (reached.lowest, reached.highest) == (values.min(), values.max())
    # The highest value of all is among them: every input at the end its weight's sign says.
    best = np.maximum(network.matrix * 127, network.matrix * -128).sum(0)
    assert reached.highest == pytest.approx(best.max())
    assert "1 of 1 tie, 1 of 1 saturate, 1 of 1 underflow" in report.summary


@pytest.mark.filterwarnings("ignore")
def test_a_network_s_inner_quantizers_are_reached() -> None:
    probe = Probe.of(conv_counts(score="quantized_relu(12,4)"))
    assert list(probe.types) == ["conv1_relu", "dense3_relu", "score"]
    events, report = corners(COUNTS, (18, 14, 1), probe)
    assert 500 < len(events) <= 2048
    for name, reached in report.layers.items():
        assert reached.ties and reached.above and reached.below, name
