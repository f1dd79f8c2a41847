"""Networks as adder-only logic: quantizers exhaustively, networks against the exact one."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding
from l1kd.exact.layers import Dense, Input, Node, Quantize
from l1kd.exact.network import Network
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.trace_layers import UnfitError, draw, expected_lut, plus, quantized
from l1kd.networks.to_exact import read
from tests.firmware.networks import conv_counts, little, network
from tests.firmware.random_networks import draw as drawn
from tests.firmware.random_networks import events_for

SOURCES = [
    FixedPoint(5, 3),
    FixedPoint(5, 3, False),
    FixedPoint(4, 1),
    FixedPoint(6, 0, False),
    FixedPoint(3, 5),
]
TYPES = [
    FixedPoint(word, integer, signed, rounding, overflow)
    for word, integer, signed, rounding, overflow in itertools.product(
        (1, 2, 3, 5), (-1, 0, 1, 2, 4, 7), (True, False), get_args(Rounding), get_args(Overflow)
    )
]


def predicted(inputs: Any, outputs: Any, events: np.ndarray) -> np.ndarray:
    from alkaid.trace import trace

    return np.asarray(trace(inputs, outputs, optimize=False).predict(events))


@pytest.mark.parametrize(
    ("source", "bias"),
    [
        (SOURCES[0], 0.0),
        *((source, 1.484375) for source in SOURCES),
        *(pytest.param(source, 0.0, marks=pytest.mark.full) for source in SOURCES[1:]),
    ],
    ids=lambda value: value.text if isinstance(value, FixedPoint) else str(value),
)
def test_every_type_quantizes_every_value_as_it_says(source: FixedPoint, bias: float) -> None:
    from alkaid.trace import FVArrayInput

    low, high = source.bounds
    values = np.arange(low, high + 1) * source.lsb
    sign = int(source.signed)
    inputs = np.asarray(FVArrayInput((1,)).quantize(sign, source.integer - sign, source.fraction))
    variable = plus(inputs[0], bias)
    outputs = [quantized(variable, kind) for kind in TYPES]
    found = predicted(inputs, outputs, values.reshape(-1, 1))
    for column, kind in enumerate(TYPES):
        wanted = kind.quantize(values + bias)
        assert np.array_equal(found[:, column], wanted), kind.text


# 63 and 121 convolve, pool and merge. The clamps of 112, 121 and 137 are those that alkaid's own
# choice of optimisations gets wrong.
SEEDS = [5, 63, 112, 121, 137]
MORE = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 21, 33, 45, 77]


@pytest.mark.parametrize(
    "seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.full) for seed in MORE)]
)
def test_random_networks_are_the_exact_ones(seed: int, tmp_path: Any) -> None:
    specimen = drawn(seed)
    network = read(specimen.model)
    logic = alkaid_convert.to_verilog(network, tmp_path / "rtl")
    events = events_for(network.port, network.shape, 400, seed=seed)
    assert np.array_equal(logic.predict(events), network.predict(events))


def small_conv() -> Any:
    return network((6, 4, 1), [("conv", 2, 2, 2), ("flatten",), ("dense", 4)], name="small")


@pytest.mark.parametrize("model", [small_conv, pytest.param(conv_counts, marks=pytest.mark.full)])
def test_the_size_is_known_before_anything_is_drawn_and_layers_share_it(model: Any) -> None:
    network = read(model())
    found = alkaid_convert.estimate(network)
    assert 0.5 * found.lut < expected_lut(network) < 2 * found.lut
    assert sum(layer.lut or 0 for layer in found.layers) == pytest.approx(found.lut, rel=1e-3)
    assert [layer.name for layer in found.layers][:2] == ["conv1", "conv1_relu"]


def test_a_shorter_clock_period_takes_more_stages() -> None:
    network = read(little())
    cycles = [
        alkaid_convert.estimate(network, clock_ns=clock).latency_cycles
        for clock in (1.0, 5.0, 50.0)
    ]
    assert cycles[0] > cycles[1] > cycles[2] == 1


def wide(bits: int, bias: int = 0, *, port: int = 0) -> Network:
    """One weight of so many bits on an input of as many, or of others."""
    kernel = np.array([[2 ** (bits - 2) + 1]], np.int64)
    nodes: tuple[Node, ...] = (
        Input(name="in", sources=(), shape=(1,), type=FixedPoint(port or bits, port or bits)),
        Dense(
            name="sum",
            sources=("in",),
            shape=(1,),
            kernel=kernel,
            kernel_fraction=0,
            bias=np.array([bias], np.int64),
            bias_fraction=0,
        ),
    )
    return Network("wide", nodes, ("sum",))


def clamped(port: int, kind: FixedPoint) -> Network:
    """A quantizer of the port's values."""
    given = Input(name="in", sources=(), shape=(1,), type=FixedPoint(port, port))
    behind = Quantize(name="clamp", sources=("in",), shape=(1,), type=kind)
    return Network("clamped", (given, behind), ("clamp",))


def test_what_alkaid_cannot_hold_is_refused() -> None:
    with pytest.raises(UnfitError, match="layer 'sum' has sums of 54 bits"):
        draw(wide(28))
    # alkaid looks for the last bit of a number in float32.
    with pytest.raises(UnfitError, match="layer 'sum' needs a constant, 16777217, of more than 24"):
        draw(wide(24, 2**24 + 1))
    with pytest.raises(UnfitError, match="layer 'sum' has weights of more than 24 bits"):
        draw(wide(28, port=10))
    with pytest.raises(UnfitError, match="layer 'clamp' needs a constant, 33554431, of more"):
        draw(clamped(30, FixedPoint(26, 26, True, "RND_CONV", "SAT")))


@pytest.mark.parametrize(
    "network",
    [
        wide(24, 2**24 - 1),
        wide(25, -(2**23) - 1, port=12),
        clamped(30, FixedPoint(25, 25, True, "RND_CONV", "SAT")),
        clamped(40, FixedPoint(30, 30, False, "RND_CONV", "SAT")),
        clamped(40, FixedPoint(30, 30, True, "RND_CONV", "WRAP")),
    ],
    ids=lambda network: f"{network.name}-{network.port.text}",
)
def test_the_widest_that_it_holds_are_exact(network: Network, tmp_path: Any) -> None:
    logic = alkaid_convert.to_verilog(network, tmp_path / "rtl")
    low, high = network.port.bounds
    random = np.random.default_rng(0)
    ends = random.choice([low, low + 1, -1, 0, 1, high - 1, high], (50, 1))
    events = np.concatenate([ends, random.integers(low, high + 1, (250, 1))]).astype(float)
    assert np.array_equal(logic.predict(events), network.predict(events))
