"""A dozen of the random networks; `tests/benchmarks/bench_random_networks.py` takes hundreds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from tests.firmware.random_networks import BACKENDS, IO_TYPES, STRATEGIES, draw, events_for, measure

# Chosen so that together they are of every kind; `test_the_dozen_is_of_every_kind` says of which.
DOZEN = (12, 63, 67, 77, 112, 130, 176, 179, 190, 191, 203, 284)
FEW = (67,)  # `make test` has networks in every kind of project elsewhere


@pytest.mark.csim
@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed in FEW else pytest.mark.full) for seed in DOZEN],
)
def test_firmware_equals_the_exact_network(seed: int, tmp_path: Path) -> None:
    record = measure(draw(seed), tmp_path / "project", 300)
    assert record["mismatches"] == 0, record
    assert record["changing"]
    assert record["qkeras_mismatches"] == 0 or record["qkeras_doubted"], record


@pytest.mark.full
def test_the_dozen_is_of_every_kind() -> None:
    specimens = [draw(seed) for seed in DOZEN]
    for option, values in (("backend", BACKENDS), ("io_type", IO_TYPES), ("strategy", STRATEGIES)):
        assert {specimen.options[option] for specimen in specimens} == set(values)
    said = " ".join(text for specimen in specimens for text in specimen.layers)
    for word in (
        *("conv", "dense", "depthwise", "pool", "Max", "Average", "merge", "same", "valid"),
        *("tanh", "sigmoid", "relu", "activation", "saturated", "empty filters", "lowest"),
    ):
        assert word in said, word


def test_a_seed_is_a_network() -> None:
    one, other = draw(3), draw(3)
    assert one.layers == other.layers and one.options == other.options
    weights = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    assert all((a == b).all() for a, b in weights)


def test_events_are_on_the_grid_and_reach_its_ends() -> None:
    for port in (FixedPoint(2, 1), FixedPoint(12, 14)):
        events = events_for(port, (3, 2), 200, seed=1)
        assert port.holds(events).all()
        assert {port.low, port.high, 0} <= set(np.unique(events))
