"""The vectors that projects ship: few, and they notice what breaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l1kd.exact.graph import Affine, Network, Node, Quantize
from l1kd.firmware.vectors import choose
from l1kd.fixedpoint import FixedPoint
from tests.firmware.test_corners import dense, image, layered, quantize

PORT = FixedPoint(6, 6)


def changed(network: Network, node: Node) -> Network:
    """The network with another node of the same name."""
    nodes = tuple(node if each.name == node.name else each for each in network.nodes)
    return Network(network.name, nodes, network.outputs)


def usual(network: Network, count: int, seed: int = 5) -> np.ndarray:
    """Random events, as the choice knows none: falling spectra, full and sparse."""
    random = np.random.default_rng(seed)
    row = (count, *(1 for _ in network.shape))
    mean = np.exp(random.uniform(0, np.log(network.port.bounds[1]), row))
    values = np.rint(random.exponential(1, (count, *network.shape)) * mean)
    values *= random.random(values.shape) < random.choice([0.1, 0.5, 1.0], row)
    low, high = network.port.bounds
    return np.clip(values, low, high) * network.port.lsb


def test_they_are_few_distinct_seeded_and_on_the_port() -> None:
    network = image(PORT, seed=2)
    events = choose(network)
    assert events.shape[1:] == (6, 6, 1) and 1000 < len(events) <= 2000
    assert PORT.holds(events).all()
    assert len(np.unique(events.reshape(len(events), -1), axis=0)) == len(events)
    assert (choose(network) == events).all()
    other = choose(network, seed=1)
    assert other.shape != events.shape or (other != events).any()
    assert len(choose(network, limit=50)) == 50


def test_a_quarter_of_the_room_is_for_the_run_s_own_events() -> None:
    network = image(PORT, seed=2)
    own = usual(network, 400)
    own[3] = 99  # not on the port
    events = choose(network, own, limit=200)
    assert len(events) == 200
    rows = {event.tobytes() for event in events}
    assert sum(event.tobytes() in rows for event in own) >= 40
    assert PORT.holds(events).all()


def test_large_events_have_fewer_vectors() -> None:
    network = layered(
        PORT,
        (5000,),
        dense("d", "in", np.random.default_rng(1).integers(-3, 4, (5000, 1)), 8),
        quantize("score", "d", (1,), FixedPoint(8, 6, False)),
    )
    assert len(choose(network)) <= 378_000 // 5000


@pytest.mark.parametrize("seed", [1, 2])
def test_what_usual_events_notice_of_a_weight_the_vectors_notice_too(seed: int) -> None:
    network = image(PORT, seed=2)
    events, many = choose(network), usual(network, 20_000)
    expected, before = network.predict(events), network.predict(many)
    random = np.random.default_rng(seed)
    layers = [node for node in network.nodes if isinstance(node, Affine)]
    noticed, missed = 0, []
    for _ in range(40):
        node = layers[random.integers(len(layers))]
        name = random.choice(["kernel", "bias"])
        values = getattr(node, name).copy()
        place = tuple(random.integers(side) for side in values.shape)
        values[place] += random.choice([-1, 1])
        broken = changed(network, dataclasses.replace(node, **{name: values}))
        if (broken.predict(many) == before).all():
            continue
        noticed += 1
        if (broken.predict(events) == expected).all():
            missed.append((node.name, name, place))
    assert noticed > 20 and not missed


@pytest.mark.parametrize("name", ["r1", "r2", "r3", "score"])
def test_they_notice_another_type_of_every_quantizer(name: str) -> None:
    network = image(PORT, seed=2)
    events, many = choose(network), usual(network, 20_000)
    expected, before = network.predict(events), network.predict(many)
    node = network[name]
    assert isinstance(node, Quantize)
    kind = node.type
    others = [
        dataclasses.replace(kind, rounding="RND"),
        dataclasses.replace(kind, rounding="TRN"),
        dataclasses.replace(kind, overflow="WRAP"),
        dataclasses.replace(kind, word=kind.word - 1),
        dataclasses.replace(kind, word=kind.word - 1, integer=kind.integer - 1),
    ]
    shown = 0
    for other in others:
        broken = changed(network, dataclasses.replace(node, type=other))
        if (broken.predict(many) == before).all():
            continue
        shown += 1
        assert (broken.predict(events) != expected).any(), other.text
    assert shown
