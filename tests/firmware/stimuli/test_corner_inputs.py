"""Corner inputs: on the port, without repetitions, seeded; and hard on what is behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Dense, Input, Node, Pool, Quantize, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.stimuli.corner_inputs import corners

ports = st.builds(
    FixedPoint, word=st.integers(1, 16), integer=st.integers(-4, 16), signed=st.booleans()
)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


RELU = FixedPoint(8, 4, signed=False)


def layered(port: FixedPoint, shape: tuple[int, ...], *layers: Node) -> Network:
    """A network of layers, each behind the one before it; the last is a quantizer."""
    return Network("n", (Input(name="in", sources=(), shape=shape, type=port), *layers), ("score",))


def dense(name: str, source: str, kernel: np.ndarray, fraction: int) -> Dense:
    outputs = kernel.shape[-1]
    bias = np.arange(outputs) - 1
    return Dense(
        name=name,
        sources=(source,),
        shape=(outputs,),
        kernel=kernel.astype(np.int64),
        kernel_fraction=fraction,
        bias=bias,
        bias_fraction=fraction,
    )


def quantize(name: str, source: str, shape: tuple[int, ...], kind: FixedPoint) -> Quantize:
    return Quantize(name=name, sources=(source,), shape=shape, type=kind)


def linear(port: FixedPoint, seed: int = 3, outputs: int = 3) -> Network:
    """One matrix in front of one quantizer: steps of 1/4096 before steps of 1/16."""
    kernel = np.rint(np.random.default_rng(seed).normal(0, 200, (24, outputs)))
    return layered(
        port,
        (24,),
        dense("d", "in", kernel, 12),
        quantize("score", "d", (outputs,), RELU),
    )


def image(port: FixedPoint, *, filters: int = 2, seed: int = 1) -> Network:
    """A convolution, a pooling and two dense layers."""
    random = np.random.default_rng(seed)
    conv = Conv(
        name="conv",
        sources=("in",),
        shape=(5, 5, filters),
        kernel=random.integers(-60, 61, (2, 2, 1, filters)),
        kernel_fraction=6,
        bias=random.integers(-60, 61, filters),
        bias_fraction=6,
        strides=(1, 1),
    )
    pool = Pool(
        name="pool",
        sources=("r1",),
        shape=(2, 2, filters),
        operation="average",
        window=(2, 2),
        strides=(2, 2),
    )
    kind, flat = FixedPoint(8, 6, False), 4 * filters
    return layered(
        port,
        (6, 6, 1),
        conv,
        quantize("r1", "conv", (5, 5, filters), kind),
        pool,
        quantize("r2", "pool", (2, 2, filters), FixedPoint(6, 6, False)),
        Reshape(name="flat", sources=("r2",), shape=(flat,)),
        dense("d1", "flat", random.integers(-40, 41, (flat, 4)), 6),
        quantize("r3", "d1", (4,), kind),
        dense("d2", "r3", random.integers(-40, 41, (4, 1)), 6),
        quantize("score", "d2", (1,), FixedPoint(12, 8, False)),
    )


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


def entering(network: Network, events: np.ndarray, name: str) -> np.ndarray:
    """What enters a quantizer, (N, size)."""
    (source,) = network[name].sources
    return network.values(events, (source,))[source].reshape(len(events), -1)


@given(st.integers(0, 1000), st.sampled_from([FixedPoint(6, 6), FixedPoint(9, 3, False)]))
@settings(deadline=None, max_examples=15)
def test_in_the_first_layer_every_bound_is_reached(seed: int, port: FixedPoint) -> None:
    network = linear(port, seed)
    events, report = corners(port, (24,), network, limit=500, seed=seed)
    values, bound = entering(network, events, "score"), network.bounds["d"]
    assert (values.max(axis=0) == bound.high.astype(float) * 2.0**-bound.fraction).all()
    assert (values.min(axis=0) == bound.low.astype(float) * 2.0**-bound.fraction).all()
    assert report.layers["score"].fraction == report.fraction == 1


def test_the_extremes_are_those_of_all_events() -> None:
    # 4^5 events of a small network with two layers of sums: all of them are tried.
    port = FixedPoint(2, 2)
    random = np.random.default_rng(8)
    network = layered(
        port,
        (5,),
        dense("d1", "in", random.integers(-7, 8, (5, 3)), 2),
        quantize("r1", "d1", (3,), FixedPoint(6, 3, False)),
        dense("d2", "r1", random.integers(-7, 8, (3, 2)), 2),
        quantize("score", "d2", (2,), FixedPoint(6, 3, False)),
    )
    every = np.stack(np.meshgrid(*[np.arange(-2, 2)] * 5), axis=-1).reshape(-1, 5)
    events, report = corners(port, (5,), network, limit=400)
    for name in ("r1", "score"):
        all_values, values = entering(network, every, name), entering(network, events, name)
        assert (values.max(axis=0) == all_values.max(axis=0)).all()
        assert (values.min(axis=0) == all_values.min(axis=0)).all()
        reached = report.layers[name]
        assert (reached.lowest, reached.highest) == (values.min(), values.max())
        span = reached.bound[1] - reached.bound[0]
        assert reached.fraction == (values.max() - values.min()) / span <= 1


def test_ties_both_ends_and_what_is_beside_them_are_met() -> None:
    port = FixedPoint(8, 8)
    network = linear(port)
    events, report = corners(port, (24,), network, limit=1000)
    assert port.holds(events).all() and len(events) <= 1000
    reached = report.layers["score"]
    assert reached.above >= 20 and reached.below >= 20
    assert reached.values == 3 * len(events)
    values = entering(network, events, "score")
    ties = values / RELU.lsb % 1 == 0.5
    assert reached.ties == int((ties & (values > 0) & (values < RELU.high)).sum())
    counts = np.rint(values * 2**12).astype(int)
    step, high = 2**8, round(RELU.high * 2**12)
    inside = (counts > 0) & (counts < high)
    for unit in range(3):
        mine = counts[:, unit]
        # Half to even goes down from the first tie and up from the second; and what is beside them.
        for rest in (step // 2, step + step // 2, step // 2 + 1, step + step // 2 - 1):
            assert (mine[inside[:, unit]] % (2 * step) == rest).any(), (unit, rest)
        for target in (-1, 0, 1, high - 1, high, high + 1, high + step // 2 - 1, high + step // 2):
            assert (mine == target).any(), (unit, target)
    assert "1 of 1 tie, 1 of 1 saturate, 1 of 1 underflow" in report.summary
    assert report.summary.endswith("bounds reached: score 100%")


def test_every_layer_of_a_network_is_reached() -> None:
    network = image(FixedPoint(6, 6), seed=2)
    events, report = corners(network.port, network.shape, network)
    assert 500 < len(events) <= 2048
    assert list(report.layers) == ["r1", "r2", "r3", "score"]
    for name, reached in report.layers.items():
        assert reached.ties, name
        assert reached.lowest == entering(network, events, name).min()
        assert reached.fraction > 0.35, (name, reached)
    assert report.layers["r1"].fraction == 1
    again, _ = corners(network.port, network.shape, network)
    assert (again == events).all()
    other, _ = corners(network.port, network.shape, network, seed=1)
    assert other.shape != events.shape or (other != events).any()


def test_a_narrower_port_has_bounds_of_its_own() -> None:
    network, port = linear(FixedPoint(12, 12)), FixedPoint(7, 7, False)
    events, report = corners(port, (24,), network, limit=300)
    assert port.holds(events).all()
    assert report.fraction == 1
    assert (
        report.layers["score"].bound[1]
        < corners(network.port, (24,), network, limit=300)[1].layers["score"].bound[1]
    )


@pytest.mark.parametrize(
    "broken",
    [
        {"rounding": "RND"},
        {"rounding": "RND_ZERO"},
        {"rounding": "TRN"},
        {"rounding": "RND_MIN_INF"},
        {"overflow": "WRAP"},
        {"overflow": "SAT_ZERO"},
    ],
)
def test_a_quantizer_of_another_mode_is_noticed(broken: dict[str, Any]) -> None:
    network = linear(FixedPoint(8, 8))
    events, _ = corners(network.port, (24,), network, limit=400)
    kind = FixedPoint(RELU.word, RELU.integer, False, **broken)
    other = Network("n", (*network.nodes[:-1], quantize("score", "d", (3,), kind)), network.outputs)
    assert (other.predict(events) != network.predict(events)).any(axis=0).all()


def test_a_sum_one_bit_short_is_noticed() -> None:
    network = linear(FixedPoint(8, 8))
    events, _ = corners(network.port, (24,), network, limit=400)
    full = network.bounds["d"].type
    short = FixedPoint(full.word - 1, full.integer - 1, True, overflow="WRAP")
    sums = quantize("sums", "d", (3,), short)
    cut = layered(
        network.port, (24,), network.nodes[1], sums, quantize("score", "sums", (3,), RELU)
    )
    assert (cut.predict(events) != network.predict(events)).any()


def test_a_network_of_one_channel_per_window_keeps_its_share_of_every_channel() -> None:
    network = image(FixedPoint(6, 6), filters=5)
    events, report = corners(network.port, network.shape, network, limit=1500)
    values = network.values(events, ("conv",))["conv"].reshape(-1, 5)
    bound = network.bounds["conv"]
    assert (values.max(axis=0) == bound.high.max(axis=(0, 1)).astype(float) / 64).all()
    assert (values.min(axis=0) == bound.low.min(axis=(0, 1)).astype(float) / 64).all()
    assert report.layers["r1"].fraction == 1
