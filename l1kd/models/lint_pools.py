"""The lint's rules for pooling layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from l1kd.models.lint_graph import PARTS, Graph, kind, own_activation, sides
from l1kd.models.lint_quantizers import Finding

__all__ = ["cells_seen", "channels", "pads", "pool"]

_GLOBAL_2D = ("GlobalMaxPooling2D", "GlobalAveragePooling2D")


def pool(graph: Graph, layer: Any) -> Iterator[Finding]:
    """What is wrong with a pooling layer."""
    yield from channels(graph, layer)
    same = getattr(layer, "padding", "valid") == "same"
    if same and "Max" in kind(layer) and not _signed(graph, graph.parents(layer)[0]):
        yield Finding(
            "padding='same' of unsigned values",
            "hls4ml pads with half of the type's range, not with its lowest value",
            "use padding='valid'",
        )
    if "Average" in kind(layer):
        yield from _quotients(graph, layer)
    if kind(layer) in _GLOBAL_2D and any(
        kind(reader) == "Concatenate" for reader in graph.reached(layer)
    ):
        yield Finding(
            f"{kind(layer)} before Concatenate",
            "hls4ml's exact types of the two have different shapes",
            "put a QActivation between them",
        )


def channels(graph: Graph, layer: Any) -> Iterator[Finding]:
    """What is wrong with where a layer has its channels."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        yield Finding(
            "data_format='channels_first'",
            "hls4ml's exact types know channels last only",
            "build the network with data_format='channels_last'",
        )


def _quotients(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Averages over a number that is no power of two: exact once they are quantized."""
    counts = cells_seen(layer)
    odd = sorted(count for count in counts if count & (count - 1))
    readers = graph.reached(layer)
    if not odd or (readers and all(kind(reader) == "QActivation" for reader in readers)):
        return
    yield Finding(
        f"average of {odd[0]} values without a quantizer behind it",
        "the quotient has no last bit: QKeras rounds it to float32, hls4ml cuts it elsewhere",
        "put a QActivation behind it, or average over a power of two",
    )


def cells_seen(layer: Any) -> set[int]:
    """How many cells the windows of a pooling layer see: several numbers where some are cut."""
    return {int(rows * columns) for rows, columns in itertools.product(*_window_counts(layer))}


def _window_counts(layer: Any) -> list[set[int]]:
    """For rows and columns: how many cells the windows of a pooling layer see."""
    cells = [int(side) for side in layer.input_shape[1:-1]]
    if not hasattr(layer, "pool_size"):
        return [set(cells[:1]), set(cells[1:]) or {1}]
    sizes, steps = sides(layer.pool_size), sides(layer.strides)
    seen = []
    for side, size, step in zip(cells, sizes, steps, strict=True):
        first = -(pads(side, size, step)[0] if layer.padding == "same" else 0)
        last = side if layer.padding == "same" else side - size + 1
        starts = range(first, last, step)
        seen.append({min(start + size, side) - max(start, 0) for start in starts})
    return seen if len(seen) == 2 else [seen[0], {1}]


def pads(side: int, size: int, step: int) -> tuple[int, int]:
    """Cells that `same` adds before and behind: TensorFlow puts the odd one behind."""
    missing = max((-(-side // step) - 1) * step + size - side, 0)
    return missing // 2, missing - missing // 2


def _signed(graph: Graph, layer: Any) -> bool:
    """Whether hls4ml gives a layer's output a sign."""
    name = kind(layer)
    if name in ("InputLayer", "Subtract"):
        return True
    quantizer = layer.quantizer if name == "QActivation" else own_activation(layer)
    if quantizer is not None:
        return type(quantizer).__name__ not in ("quantized_relu", "quantized_sigmoid")
    if name in PARTS and any((np.asarray(values) < 0).any() for values in layer.get_weights()):
        return True
    return any(_signed(graph, parent) for parent in graph.parents(layer))
