"""Rewrites activations as the plain quantizers that they are.

A quantizer and its substitute are compared on every value that can tell them apart: all quarters of
a step over the whole range and beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import qkeras

from l1kd.core.errors import CheckFailed
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.quantizers import Quantizer, reading, text_of
from l1kd.networks.repair.weights import SLOTS, reworded

_MOST = 18  # bits of a type whose values are all tried
_INSIDE = tuple(kind for kind in SLOTS if "Separable" not in kind)  # with an activation inside
_AVERAGES = ("QAveragePooling2D", "QGlobalAveragePooling2D")


def _given(graph: Graph, node: Node) -> Any:
    """The quantizer of a layer's activation."""
    return quantizer(node.config["activation"], f"{graph.where}: activation of layer {node.name!r}")


def _type(graph: Graph, node: Node) -> FixedPoint | None:
    read = reading(_given(graph, node))
    return None if read is None or read.halved else read.type


def averages(graph: Graph) -> Iterator[Repair]:
    """QKeras' own average pooling as Keras', where its quantized 1 / area is 1 / area."""
    found = [node for node in graph.nodes if node.kind in _AVERAGES]
    model: Any = graph.build() if found else None
    for node in found:
        layer = model.get_layer(node.name)
        sides = layer.input_shape[1:3] if "Global" in node.kind else layer.pool_size
        factor = 1.0 / float(np.prod(sides))
        average = layer.average_quantizer_internal
        given = factor if average is None else float(np.asarray(average(np.float32(factor))))
        if given != factor or np.log2(factor) % 1:
            reason = f"averages with {given:g} for 1/{1 / factor:g}"
            yield Repair(node.name, reason, "impossible")
            continue
        activation = node.config.pop("activation", None)
        node.config.pop("average_quantizer", None)
        node.kind = node.kind.removeprefix("Q")
        yield Repair(node.name, f"{node.kind}: its 1/{1 / factor:g} is exact")
        if activation not in (None, "linear"):
            config = {"activation": activation}
            graph.insert_after(node.name, "QActivation", f"{node.name}_q", config)


def rectified(graph: Graph) -> Iterator[Repair]:
    """A plain ReLU before a quantizer and that quantizer as one quantized ReLU."""
    for node in list(graph.nodes):
        readers = graph.readers(node.name)
        if not _is_relu(node) or len(readers) != 1 or node.name in graph.outputs:
            continue
        (after,) = readers
        kind = _type(graph, after) if after.kind == "QActivation" else None
        # A single bit beside the sign is all fraction or all integer: not worth the care.
        if kind is None or kind.word < 3:
            continue
        if kind.signed:
            kind = FixedPoint(kind.word - 1, kind.integer - 1, False)
        after.config["activation"] = text_of(kind)
        if node.kind in _INSIDE:
            node.config["activation"] = "linear"
        else:
            graph.remove(node.name)
        yield Repair(node.name, f"its ReLU is in {after.name!r}: {text_of(kind)}")


