"""Connections of a built Keras network, for the lint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
_SAME = {"Flatten", "Reshape", "Permute", "Dropout"}


@dataclass(frozen=True)
class Problem:
    """A construct that does not convert exactly.

    Attributes
    ----------
    layer
        Name of the layer; the network's if it is not about one layer.
    construct
        As in the network's code: `quantized_bits(symmetric=1)`.
    reason
        The result of hls4ml.
    remedy
        The change that removes the problem.
    """

    layer: str
    construct: str
    reason: str
    remedy: str


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
                _parents(node)
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

    def source(self, layer: Any) -> Any:
        """The one layer that a layer reads, seen through reshapes and Dropout, or None."""
        return self._before(layer, _SAME)

    def before(self, layer: Any) -> Any:
        """The one layer that a layer reads in hls4ml's graph, which has no Dropout, or None."""
        return self._before(layer, {"Dropout"})

    def _before(self, layer: Any, through: set[str]) -> Any:
        parents = self.parents(layer)
        while len(parents) == 1 and kind(parents[0]) in through:
            parents = self.parents(parents[0])
        return parents[0] if len(parents) == 1 else None

    def reached(self, layer: Any) -> list[Any]:
        """The layers that read a layer, seen through reshapes and Dropout."""
        return self._after(layer, _SAME)

    def after(self, layer: Any) -> list[Any]:
        """The layers that read a layer in hls4ml's graph."""
        return self._after(layer, {"Dropout"})

    def _after(self, layer: Any, through: set[str]) -> list[Any]:
        found = []
        for reader in self.readers[layer.name]:
            found += self._after(reader, through) if kind(reader) in through else [reader]
        return found

    def is_port(self, layer: Any) -> bool:
        """True for a quantizer that reads the network's input."""
        return kind(layer) == "QActivation" and kind(self.source(layer)) == "InputLayer"


def _parents(node: Any) -> list[Any]:
    found = node.inbound_layers
    if isinstance(found, (list, tuple)):
        return list(found)
    return [] if found is None else [found]


def own_activation(layer: Any) -> Any:
    """The activation inside a layer, None if it is linear."""
    activation = getattr(layer, "activation", None)
    if activation is None or kind(layer) not in PARTS:
        return None
    return None if getattr(activation, "__name__", "") == "linear" else activation


def sides(value: Any) -> tuple[int, ...]:
    """An argument that is one number or several, as several."""
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)
