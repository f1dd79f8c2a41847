"""Single-fault networks: a fault is detected where the whole faulty network differs."""

from __future__ import annotations

import dataclasses

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Node, Quantize
from l1kd.exact.network import Network
from l1kd.firmware.stimuli.corner_inputs import Search, mixed
from l1kd.firmware.stimuli.test_vectors import detected, faults
from tests.firmware.stimuli.test_corner_inputs import image

PORT = FixedPoint(6, 6)


def test_a_fault_is_detected_where_the_faulty_network_has_other_outputs() -> None:
    network = image(PORT, seed=2)
    search = Search(network, np.random.default_rng(0))
    counts = mixed(PORT, network.shape, np.random.default_rng(1), 200)
    tried = faults(search)
    found = detected(search, counts, tried)
    assert found.shape == (len(tried), 200) and found.any(axis=1).mean() > 0.8
    before = network.predict(counts)
    recorded = network.record(counts.reshape(-1, *network.shape), network.outputs)
    weights = quantizers = 0
    for fault, row in zip(tried, found, strict=True):
        if (fault.counts(network, recorded) == recorded[fault.node.name]).all():
            assert not row.any()
        if isinstance(fault.faulty, FixedPoint):
            continue
        broken = _with(network, fault.faulty)
        assert (row == (broken.predict(counts) != before).any(axis=1)).all(), fault
        quantizers += isinstance(fault.node, Quantize)
        weights += not isinstance(fault.node, Quantize)
    assert weights > 20 and quantizers > 20


def test_sums_that_lose_bits_are_detected_as_a_quantizer_in_their_place_is() -> None:
    network = image(PORT, seed=2)
    search = Search(network, np.random.default_rng(0))
    counts = mixed(PORT, network.shape, np.random.default_rng(1), 200)
    before, compared = network.predict(counts), 0
    for fault in faults(search):
        if not isinstance(fault.faulty, FixedPoint):
            continue
        name, kind = fault.node.name, fault.faulty
        cut = Quantize(name="cut", sources=(name,), shape=fault.node.shape, type=kind)
        nodes: list[Node] = []
        for node in network.nodes:
            sources = tuple("cut" if each == name else each for each in node.sources)
            nodes += [dataclasses.replace(node, sources=sources)]
            nodes += [cut] * (node.name == name)
        broken = Network(network.name, tuple(nodes), network.outputs)
        expected = (broken.predict(counts) != before).any(axis=1)
        assert (detected(search, counts, [fault])[0] == expected).all(), kind.text
        compared += 1
    assert compared >= 8


def _with(network: Network, node: Node) -> Network:
    nodes = tuple(node if each.name == node.name else each for each in network.nodes)
    return Network(network.name, nodes, network.outputs)
