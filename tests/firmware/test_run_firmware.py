"""The firmware of a run's students: the port that the source of the events states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.run_firmware import stated_port

OWN = FixedPoint(11, 11)  # of the network's first quantizer
UNSIGNED = FixedPoint(10, 10, signed=False)


@pytest.mark.parametrize(
    ("port", "grid", "stated"),
    [
        (UNSIGNED, OWN, UNSIGNED),  # the source's own port, whatever the source is called
        (None, OWN, None),  # the grid says no more than the network
        (None, FixedPoint(6, 6), FixedPoint(6, 6)),
        (None, FixedPoint(12, 12), None),  # does not fit into the network's port
    ],
)
def test_the_source_states_the_port(
    port: FixedPoint | None, grid: FixedPoint, stated: FixedPoint | None
) -> None:
    context: Any = SimpleNamespace(dataset=SimpleNamespace(port=port, grid=grid))
    network: Any = SimpleNamespace(port=OWN)
    assert stated_port(context, network) == stated
