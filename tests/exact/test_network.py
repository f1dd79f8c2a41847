"""The exact reference against arithmetic on fractions, one event and one value at a time."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import layers as graph
from l1kd.exact.arithmetic import carrier
from l1kd.exact.network import Network
from tests.core.test_fixed_point import exact as quantized
from tests.exact.networks import chain, events_of, everything

Values = dict[tuple[int, ...], Fraction]


def by_the_book(network: Network, event: Any) -> dict[str, Any]:
    """Every layer of one event, in fractions, by the definitions."""
    found: dict[str, Any] = {}
    for node in network.nodes:
        parts = [found[name] for name in node.sources]
        found[node.name] = (
            np.vectorize(Fraction, otypes=[object])(event)
            if isinstance(node, graph.Input)
            else layer(node, parts)
        )
    return found


def layer(node: graph.Node, parts: list[Any]) -> Any:
    x = parts[0]
    if isinstance(node, graph.Quantize):
        half = Fraction(1, 2)
        return np.vectorize(
            lambda v: quantized_fraction(node.type, v * half + half if node.halved else v),
            otypes=[object],
        )(x)
    if isinstance(node, graph.Dense):
        return (x.reshape(-1, x.shape[-1]) @ weights(node)[0] + weights(node)[1]).reshape(
            node.shape
        )
    if isinstance(node, graph.Conv):
        return convolved(node, x)
    if isinstance(node, graph.Pool):
        return pooled(node, x)
    if isinstance(node, graph.Pad):
        return np.pad(x, (*node.padding, (0, 0)), constant_values=Fraction(0))
    if isinstance(node, graph.Reshape):
        return x.reshape(node.shape)
    assert isinstance(node, graph.Merge)
    if node.operation == "concatenate":
        return np.concatenate(parts, axis=node.axis)
    function = {
        "add": np.add,
        "subtract": np.subtract,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }
    return function[node.operation](parts[0], parts[1])


def quantized_fraction(kind: FixedPoint, value: Fraction) -> Fraction:
    assert float(value) == value
    return quantized(kind, float(value))


def weights(node: graph.Affine) -> tuple[Any, Any]:
    scale = Fraction(2) ** -node.kernel_fraction
    kernel = np.vectorize(lambda n: int(n) * scale, otypes=[object])(node.kernel)
    step = Fraction(2) ** -node.bias_fraction
    return kernel, np.vectorize(lambda n: int(n) * step, otypes=[object])(node.bias)


def convolved(node: graph.Conv, x: Any) -> Any:
    kernel, bias = weights(node)
    x = np.pad(x, (*node.padding, (0, 0)), constant_values=Fraction(0))
    out = np.empty(node.shape, object)
    for row, column in np.ndindex(*node.shape[:2]):
        total = list(bias)
        for i, j, c in np.ndindex(*kernel.shape[:3]):
            y = row * node.strides[0] + i * node.dilation[0]
            z = column * node.strides[1] + j * node.dilation[1]
            total = [t + x[y, z, c] * k for t, k in zip(total, kernel[i, j, c], strict=True)]
        out[row, column] = total
    return out


def pooled(node: graph.Pool, x: Any) -> Any:
    out = np.empty(node.shape, object)
    for row, column, c in np.ndindex(*node.shape):
        top, left = row * node.strides[0], column * node.strides[1]
        cells = x[top : top + node.window[0], left : left + node.window[1], c].reshape(-1)
        out[row, column, c] = max(cells) if node.operation == "max" else sum(cells) / len(cells)
    return out


@pytest.mark.parametrize("weight_bits", [2, 5, 12, 24, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_layer_is_what_fractions_say(seed: int, weight_bits: int) -> None:
    """From 12-bit sums in float32 to sums of a hundred bits in Python's integers."""
    network = everything(seed, weight_bits)
    names = tuple(node.name for node in network.nodes)
    events = events_of(network, 3, seed)
    found = network.values(events, names)
    for number, event in enumerate(events):
        for name, wanted in by_the_book(network, event).items():
            given = found[name][number]
            assert given.shape == wanted.shape
            assert all(
                float(value) == other for value, other in zip(wanted.flat, given.flat, strict=True)
            ), name


