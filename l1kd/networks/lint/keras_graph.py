"""Connections of a built Keras network, for the lint."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow import keras

# Layers with quantized weights, and what their quantizers are called.
PARTS = {
    "QDense": ("kernel", "bias"),
    "QConv1D": ("kernel", "bias"),
    "QConv2D": ("kernel", "bias"),
    "QDepthwiseConv2D": ("depthwise", "bias"),
    "QSeparableConv1D": ("depthwise", "pointwise", "bias"),
    "QSeparableConv2D": ("depthwise", "pointwise", "bias"),
}
# Layers that hand values on as they are, in the same order or another.
SAME = frozenset({"Flatten", "Reshape", "Permute", "Dropout"})
DROPOUT = frozenset({"Dropout"})  # the layers that hls4ml's graph does not have


def kind(layer: Any) -> str:
    """The name of a layer's class."""
    return type(layer).__name__


@dataclass(frozen=True)
class Graph:
    """The layers of a network and their connections."""

    layers: tuple[Any, ...]  # each after the layers that it reads
    # By a layer's name: the layers that it reads, call by call (a shared layer has several calls).
    calls: dict[str, list[list[Any]]]
    # By a layer's name: the layers that read it, as often as they do.
    readers: dict[str, list[Any]]

    @classmethod
    def of(cls, model: keras.Model) -> Graph:
        used = getattr(model, "_network_nodes", None)
        calls: dict[str, list[list[Any]]] = {}
        layers = []
        for layer in getattr(model, "_self_tracked_trackables", model.layers):
            if layer.name in calls or not hasattr(layer, "inbound_nodes"):
                continue
            layers.append(layer)
            calls[layer.name] = [
                [parent.layer for parent in node.parent_nodes]
                for place, node in enumerate(layer.inbound_nodes)
                if used is None or f"{layer.name}_ib-{place}" in used
            ]
        readers: dict[str, list[Any]] = {name: [] for name in calls}
        for layer in layers:
            for call in calls[layer.name]:
                for parent in call:
                    readers.setdefault(parent.name, []).append(layer)
        return cls(tuple(layers), calls, readers)

    def parents(self, layer: Any) -> list[Any]:
        """The layers that a layer reads, in the order of its arguments; in its first call."""
        calls = self.calls[layer.name]
        return calls[0] if calls else []

    def source(self, layer: Any, through: Set[str] = SAME) -> Any:
        """The one layer that a layer reads, seen through some kinds, or None."""
        parents = self.parents(layer)
        while len(parents) == 1 and kind(parents[0]) in through:
            parents = self.parents(parents[0])
        return parents[0] if len(parents) == 1 else None

    def reached(self, layer: Any, through: Set[str] = SAME) -> list[Any]:
        """The layers that read a layer, seen through some kinds."""
        found = []
        for reader in self.readers[layer.name]:
            found += self.reached(reader, through) if kind(reader) in through else [reader]
        return found

    def is_port(self, layer: Any) -> bool:
        """True for a quantizer that reads the network's input."""
        return kind(layer) == "QActivation" and kind(self.source(layer)) == "InputLayer"


def weights_of(layer: Any) -> list[tuple[str, Any, NDArray[Any]]]:
    """Names of a layer's weights as in `PARTS`, their quantizers (or None), stored values."""
    parts = zip(PARTS.get(kind(layer), ()), layer.get_weights(), strict=False)
    return [
        (part, getattr(layer, f"{part}_quantizer_internal", None), np.asarray(values))
        for part, values in parts
    ]


def own_activation(layer: Any) -> Any:
    """The activation inside a layer, None if it is linear."""
    activation = getattr(layer, "activation", None)
    if activation is None or kind(layer) not in PARTS:
        return None
    return None if getattr(activation, "__name__", "") == "linear" else activation


def sides(value: Any) -> tuple[int, ...]:
    """An argument that is one number or several, as several."""
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)


def pads(side: int, size: int, step: int) -> tuple[int, int]:
    """Cells that `same` adds before and behind: TensorFlow puts the odd one behind."""
    missing = max((-(-side // step) - 1) * step + size - side, 0)
    return missing // 2, missing - missing // 2


def cells_seen(layer: Any) -> set[int]:
    """Numbers of cells that windows of a pooling layer see: several where some are cut."""
    cells = [int(side) for side in layer.input_shape[1:-1]]
    if not hasattr(layer, "pool_size"):
        return {int(np.prod(cells))}
    found = {1}
    for side, size, step in zip(cells, sides(layer.pool_size), sides(layer.strides), strict=True):
        same = layer.padding == "same"
        starts = range(-pads(side, size, step)[0] * same, side if same else side - size + 1, step)
        seen = {min(start + size, side) - max(start, 0) for start in starts}
        found = {rows * columns for rows in found for columns in seen}
    return found
