"""How events come into a network: their shape, and the port's fixed-point type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RepairKind
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.layer_graph import Graph, Node
from l1kd.networks.quantizers import text_of, type_of

_SHAPES = ("Flatten", "Permute", "Reshape")
Record = tuple[str, str, RepairKind]


def contains(outer: FixedPoint, inner: FixedPoint) -> bool:
    """Whether every value of `inner` is a value of `outer`."""
    return outer.lsb <= inner.lsb and outer.low <= inner.low and inner.high <= outer.high


def port_type(grid: FixedPoint) -> FixedPoint:
    """The narrowest signed type with all values of a grid: QKeras has no unsigned quantizer but a
    ReLU, and hls4ml takes none at the port."""
    return grid if grid.signed else FixedPoint(grid.word + 1, grid.integer + 1)


def shaped(graph: Graph, shape: tuple[int, ...] | None) -> Iterator[Record]:
    """Let a network that reads flat events read images, and the other way round."""
    if shape is not None and len(graph.inputs) == 1:
        first = graph.node(graph.inputs[0])
        own = tuple(int(side) for side in first.config["batch_input_shape"][1:])
        if own != shape:
            if not _same_order(own, shape):
                raise UserError(
                    f"{graph.where} reads events of the shape {own}, the data's are {shape}; "
                    "give the data that shape, or the right model"
                )
            first.config["batch_input_shape"] = [None, *shape]
            config: dict[str, Any] = {} if len(own) == 1 else {"target_shape": list(own)}
            kind = "Reshape" if config else "Flatten"
            added = graph.insert_after(first.name, kind, "events_as_" + kind.lower(), config)
            yield first.name, f"events of shape {shape} are read as {own}", "exact"
            yield from (each for each in _without_detours(graph) if each[0] != added.name)
            return
    yield from _without_detours(graph)


def _same_order(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if np.prod(own, dtype=int) != np.prod(shape, dtype=int):
        return False
    flat = len(own) == 1 or len(shape) == 1
    return flat or [s for s in own if s > 1] == [s for s in shape if s > 1]


def _without_detours(graph: Graph) -> Iterator[Record]:
    """A reshape that is reshaped again, or to the shape it has, is none."""
    for node in list(graph.nodes):
        if node.kind not in ("Flatten", "Reshape"):
            continue
        (source,) = node.sources
        before = graph.node(source)
        if before.kind in ("Flatten", "Reshape") and len(graph.readers(source)) == 1:
            graph.remove(source)
            yield source, f"{before.kind} removed: {node.name!r} gives its own shape", "exact"
            (source,) = node.sources
            before = graph.node(source)
        if before.kind == "InputLayer" and node.name not in graph.outputs:
            events = [int(side) for side in before.config["batch_input_shape"][1:]]
            target = node.config.get("target_shape")
            flat = node.kind == "Flatten" and len(events) == 1
            if flat or (target is not None and list(target) == events):
                graph.remove(node.name)
                yield node.name, f"{node.kind} removed: events have that shape", "exact"


def port(graph: Graph, grid: FixedPoint | None) -> Iterator[Record]:
    """Quantize events right at the input, and nowhere else on the way to the first layer."""
    if len(graph.inputs) != 1:
        return
    start = graph.inputs[0]
    first = graph.readers(start)
    inner, way = _through(graph, start)
    own = _type(inner) if inner is not None and inner.kind == "QActivation" else None
    if inner is not None and first == [inner] and own is not None and own.signed:
        return  # as it should be
    if own is not None and own.signed and inner is not None and way:
        text = text_of(own)
        graph.remove(inner.name)
        graph.insert_after(start, "QActivation", inner.name, {"activation": text})
        yield inner.name, "moved before the reshape, to the port", "exact"
        return
    if grid is None:
        yield start, "no quantizer at the input, and no grid of events to give it one", "impossible"
        return
    if own is not None and inner is not None and contains(own, grid):
        graph.remove(inner.name)
        yield inner.name, f"removed: events on {grid.text} pass it as they are", "exact"
    text = text_of(port_type(grid))
    node = graph.insert_after(start, "QActivation", "port", {"activation": text})
    yield node.name, f"{text} inserted at the input: events are on that grid already", "exact"


def _through(graph: Graph, start: str) -> tuple[Node | None, list[Node]]:
    """The first layer behind an input that does more than to give events a shape."""
    way: list[Node] = []
    while True:
        readers = graph.readers(way[-1].name if way else start)
        if len(readers) != 1:
            return None, way
        if readers[0].kind not in _SHAPES:
            return readers[0], way
        way.append(readers[0])


def _type(node: Node) -> FixedPoint | None:
    found: Any = quantizer(node.config.get("activation"), node.name)
    return type_of(found)
