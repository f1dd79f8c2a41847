"""Activations that are plain quantizers under another name.

A quantizer that is replaced is compared with its substitute on everything that both can tell apart:
all quarters of a step over the whole range and beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import qkeras

from l1kd.core.errors import CheckFailed
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RepairKind
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.layer_graph import Graph, Node
from l1kd.networks.quantizers import reading, text_of

Record = tuple[str, str, RepairKind]
_MOST = 18  # bits of a type whose values are all tried


def averages(graph: Graph) -> Iterator[Record]:
    """QKeras' own average pooling, where its quantized 1 / area is 1 / area."""
    plain_kind = {
        "QAveragePooling2D": "AveragePooling2D",
        "QGlobalAveragePooling2D": "GlobalAveragePooling2D",
    }
    found = [node for node in graph.nodes if node.kind in plain_kind]
    if not found:
        return
    model = graph.build()
    for node in found:
        layer = model.get_layer(node.name)
        sides = layer.input_shape[1:3] if "Global" in node.kind else layer.pool_size
        factor = 1.0 / float(np.prod(sides))
        average = layer.average_quantizer_internal
        given = factor if average is None else float(np.asarray(average(np.float32(factor))))
        if given != factor or np.log2(factor) % 1:
            yield node.name, f"averages with {given:g} for 1/{1 / factor:g}", "impossible"
            continue
        config = dict(node.config)
        activation = config.pop("activation", None)
        config.pop("average_quantizer", None)
        node.kind, node.config = plain_kind[node.kind], config
        yield node.name, f"{node.kind}: its 1/{1 / factor:g} is exact", "exact"
        if activation not in (None, "linear"):
            graph.insert_after(
                node.name, "QActivation", f"{node.name}_q", {"activation": activation}
            )


def rectified(graph: Graph) -> Iterator[Record]:
    """A plain ReLU before a quantizer: together they are one quantized ReLU."""
    for node in list(graph.nodes):
        inside = node.kind in _INSIDE
        if not inside and not _is_relu(node):
            continue
        if node.config.get("activation") != "relu" and inside:
            continue
        readers = graph.readers(node.name)
        if len(readers) != 1 or node.name in graph.outputs or readers[0].kind != "QActivation":
            continue
        (after,) = readers
        read = reading(quantizer(after.config["activation"], f"{graph.where}: {after.name!r}"))
        # A single bit beside the sign is all fraction or all integer: not worth the care.
        if read is None or read.halved or read.type.word < 3:
            continue
        kind = read.type
        if kind.signed:
            kind = FixedPoint(kind.word - 1, kind.integer - 1, False)
        after.config["activation"] = text_of(kind)
        if inside:
            node.config["activation"] = "linear"
        else:
            graph.remove(node.name)
        yield node.name, f"its ReLU is in {after.name!r}: {text_of(kind)}", "exact"


def _is_relu(node: Node) -> bool:
    if node.kind == "Activation":
        return bool(node.config.get("activation") == "relu")
    config = node.config
    bent = any(config.get(key) for key in ("max_value", "negative_slope", "threshold"))
    return node.kind == "ReLU" and not bent


def repeated(graph: Graph) -> Iterator[Record]:
    """A quantizer right behind another one all of whose values it keeps."""
    for node in list(graph.nodes):
        if node.kind != "QActivation":
            continue
        before = graph.node(node.sources[0])
        if before.kind != "QActivation":
            continue
        kinds = [
            reading(quantizer(each.config["activation"], f"{graph.where}: {each.name!r}"))
            for each in (before, node)
        ]
        first, second = kinds
        if first is None or second is None or second.halved:
            continue
        given = first.type.integers([first.type.low, first.type.high]).astype(object)
        kept = second.type.requantize(given, first.type.fraction)
        finer = second.type.fraction >= first.type.fraction
        if (
            finer
            and second.type.lsb * kept[0] == first.type.lsb * given[0]
            and (second.type.lsb * kept[1] == first.type.lsb * given[1])
        ):
            graph.remove(node.name)
            yield node.name, f"removed: every value of {before.name!r} passes it as it is", "exact"


