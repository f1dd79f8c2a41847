"""Gives a network its events' shape and a quantizer of their type at the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.quantizers import text_of, type_of

_SHAPES = ("Flatten", "Permute", "Reshape")


def contains(outer: FixedPoint, inner: FixedPoint) -> bool:
    """True if every value of `inner` is a value of `outer`."""
    return outer.lsb <= inner.lsb and outer.low <= inner.low and inner.high <= outer.high


def shaped(graph: Graph, shape: tuple[int, ...] | None) -> Iterator[Repair]:
    """Let a network that reads flat events read images, and the other way round."""
    added = ""
    first = graph.node(graph.inputs[0])
    own = tuple(int(side) for side in first.config["batch_input_shape"][1:])
    if shape is not None and len(graph.inputs) == 1 and own != shape:
        if not _same_order(own, shape):
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


def _same_order(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if np.prod(own, dtype=int) != np.prod(shape, dtype=int):
        return False
    flat = len(own) == 1 or len(shape) == 1
    return flat or [s for s in own if s > 1] == [s for s in shape if s > 1]


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
    start = graph.inputs[0]
    inner, reshaped = _first_layer(graph, start)
    own: FixedPoint | None = None
    if inner is not None and inner.kind == "QActivation":
        own = type_of(quantizer(inner.config.get("activation"), inner.name))
    if inner is not None and own is not None and own.signed:
        if reshaped:
            graph.remove(inner.name)
            graph.insert_after(start, "QActivation", inner.name, {"activation": text_of(own)})
            yield Repair(inner.name, "moved before the reshape, to the port")
        return
    if grid is None:
        reason = "no quantizer at the input, and no grid of events to give it one"
        yield Repair(start, reason, "impossible")
        return
    if inner is not None and own is not None and contains(own, grid):
        graph.remove(inner.name)
        yield Repair(inner.name, f"removed: events on {grid.text} pass it as they are")
    # QKeras' one unsigned quantizer is a ReLU, and hls4ml takes none at the port.
    text = text_of(grid if grid.signed else FixedPoint(grid.word + 1, grid.integer + 1))
    node = graph.insert_after(start, "QActivation", "port", {"activation": text})
    yield Repair(node.name, f"{text} inserted at the input: events are on that grid already")


def _first_layer(graph: Graph, start: str) -> tuple[Node | None, bool]:
    """The first layer behind an input that is not a reshape, and True if a reshape is between."""
    name = start
    while len(readers := graph.readers(name)) == 1:
        if readers[0].kind not in _SHAPES:
            return readers[0], name != start
        name = readers[0].name
    return None, False
