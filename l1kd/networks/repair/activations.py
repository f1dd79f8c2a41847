"""Rewrites activations as the plain quantizers that they are, and puts one at the input.

A quantizer and its substitute are compared on every value that can tell them apart: all quarters of
a step over the whole range and beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import qkeras

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.quantizers import Quantizer, reading, text_of, type_of
from l1kd.networks.repair.weights import SLOTS, reworded
from l1kd.networks.to_exact import read

_MOST = 18  # bits of a type whose values are all tried
_INSIDE = tuple(kind for kind in SLOTS if "Separable" not in kind)  # with an activation inside
_PLAIN = ("quantized_bits", "quantized_relu")  # the words that reload and convert


def _given(graph: Graph, node: Node) -> Any:
    """The quantizer of a layer's activation."""
    return quantizer(node.config["activation"], f"{graph.where}: activation of layer {node.name!r}")


def averages(graph: Graph) -> Iterator[Repair]:
    """QKeras' own average pooling as Keras', where its quantized 1 / area is 1 / area."""
    found = [n for n in graph.nodes if n.kind in ("QAveragePooling2D", "QGlobalAveragePooling2D")]
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
        if node.kind == "Activation" or node.kind in _INSIDE:
            relu = node.config.get("activation") == "relu"
        else:
            bent = any(node.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
            relu = node.kind == "ReLU" and not bent
        readers = graph.readers(node.name)
        if not relu or len(readers) != 1 or node.name in graph.outputs:
            continue
        (after,) = readers
        kind = type_of(_given(graph, after)) if after.kind == "QActivation" else None
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


def repeated(graph: Graph) -> Iterator[Repair]:
    """Remove a quantizer right behind another one all of whose values it keeps."""
    for node in list(graph.nodes):
        before = graph.node(node.sources[0]) if node.sources else node
        if {node.kind, before.kind} != {"QActivation"}:
            continue
        first, second = reading(_given(graph, before)), type_of(_given(graph, node))
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
    """Activations in the words of `_PLAIN`."""
    for node, given, kind in _quantized(graph):
        stored = node.config["activation"]
        if isinstance(stored, str) and stored.partition("(")[0] not in _PLAIN:
            continue
        if kind is None or kind.halved or kind.type.overflow == "SAT_SYM":
            if isinstance(stored, dict) and node.kind == "QActivation":
                node.config["activation"] = quantizer(stored, node.name, as_text=True)
            if kind is None:
                reason = f"{given}: scales, slopes and the like stay"
                yield Repair(node.name, reason, "impossible")
        elif type(given).__name__ in _PLAIN:
            text = text_of(kind.type)
            if not _same(given, text, kind.type):
                yield Repair(node.name, f"{given} is not {text} for all values", "impossible")
                continue
            node.config["activation"] = text
            if reworded(given, text):
                yield Repair(node.name, f"{given} is {text}")


def _same(given: Any, text: str, kind: FixedPoint) -> bool:
    """True if a quantizer equals that of a text."""
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
    for node, given, kind in list(_quantized(graph)):
        if kind is None or kind.halved or kind.type.overflow != "SAT_SYM":
            continue
        found.append((node, node.config["activation"], kind.type))
        tanh = type(given).__name__ == "quantized_tanh"
        text = f"quantized_tanh({kind.type.word})" if tanh else ""
        node.config["activation"] = text or text_of(replace(kind.type, overflow="SAT"))
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
    try:
        network = read(graph.build())
    except CheckFailed:
        return dict.fromkeys(types, "what reaches it is not known")
    reachable = {}
    for name, kind in types.items():
        (source,), lowest = network[name].sources, replace(kind, overflow="SAT")
        if source in graph.inputs:
            if grid is None or lowest.quantize(grid.low) <= kind.low:
                reachable[name] = "events may have its lowest value"
            continue
        bound = network.bounds[source]
        ends = (each.requantize(bound.low, bound.fraction) for each in (kind, lowest))
        if np.not_equal(*ends).any():
            reachable[name] = "it may meet its lowest value"
    return reachable


def contains(outer: FixedPoint, inner: FixedPoint) -> bool:
    """True if every value of `inner` is a value of `outer`."""
    return outer.lsb <= inner.lsb and outer.low <= inner.low and inner.high <= outer.high


def shaped(graph: Graph, shape: tuple[int, ...] | None) -> Iterator[Repair]:
    """Let a network that reads flat events read images, and the other way round."""
    added = ""
    first = graph.node(graph.inputs[0])
    own = tuple(int(side) for side in first.config["batch_input_shape"][1:])
    if shape is not None and len(graph.inputs) == 1 and own != shape:
        flat = len(own) == 1 or len(shape) == 1
        same_order = flat or [s for s in own if s > 1] == [s for s in shape if s > 1]
        if np.prod(own, dtype=int) != np.prod(shape, dtype=int) or not same_order:
            raise UserError(
                f"{graph.where} reads events of the shape {own}, the data's are {shape}; "
                "give the data that shape, or the right model"
            )
        first.config["batch_input_shape"] = [None, *shape]
        config: dict[str, Any] = {} if len(own) == 1 else {"target_shape": list(own)}
        kind = "Reshape" if config else "Flatten"
        added = graph.insert_after(first.name, kind, "events_as_" + kind.lower(), config).name
        yield Repair(first.name, f"events of shape {shape} are read as {own}")
    yield from (each for each in _without_detours(graph) if each.layer != added)


def _without_detours(graph: Graph) -> Iterator[Repair]:
    """Remove a reshape that is reshaped again, or to the shape it has."""
    for node in list(graph.nodes):
        if node.kind not in ("Flatten", "Reshape"):
            continue
        before = graph.node(node.sources[0])
        if before.kind in ("Flatten", "Reshape") and len(graph.readers(before.name)) == 1:
            graph.remove(before.name)
            yield Repair(before.name, f"{before.kind} removed: {node.name!r} gives its own shape")
            before = graph.node(node.sources[0])
        if before.kind == "InputLayer" and node.name not in graph.outputs:
            events = [int(side) for side in before.config["batch_input_shape"][1:]]
            target = node.config.get("target_shape")
            flat = node.kind == "Flatten" and len(events) == 1
            if flat or (target is not None and list(target) == events):
                graph.remove(node.name)
                yield Repair(node.name, f"{node.kind} removed: events have that shape")


def port(graph: Graph, grid: FixedPoint | None) -> Iterator[Repair]:
    """Quantize events right at the input, and nowhere else on the way to the first layer."""
    if len(graph.inputs) != 1:
        return
    start = name = graph.inputs[0]
    while len(readers := graph.readers(name)) == 1:
        if readers[0].kind not in ("Flatten", "Permute", "Reshape"):
            break
        name = readers[0].name
    own: FixedPoint | None = None
    if len(readers) == 1 and readers[0].kind == "QActivation":
        own = type_of(_given(graph, readers[0]))
    if own is not None and own.signed:
        if name != start:
            inner = readers[0].name
            graph.remove(inner)
            graph.insert_after(start, "QActivation", inner, {"activation": text_of(own)})
            yield Repair(inner, "moved before the reshape, to the port")
        return
    if grid is None:
        reason = "no quantizer at the input, and no grid of events to give it one"
        yield Repair(start, reason, "impossible")
        return
    if own is not None and contains(own, grid):
        graph.remove(readers[0].name)
        yield Repair(readers[0].name, f"removed: events on {grid.text} pass it as they are")
    # QKeras' one unsigned quantizer is a ReLU, and hls4ml takes none at the port.
    text = text_of(grid if grid.signed else FixedPoint(grid.word + 1, grid.integer + 1))
    node = graph.insert_after(start, "QActivation", "port", {"activation": text})
    yield Repair(node.name, f"{text} inserted at the input: events are on that grid already")
