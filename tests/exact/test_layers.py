"""Layer kinds: every consumer knows each of them, or says why not; shapes and invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import gradient
from l1kd.exact.layers import KINDS, Dense, Input, Node, Pool, Quantize, Reshape, Sum, of_kind
from l1kd.exact.network import Network
from l1kd.firmware.certificate import call_rules, verilog_proof
from l1kd.firmware.stimuli import test_vectors
from l1kd.firmware.verilog import trace_layers
from tests.exact.networks import events_of, everything

# A new kind needs an entry in each: a function, or the reason why there is none.
TABLES: dict[str, tuple[Any, dict[type[Node], str]]] = {
    "gradient": (gradient.PULLS, gradient.NO_PULL),
    "verilog": (trace_layers.TRACES, trace_layers.NO_TRACE),
    "verilog_proof": (verilog_proof.MEANINGS, verilog_proof.NO_MEANING),
    "certificate": (call_rules.CALLS, call_rules.NO_CALLS),
    "faults": (test_vectors.FAULTS, test_vectors.NO_FAULTS),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_has_a_function_or_a_reason(name: str) -> None:
    functions, reasons = TABLES[name]
    assert functions.keys() | reasons.keys() == set(KINDS.values())
    assert not functions.keys() & reasons.keys()
    assert all(reasons.values())


def test_a_kind_without_a_function_is_refused_with_the_reason() -> None:
    node = Reshape(name="flat", sources=("in",), shape=(4,))
    with pytest.raises(KeyError, match=r"layer 'flat' \(reshape\): it moves values"):
        of_kind(test_vectors.FAULTS, test_vectors.NO_FAULTS, node, KeyError)


def test_a_shape_that_is_not_that_of_the_values_is_refused() -> None:
    network = everything()
    nodes = tuple(
        replace(node, shape=(4,)) if node.name == "out" else node for node in network.nodes
    )
    with pytest.raises(ValueError, match=r"layer 'out' gives the shape \(3,\), not \(4,\)"):
        _ = Network("n", nodes, network.outputs).bounds


def test_averages_are_of_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="averages 3 values"):
        Pool(
            name="p",
            sources=("in",),
            shape=(1, 1),
            operation="average",
            window=(1, 3),
            strides=(1, 3),
        )


@st.composite
def sums(draw: st.DrawFn) -> Network:
    """A port and a sum over some axes of its events."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    kind = FixedPoint(draw(st.sampled_from((2, 7, 23, 40))), draw(st.integers(-3, 9)))
    port = Input(name="in", sources=(), shape=shape, type=kind)
    kept = tuple(1 if axis in axes else side for axis, side in enumerate(shape))
    node = Sum(name="s", sources=("in",), shape=kept, axes=tuple(axes))
    return Network("n", (port, node), ("s",))


@given(sums(), st.integers(0, 2**32 - 1))
def test_a_sum_is_the_sum_and_its_bounds_are_reached(network: Network, seed: int) -> None:
    port, node = network.nodes
    assert isinstance(node, Sum)
    events, axes = events_of(network, 9, seed), tuple(axis + 1 for axis in node.axes)
    counts = network.port.integers(events).astype(object)
    assert (network.counts(events) == counts.sum(axis=axes).reshape(9, -1)).all()
    ends = np.array([np.full(port.shape, end) for end in network.port.bounds])
    low, high = network.counts(ends * network.port.lsb)
    bound, added = network.bounds["s"], port.size // node.size
    assert (low == bound.low.reshape(-1)).all() and (high == bound.high.reshape(-1)).all()
    assert bound.magnitude == -network.port.bounds[0] * added
    assert Node.from_json(node.to_json()) is not node
    assert Node.from_json(node.to_json()).to_json() == node.to_json()


@given(sums(), st.integers(0, 2**32 - 1))
def test_a_sum_is_a_convolution_of_ones(network: Network, seed: int) -> None:
    port, node = network.nodes
    if len(port.shape) not in (2, 3):
        return
    assert isinstance(node, Sum)
    other = Network("n", (port, node.convolution(port.shape)), ("s",))
    events = events_of(network, 9, seed)
    assert (other.counts(events) == network.counts(events)).all()
    for end in ("low", "high"):
        assert (getattr(other.bounds["s"], end) == getattr(network.bounds["s"], end)).all()
    assert other.bounds["s"].magnitude == network.bounds["s"].magnitude


@given(sums(), st.integers(0, 2**32 - 1))
def test_a_step_of_an_input_is_a_step_of_its_sum(network: Network, seed: int) -> None:
    random = np.random.default_rng(seed)
    recorded = network.record(network.port.integers(events_of(network, 2, seed)), ["s"])
    slope = random.normal(size=recorded["s"].shape)
    slopes = gradient.backward(network, recorded, {"s": slope})["in"]
    assert slopes.shape == recorded["in"].shape
    assert np.isclose(slopes, slope).all()  # one slope for all that a sum adds up


@pytest.mark.parametrize("axes", [(), (1, 1), (-1,)])
def test_a_sum_names_every_axis_once(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sums over the axes"):
        Sum(name="s", sources=("in",), shape=(1,), axes=axes)


def test_a_finer_type_saturates_at_its_own_end() -> None:
    """Its highest value needs more bits than what enters, and than a float32 has."""
    fine = FixedPoint(30, 4)
    nodes: tuple[Node, ...] = (
        Input(name="in", sources=(), shape=(1,), type=FixedPoint(6, 5)),
        Quantize(name="out", sources=("in",), shape=(1,), type=fine),
    )
    network = Network("n", nodes, ("out",))
    assert network.predict([[15.5], [-16.0], [0.5]]).ravel().tolist() == [fine.high, fine.low, 0.5]
    assert network.counts([[15.5]]).tolist() == [[2**29 - 1]]
    half = replace(nodes[1], type=FixedPoint(30, 0, signed=False), halved=True)
    assert Network("n", (nodes[0], half), ("out",)).counts([[15.5]]).tolist() == [[2**30 - 1]]


def test_counts_are_in_lsbs_of_each_output_layer() -> None:
    network = everything()
    both = Network("both", network.nodes, ("out", "d"))
    random = np.random.default_rng(0)
    events = random.integers(-16, 16, (20, 6, 5, 2)) * network.port.lsb
    counts, values = both.counts(events), both.predict(events)
    lsb = [kind.lsb for kind in both.output_types for _ in range(3)]
    assert counts.dtype == np.int64 and counts.shape == values.shape == (20, 6)
    assert (counts * np.array(lsb) == values).all()


def test_counts_beyond_int64_are_refused() -> None:
    dense = Dense(
        name="d",
        sources=("in",),
        shape=(1,),
        kernel=np.full((1, 1), 2**40),
        kernel_fraction=0,
        bias=np.zeros(1, np.int64),
        bias_fraction=0,
    )
    port = Input(name="in", sources=(), shape=(1,), type=FixedPoint(30, 30))
    with pytest.raises(ValueError, match="outputs of layer 'd' have 70 bits"):
        Network("n", (port, dense), ("d",)).counts([[1.0]])