def plain(graph: Graph) -> Iterator[Record]:
    """Activations in the words that reload and convert: `quantized_bits`, `quantized_relu`."""
    for node in graph.nodes:
        held = node.config.get("activation")
        if held is None or node.kind not in ("QActivation", *_INSIDE):
            continue
        if isinstance(held, str) and held.partition("(")[0] not in (
            "quantized_bits",
            "quantized_relu",
        ):
            continue
        given = quantizer(held, f"{graph.where}: activation of layer {node.name!r}")
        kind = reading(given)
        if kind is None or kind.halved or kind.type.overflow == "SAT_SYM":
            if isinstance(held, dict) and node.kind == "QActivation":
                node.config["activation"] = quantizer(held, node.name, as_text=True)
            if kind is None:
                yield node.name, f"{given}: scales, slopes and the like stay", "impossible"
            continue
        if type(given).__name__ not in ("quantized_bits", "quantized_relu"):
            continue
        text = text_of(kind.type)
        if not _same(given, text, kind.type):
            yield node.name, f"{given} is not {text} for all values", "impossible"
            continue
        node.config["activation"] = text
        if _reworded(given, text):
            yield node.name, f"{given} is {text}", "exact"


_INSIDE = ("QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QConv2DTranspose")


def _reworded(given: Any, text: str) -> bool:
    """Whether the replacement is more than another spelling."""
    ours = qkeras.get_quantizer(text)
    theirs = given.get_config()
    same = {key: value for key, value in ours.get_config().items() if key in theirs}
    if theirs.get("alpha") is None and "alpha" in same:
        theirs = {**theirs, "alpha": same["alpha"]}
    return type(given) is not type(ours) or any(theirs[key] != same[key] for key in same)


def _same(given: Any, text: str, kind: FixedPoint) -> bool:
    if kind.word > _MOST:
        # Too many values to try: only another spelling of the same class is believed.
        return not _reworded(given, text)
    low, high = kind.bounds
    points = np.arange(4 * min(low, -high) - 16, 4 * high + 17, dtype=np.float64) * (kind.lsb / 4)
    values = points.astype(np.float32)
    ours = qkeras.get_quantizer(text)
    return bool((np.asarray(given(values)) == np.asarray(ours(values))).all())


def symmetric(graph: Graph, grid: FixedPoint | None) -> Iterator[Record]:
    """Symmetric activations as plain ones, where the value that they lack is out of reach.

    Without it they are the same function of everything that can come. What can come is bounded by
    interval arithmetic through the network with all of them replaced: as long as none of them meets
    its lowest value there, the two networks cannot differ.
    """
    found: list[tuple[Node, FixedPoint]] = []
    before: dict[str, Any] = {}
    for node in graph.nodes:
        held = node.config.get("activation")
        if held in (None, "linear") or node.kind not in ("QActivation", *_INSIDE):
            continue
        given = quantizer(held, f"{graph.where}: activation of layer {node.name!r}")
        read = reading(given)
        if read is None or read.halved or read.type.overflow != "SAT_SYM":
            continue
        found.append((node, read.type))
        before[node.name] = held
        tanh = type(given).__name__ == "quantized_tanh"
        text = text_of(replace(read.type, overflow="SAT"))
        node.config["activation"] = f"quantized_tanh({read.type.word})" if tanh else text
    if not found:
        return
    reachable = _reachable(graph, found, grid)
    for node, _ in found:
        if node.name in reachable:
            node.config["activation"] = before[node.name]
            yield node.name, f"symmetric: {reachable[node.name]}", "impossible"
        else:
            text = node.config["activation"]
            yield node.name, f"symmetric no more: its lowest value is out of reach; {text}", "exact"


def _reachable(
    graph: Graph, found: list[tuple[Node, FixedPoint]], grid: FixedPoint | None
) -> dict[str, str]:
    """The layers that may meet their lowest value, and why."""
    from l1kd.networks.to_exact import read

    try:
        network = read(graph.build())
    except CheckFailed:
        return {node.name: "what reaches it is not known" for node, _ in found}
    bound = network.bounds
    sources = {node.name: node.sources for node in network.nodes}
    reachable = {}
    for node, kind in found:
        source = sources[node.name][0]
        if source in graph.inputs:
            if grid is None or replace(kind, overflow="SAT").quantize(grid.low) <= kind.low:
                reachable[node.name] = "events may have its lowest value"
            continue
        met = kind.requantize(bound[source].low, bound[source].fraction)
        lowest = replace(kind, overflow="SAT").requantize(bound[source].low, bound[source].fraction)
        if (met != lowest).any():
            reachable[node.name] = "it may meet its lowest value"
    return reachable
