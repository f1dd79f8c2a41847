"""Derivatives against differences: exact ones, for every kind of layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.gradient import backward, sensitivities
from l1kd.exact.layers import Conv, Dense, Input, Merge, Node, Pad, Pool, Quantize, Reshape
from l1kd.exact.network import Network

PORT = FixedPoint(8, 8)
FINE = FixedPoint(60, 40)  # holds whatever comes: the identity


def dense(name: str, source: str, shape: tuple[int, ...], inputs: int, seed: int = 1) -> Dense:
    random = np.random.default_rng(seed)
    return Dense(
        name=name,
        sources=(source,),
        shape=shape,
        kernel=random.integers(-7, 8, (inputs, shape[-1])),
        kernel_fraction=3,
        bias=random.integers(-7, 8, shape[-1]),
        bias_fraction=2,
    )


def conv(name: str, source: str, shape: tuple[int, ...], channels: int, **options: object) -> Conv:
    random = np.random.default_rng(2)
    return Conv(
        name=name,
        sources=(source,),
        shape=shape,
        kernel=random.integers(-7, 8, (2, 2, channels, shape[-1])),
        kernel_fraction=3,
        bias=random.integers(-7, 8, shape[-1]),
        bias_fraction=2,
        **{"strides": (1, 1), **options},  # type: ignore[arg-type]
    )


def ended(*nodes: Node, shape: tuple[int, ...] = (5, 6, 2)) -> Network:
    last = nodes[-1]
    end = Quantize(name="end", sources=(last.name,), shape=last.shape, type=FINE)
    port = Input(name="in", sources=(), shape=shape, type=PORT)
    return Network("n", (port, *nodes, end), ("end",))


def pool(operation: str, shape: tuple[int, ...], **options: object) -> Pool:
    given = {"window": (2, 2), "strides": (2, 2), **options}
    return Pool(name="pool", sources=("in",), shape=shape, operation=operation, **given)  # type: ignore[arg-type]


def two(operation: str, shape: tuple[int, ...] = (3,)) -> tuple[Node, ...]:
    one, other = dense("a", "in", (3,), 6, 1), dense("b", "in", (3,), 6, 5)
    merge = Merge(name="m", sources=("a", "b"), shape=shape, operation=operation)  # type: ignore[arg-type]
    return one, other, merge


NETWORKS = {
    "dense": ended(dense("d", "in", (5, 6, 3), 2)),
    "conv": ended(conv("c", "in", (4, 5, 3), 2)),
    "conv-strided-padded-dilated": ended(
        conv("c", "in", (3, 4, 3), 2, strides=(2, 2), padding=((1, 1), (1, 2)), dilation=(2, 2))
    ),
    "average": ended(pool("average", (2, 3, 2))),
    "max": ended(pool("max", (2, 3, 2))),
    "max-padded-overlapping": ended(
        pool("max", (5, 6, 2), strides=(1, 1), padding=((0, 1), (0, 1)))
    ),
    "pad": ended(Pad(name="p", sources=("in",), shape=(8, 7, 2), padding=((1, 2), (1, 0)))),
    "reshape": ended(Reshape(name="r", sources=("in",), shape=(60,)), dense("d", "r", (4,), 60)),
    "sequence": ended(conv("c", "in", (9, 3), 2, padding=((0, 0), (1, 0))), shape=(9, 2)),
    **{name: ended(*two(name), shape=(6,)) for name in ("add", "subtract", "maximum", "minimum")},
    "concatenate": ended(*two("concatenate", (6,)), shape=(6,)),
}
# The height of a sequence is 1, and so is that of its windows.
_SEQUENCE = NETWORKS["sequence"]
NETWORKS["sequence"] = Network(
    "n",
    tuple(
        dataclasses.replace(node, kernel=node.kernel[:1]) if isinstance(node, Conv) else node
        for node in _SEQUENCE.nodes
    ),
    ("end",),
)


def gradient(network: Network, events: np.ndarray, name: str, units: np.ndarray, **options: float):
    """Derivative (N, *event shape) of value `units[i]` of a layer to the inputs of event i."""
    counts = network.port_counts(events)
    upstream = np.zeros((len(counts), network[name].size))
    upstream[np.arange(len(counts)), units] = 1
    weights = {name: upstream.reshape(len(counts), *network[name].shape)}
    return backward(network, network.record(counts, [name]), weights, **options)["in"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_derivative_is_the_difference_that_one_step_makes(name: str) -> None:
    network = NETWORKS[name]
    random = np.random.default_rng(3)
    # Distinct values, twice the step apart: no step changes which one is the highest.
    size = network.nodes[0].size
    event = (2 * random.permutation(size) - size).clip(-128, 126).reshape(network.shape)
    start = network.predict(event[None])[0]
    steps = np.eye(size).reshape(size, *network.shape)
    moved = network.predict(event + steps)
    for unit in range(0, len(start), max(1, len(start) // 7)):
        slope = gradient(network, event[None], "end", np.array([unit]))
        assert (slope.reshape(-1) == moved[:, unit] - start[unit]).all()


def test_each_event_has_its_own_unit_and_its_own_slope() -> None:
    network = NETWORKS["maximum"]
    events = np.random.default_rng(4).integers(-100, 100, (40, 6))
    units = np.arange(40) % 3
    together = gradient(network, events, "end", units)
    alone = [gradient(network, events[i : i + 1], "end", units[i : i + 1])[0] for i in range(40)]
    assert (together == alone).all()


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
def test_a_quantizer_has_a_slope_inside_of_its_range_only(overflow: str) -> None:
    kind = FixedPoint(4, 4, False, overflow=overflow)  # type: ignore[arg-type]
    nodes = (
        Input(name="in", sources=(), shape=(1,), type=PORT),
        Quantize(name="q", sources=("in",), shape=(1,), type=kind),
    )
    network = Network("n", nodes, ("q",))
    events, units = np.array([[-5], [0], [7], [15], [16]]), np.zeros(5, np.int64)
    slopes = gradient(network, events, "q", units, leak=0.25).reshape(-1)
    inside = [0.25, 1, 1, 1, 0.25] if overflow == "SAT" else [1] * 5
    assert slopes.tolist() == inside
    halved = Network("n", (nodes[0], dataclasses.replace(nodes[1], halved=True)), ("q",))
    slopes = gradient(halved, np.array([[-1], [29], [30]]), "q", units[:3]).reshape(-1)
    assert slopes.tolist() == ([0.5, 0.5, 0] if overflow == "SAT" else [0.5] * 3)


@pytest.mark.parametrize("name", ["dense", "conv", "conv-strided-padded-dilated", "reshape"])
def test_a_weight_s_derivative_is_the_difference_that_one_step_of_it_makes(name: str) -> None:
    network = NETWORKS[name]
    affine = next(node for node in network.nodes if isinstance(node, (Dense, Conv)))
    random = np.random.default_rng(5)
    events = random.integers(-100, 100, (2, *network.shape))
    upstream = {"end": random.integers(-3, 4, (2, *network["end"].shape)).astype(np.float64)}
    recorded = network.record(events, ["end"])
    slopes = backward(network, recorded, upstream)
    source = recorded[affine.sources[0]]
    kernels, biases = sensitivities(network, affine, source, slopes[affine.name])

    def weighed(changed: Network) -> np.ndarray:
        outputs = changed.values(events, ("end",))["end"]
        return (outputs * upstream["end"]).reshape(2, -1).sum(axis=1)

    before = weighed(network)
    for place in list(np.ndindex(*affine.kernel.shape))[::3]:
        kernel = affine.kernel.copy()
        kernel[place] += 1
        after = weighed(_replaced(network, dataclasses.replace(affine, kernel=kernel)))
        assert (after - before == kernels[(slice(None), *place)] * 2.0**-3).all()
    for unit in range(len(affine.bias)):
        bias = affine.bias + (np.arange(len(affine.bias)) == unit)
        after = weighed(_replaced(network, dataclasses.replace(affine, bias=bias)))
        assert (after - before == biases[:, unit] * 2.0**-2).all()


def _replaced(network: Network, changed: Node) -> Network:
    nodes = tuple(changed if node.name == changed.name else node for node in network.nodes)
    return Network(network.name, nodes, network.outputs)