def test_carriers_are_as_wide_as_they_have_to_be() -> None:
    assert [carrier(bits) for bits in (1, 24, 25, 53, 54, 62, 63)] == [
        np.float32,
        np.float32,
        np.float64,
        np.float64,
        np.int64,
        np.int64,
        object,
    ]
    widths = {
        node.name: everything(0, 40).bounds[node.name].bits for node in everything(0, 40).nodes
    }
    assert max(widths.values()) > 45 and min(widths.values()) <= 24


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_sums_are_exact_at_every_width(data_bits: int, weight_bits: int, seed: int) -> None:
    """Around 24, 53 and 62 bits too: where a carrier ends, the next one begins."""
    random = np.random.default_rng(seed)
    low, high = -(2**weight_bits), 2**weight_bits
    kernel = random.integers(low, high, (7, 2), endpoint=True)
    kernel[:, 0] = high  # as far as sums can go
    network = chain(kernel, FixedPoint(data_bits + 1, data_bits + 1), FixedPoint(12, 70))
    ends = network.port.bounds
    events = np.array([[ends[0]] * 7, [ends[1]] * 7, random.integers(*ends, 7)], np.float64)
    sums = [
        [sum(int(x) * int(k) for x, k in zip(e, c, strict=True)) for c in kernel.T] for e in events
    ]
    wanted = [[float(quantized(FixedPoint(12, 70), float(v))) for v in row] for row in sums]
    if max(abs(v) for row in sums for v in row) < 2**53:  # a float holds what `quantized` is given
        assert network.predict(events).tolist() == wanted
    shown = network.bounds["d"]
    assert all(
        low <= value <= high
        for row in sums
        for value, low, high in zip(row, shown.low, shown.high, strict=True)
    )


def test_events_off_the_port_are_refused() -> None:
    network = everything()
    good = np.zeros((2, 6, 5, 2))
    assert network.predict(good.reshape(2, -1)).shape == (2, 3)
    assert network.predict(good[:0]).shape == (0, 3)
    for value in (0.125, 4.0, -4.25, np.nan, np.inf):
        bad = good.copy()
        bad[1, 2, 3, 1] = value
        with pytest.raises(
            ValueError, match=r"event 1, input \(2, 3, 1\): .* no value of the port"
        ):
            network.predict(bad)
    for shape in ((2, 6, 5), (2, 59), ()):
        with pytest.raises(ValueError, match="reads events of the shape"):
            network.port_counts(np.zeros(shape))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)])
def test_convolutions_are_what_fractions_say(
    channels: int, strides: tuple[int, int], dilation: tuple[int, int]
) -> None:
    random = np.random.default_rng(channels)
    reach = (1 + dilation[0], 1 + 2 * dilation[1])
    sides = [
        (side - own) // step + 1 for side, own, step in zip((8, 8), reach, strides, strict=True)
    ]
    node = graph.Conv(
        name="a",
        sources=("in",),
        shape=(*sides, 3),
        kernel=random.integers(-9, 9, (2, 3, channels, 3)),
        kernel_fraction=2,
        bias=random.integers(-9, 9, 3),
        bias_fraction=1,
        strides=strides,
        padding=((1, 0), (0, 1)),
        dilation=dilation,
    )
    port = graph.Input(name="in", sources=(), shape=(7, 7, channels), type=FixedPoint(8, 8))
    network = Network("conv", (port, node), ("a",))
    events = events_of(network, 3)
    found = network.values(events, ("a",))["a"]
    for event, values in zip(events, found, strict=True):
        whole = np.vectorize(Fraction, otypes=[object])(event)
        assert (convolved(node, whole).astype(float) == values).all()


def port_counts_by_definition(port: FixedPoint, events: Any) -> Any:
    """In float64, event by event; None if a value is not on the port."""
    steps = np.asarray(events, np.float64) * 2.0**port.fraction
    low, high = port.bounds
    with np.errstate(invalid="ignore"):
        counts = steps.astype(np.int64)
    return counts if ((counts == steps) & (counts >= low) & (counts <= high)).all() else None


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["u1", "i1", "u2", ">i2", "i8", "u8", "f2", "f4", ">f4", "f8", "?"]),
    st.integers(1, 24),
    st.integers(-3, 24),
    st.booleans(),
    st.integers(-9, 9),
    st.integers(0, 2**32 - 1),
)
def test_counts_of_the_port_are_the_same_for_every_type_of_events(
    kind: str, word: int, integer: int, signed: bool, finer: int, seed: int
) -> None:
    port = FixedPoint(word, integer, signed)
    random = np.random.default_rng(seed)
    low, high = port.bounds
    steps = random.integers(low, high, (3, 5), endpoint=True) * 2.0 ** -max(finer, 0)
    with np.errstate(all="ignore"):
        events = (steps * port.lsb).astype(kind)
    if np.dtype(kind).kind == "f" and finer == -9:
        events[random.integers(3), random.integers(5)] = random.choice([np.nan, np.inf, -np.inf])
    network = chain(np.ones((5, 1)), port, FixedPoint(16, 30))
    wanted = port_counts_by_definition(port, events)
    if wanted is None:
        with pytest.raises(ValueError, match="no value of the port"):
            network.port_counts(events)
        return
    assert np.array_equal(network.port_counts(events), wanted)
    assert np.array_equal(network.counts(events), network.counts(wanted * port.lsb))


def test_chunks_do_not_show() -> None:
    network = everything()
    events = events_of(network, 50)
    whole = network.predict(events)
    assert (np.concatenate([network.predict(event[None]) for event in events]) == whole).all()
    assert len(np.unique(whole)) > 10