def _is_relu(node: Node) -> bool:
    if node.kind == "Activation" or node.kind in _INSIDE:
        return bool(node.config.get("activation") == "relu")
    bent = any(node.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
    return node.kind == "ReLU" and not bent


def repeated(graph: Graph) -> Iterator[Repair]:
    """Remove a quantizer right behind another one all of whose values it keeps."""
    for node in list(graph.nodes):
        before = graph.node(node.sources[0]) if node.sources else node
        if {node.kind, before.kind} != {"QActivation"}:
            continue
        first, second = reading(_given(graph, before)), _type(graph, node)
        if first is None or second is None or second.fraction < first.type.fraction:
            continue
        ends = first.type.integers([first.type.low, first.type.high]).astype(object)
        kept = second.requantize(ends, first.type.fraction)
        if all(second.lsb * kept == first.type.lsb * ends):
            graph.remove(node.name)
            yield Repair(node.name, f"removed: every value of {before.name!r} passes it as it is")


def _quantized(graph: Graph) -> Iterator[tuple[Node, Any, Quantizer | None]]:
    """Layers with a quantizer for an activation: it as stored, and as it is read."""
    for node in graph.nodes:
        stored = node.config.get("activation")
        if node.kind in ("QActivation", *_INSIDE) and stored not in (None, "linear"):
            given = _given(graph, node)
            yield node, given, reading(given)


def plain(graph: Graph) -> Iterator[Repair]:
    """Activations in the words that reload and convert: `quantized_bits`, `quantized_relu`."""
    for node, given, kind in _quantized(graph):
        stored, words = node.config["activation"], ("quantized_bits", "quantized_relu")
        if isinstance(stored, str) and stored.partition("(")[0] not in words:
            continue
        if kind is None or kind.halved or kind.type.overflow == "SAT_SYM":
            if isinstance(stored, dict) and node.kind == "QActivation":
                node.config["activation"] = quantizer(stored, node.name, as_text=True)
            if kind is None:
                reason = f"{given}: scales, slopes and the like stay"
                yield Repair(node.name, reason, "impossible")
            continue
        if type(given).__name__ not in words:
            continue
        text = text_of(kind.type)
        if not _same(given, text, kind.type):
            yield Repair(node.name, f"{given} is not {text} for all values", "impossible")
            continue
        node.config["activation"] = text
        if reworded(given, text):
            yield Repair(node.name, f"{given} is {text}")


def _same(given: Any, text: str, kind: FixedPoint) -> bool:
    if kind.word > _MOST:
        # Too many values to try: only another spelling of the same class is believed.
        return not reworded(given, text)
    low, high = kind.bounds
    points = np.arange(4 * min(low, -high) - 16, 4 * high + 17, dtype=np.float64) * (kind.lsb / 4)
    values = points.astype(np.float32)
    ours = qkeras.get_quantizer(text)
    return bool((np.asarray(given(values)) == np.asarray(ours(values))).all())


def symmetric(graph: Graph, grid: FixedPoint | None) -> Iterator[Repair]:
    """Symmetric activations as plain ones, where the value that they lack is out of reach.

    The values that can come are bounded by interval arithmetic through the network with all of them
    replaced: as long as none meets its lowest value there, the two networks cannot differ.
    """
    found: list[tuple[Node, Any, FixedPoint]] = []
    for node, given, read in list(_quantized(graph)):
        if read is None or read.halved or read.type.overflow != "SAT_SYM":
            continue
        found.append((node, node.config["activation"], read.type))
        tanh = type(given).__name__ == "quantized_tanh"
        text = f"quantized_tanh({read.type.word})" if tanh else ""
        node.config["activation"] = text or text_of(replace(read.type, overflow="SAT"))
    if not found:
        return
    reachable = _reachable(graph, {node.name: kind for node, _, kind in found}, grid)
    for node, stored, _ in found:
        if node.name in reachable:
            node.config["activation"] = stored
            yield Repair(node.name, f"symmetric: {reachable[node.name]}", "impossible")
        else:
            text = node.config["activation"]
            yield Repair(node.name, f"symmetric no more: its lowest value is out of reach; {text}")


def _reachable(
    graph: Graph, types: dict[str, FixedPoint], grid: FixedPoint | None
) -> dict[str, str]:
    """Reasons by layer, of layers that may meet the lowest value of their type."""
    from l1kd.networks.to_exact import read

    try:
        network = read(graph.build())
    except CheckFailed:
        return dict.fromkeys(types, "what reaches it is not known")
    bound = network.bounds
    sources = {node.name: node.sources for node in network.nodes}
    reachable = {}
    for name, kind in types.items():
        source, lowest = sources[name][0], replace(kind, overflow="SAT")
        if source in graph.inputs:
            if grid is None or lowest.quantize(grid.low) <= kind.low:
                reachable[name] = "events may have its lowest value"
            continue
        low, fraction = bound[source].low, bound[source].fraction
        if (kind.requantize(low, fraction) != lowest.requantize(low, fraction)).any():
            reachable[name] = "it may meet its lowest value"
    return reachable
