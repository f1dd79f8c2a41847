"""Changed networks: what is noticed is what evaluating the whole changed network shows."""

from __future__ import annotations

import dataclasses

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.gradient import record
from l1kd.exact.network import Network, Node
from l1kd.firmware.stimuli.corner_inputs import mixed
from l1kd.firmware.stimuli.corner_search import Search
from l1kd.firmware.stimuli.fault_model import changes, noticed
from tests.firmware.stimuli.test_corner_inputs import image

PORT = FixedPoint(6, 6)


def test_what_is_noticed_is_what_the_changed_network_gives() -> None:
    network = image(PORT, seed=2)
    search = Search(network, np.random.default_rng(0))
    counts = mixed(PORT, network.shape, np.random.default_rng(1), 200)
    what = changes(search)
    found = noticed(search, counts, what)
    assert found.shape == (len(what), 200) and found.any(axis=1).mean() > 0.8
    before = network.predict(counts)
    recorded = record(network, counts.reshape(-1, *network.shape), network.outputs)
    compared = 0
    for change, row in zip(what, found, strict=True):
        other = change.given.args[1]  # type: ignore[attr-defined]
        if not isinstance(other, Node) or other.name != change.node.name or row.all():
            continue
        if (change.given(recorded) == recorded[other.name]).all():
            assert not row.any()
        if type(other) is not type(change.node) or other is change.node:
            continue
        broken = _with(network, other)
        assert (row == (broken.predict(counts) != before).any(axis=1)).all()
        compared += 1
    assert compared > 20


def test_another_type_of_a_quantizer_is_noticed_where_outputs_differ() -> None:
    network = image(PORT, seed=2)
    search = Search(network, np.random.default_rng(0))
    counts = mixed(PORT, network.shape, np.random.default_rng(1), 200)
    before, compared = network.predict(counts), 0
    for change in changes(search):
        _, node, *kinds = change.given.args  # type: ignore[attr-defined]
        if not kinds or not hasattr(node, "type"):
            continue
        broken = _with(network, dataclasses.replace(node, type=kinds[0]))
        expected = (broken.predict(counts) != before).any(axis=1)
        assert (noticed(search, counts, [change])[0] == expected).all(), kinds[0].text
        compared += 1
    assert compared > 20


def _with(network: Network, node: Node) -> Network:
    nodes = tuple(node if each.name == node.name else each for each in network.nodes)
    return Network(network.name, nodes, network.outputs)
