"""The extremes that a search finds, against those that trying everything finds."""

from __future__ import annotations

import itertools

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Quantize, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.stimuli.corner_inputs import Search, extremes, mixed
from tests.firmware.stimuli.test_corner_inputs import dense, layered, quantize

PORT = FixedPoint(3, 3)


def windowed(seed: int) -> Network:
    """Filters on windows that do not overlap, then sums of what they find."""
    random = np.random.default_rng(seed)
    conv = Conv(
        name="conv",
        sources=("in",),
        shape=(3, 3, 3),
        kernel=random.integers(-15, 16, (2, 2, 1, 3)),
        kernel_fraction=3,
        bias=random.integers(-15, 16, 3),
        bias_fraction=3,
        strides=(2, 2),
    )
    return layered(
        PORT,
        (6, 6, 1),
        conv,
        quantize("r1", "conv", (3, 3, 3), FixedPoint(5, 3, False)),
        Reshape(name="flat", sources=("r1",), shape=(27,)),
        dense("d", "flat", random.integers(-15, 16, (27, 4)), 3),
        quantize("score", "d", (4,), FixedPoint(10, 7, False)),
    )


def best_of_all(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest sums of any event: every window by itself, all of its values."""
    every = np.array(list(itertools.product(range(-4, 4), repeat=4)), np.float64)
    events = np.tile(every.reshape(-1, 2, 2, 1), (1, 3, 3, 1))
    windows = network.values(events, ("r1",))["r1"].reshape(len(events), 9, 3)
    node = network["d"]
    kernel = node.kernel.reshape(9, 3, 4) * 2.0**-3  # type: ignore[attr-defined]
    sums = np.einsum("nwf,wfu->nwu", windows, kernel)
    bias = node.bias * 2.0**-3  # type: ignore[attr-defined]
    return sums.min(axis=0).sum(axis=0) + bias, sums.max(axis=0).sum(axis=0) + bias


def test_the_best_of_each_part_is_put_together() -> None:
    for seed in range(3):
        network = windowed(seed)
        search = Search(network, np.random.default_rng(1))
        pool = mixed(PORT, (6, 6, 1), np.random.default_rng(2), 300)
        reached = search.values(pool, ["d"])["d"]
        node = network["score"]
        assert isinstance(node, Quantize)
        found = extremes(search, node, pool, reached, 40_000)
        values = network.values(found * PORT.lsb, ("d",))["d"]
        low, high = best_of_all(network)
        assert (values.max(axis=0) >= low + 0.97 * (high - low)).all()
        assert (values.min(axis=0) <= high - 0.97 * (high - low)).all()
        assert (values.max(axis=0) <= high).all() and (values.min(axis=0) >= low).all()
        # Random events, as many as the search may try, are far from it.
        random = search.values(mixed(PORT, (6, 6, 1), np.random.default_rng(3), 40_000), ["d"])
        span = np.ptp(random["d"].astype(np.float64), axis=0) * 2.0 ** -network.bounds["d"].fraction
        assert (span < 0.97 * (high - low)).all()
