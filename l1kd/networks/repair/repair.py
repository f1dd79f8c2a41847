"""What can be made exact is made exact: other people's trained networks, ready for the lint.

Each repair is recorded with its layer and its kind:

exact
    The network gives the same value for every event on the data's grid.
settled
    It gives the value that its quantizers define, where QKeras' float32 arithmetic missed it.
lossy
    It gives another value; only on request. What it costs has to be measured.
offered
    A lossy repair that was not asked for.
impossible
    Nothing is known that would give the same values. The lint says whether it can stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow import keras

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RepairKind
from l1kd.networks.layer_graph import Graph, Node
from l1kd.networks.quantizers import text_of
from l1kd.networks.repair import activations, batch_norm, input_port
from l1kd.networks.repair.weights import MOST, SLOTS, on_a_grid, plain_grid, requantized, settled

_IDLE = {  # layers that do nothing in inference
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
}
_NORMALISATIONS = ("BatchNormalization", "QBatchNormalization")
# Bits of weights that are rounded to a grid of their own: what it costs in quality is little.
_KERNEL, _BIAS = 16, 18


@dataclass(frozen=True)
class Repair:
    """What was done to a layer, could be done, or cannot; see the module for the kinds."""

    layer: str
    what: str
    kind: RepairKind


@dataclass(frozen=True)
class Repaired:
    """A network and what was done to it."""

    model: keras.Model
    repairs: list[Repair]

    @property
    def exact(self) -> bool:
        """Whether it gives what the network it was made of gives, event by event."""
        return not any(each.kind in ("settled", "lossy") for each in self.repairs)


class _Repairer:
    """The graph of a network under repair, and the record."""

    def __init__(self, graph: Graph, lossy: bool) -> None:
        self.graph, self.lossy = graph, lossy
        self.repairs: list[Repair] = []

    def record(self, layer: str, what: str, kind: RepairKind = "exact") -> None:
        self.repairs.append(Repair(layer, what, kind))

    def idle_layers(self) -> None:
        for node in list(self.graph.nodes):
            if node.kind in _IDLE:
                self.graph.remove(node.name)
                self.record(node.name, f"{node.kind} removed: it does nothing in inference")
            elif node.kind in ("Activation", "QActivation") and _linear(node):
                self.graph.remove(node.name)
                self.record(node.name, "linear activation removed")

    def folded(self) -> None:
        for name in batch_norm.fold_own(self.graph):
            self.record(name, "its own batch normalisation folded into its weights, as it defines")

    def weights(self) -> None:
        model = self.graph.build()
        for node in self.graph.nodes:
            if node.kind in SLOTS and node.weights:
                self._settle(node, model.get_layer(node.name))

    def _settle(self, node: Node, layer: Any) -> None:
        slots = SLOTS[node.kind][: len(node.weights)]
        said: list[str] = []
        strayed = 0
        for place, slot in enumerate(slots):
            quantizer = getattr(layer, f"{slot}_quantizer_internal", None)
            stored = node.weights[place]
            found = settled(quantizer, stored) if quantizer is not None else None
            if found is None:
                self._on_some_grid(node, place, slot, quantizer)
                continue
            strayed += found.strayed
            before = str(quantizer)
            if found.text is not None and _differs(quantizer, found.text):
                said.append(f"{slot} {before} -> {found.text}")
            if found.text is not None:
                node.config[f"{slot}_quantizer"] = found.text
            node.weights[place] = found.values.astype(np.float32)
        moved = any(
            (np.asarray(old) != new).any()
            for old, new in zip(layer.get_weights(), node.weights, strict=True)
        )
        if said:
            self.record(node.name, f"weights keep their values on a plain grid: {'; '.join(said)}")
        if strayed:
            self.record(
                node.name,
                f"{strayed} weights so far out of their range that float32 left the grid are on it",
                "settled",
            )
        elif moved and not said:
            self.record(node.name, "weights stored as the values that their quantizers give")

    def _on_some_grid(self, node: Node, place: int, slot: str, quantizer: Any) -> None:
        """Weights without a quantizer, or with one whose values are on no grid."""
        stored = np.asarray(node.weights[place], np.float32)
        given = stored if quantizer is None else np.asarray(quantizer(stored))
        why = "has no quantizer" if quantizer is None else f"is on no binary grid: {quantizer}"
        kind = on_a_grid(given)
        bits = _BIAS if slot == "bias" else _KERNEL
        if kind is not None and plain_grid(kind).word <= min(bits, MOST):
            text = text_of(plain_grid(kind))
            node.config[f"{slot}_quantizer"] = text
            node.weights[place] = given
            self.record(node.name, f"its {slot} {why}; all its values are on that of {text}")
        elif self.lossy:
            wide = requantized(given, bits)
            node.config[f"{slot}_quantizer"] = text_of(wide)
            node.weights[place] = wide.quantize(given).astype(np.float32)
            self.record(node.name, f"its {slot} {why}; rounded to {text_of(wide)}", "lossy")
        else:
            self.record(node.name, f"its {slot} {why}; it can be rounded to {bits} bits", "offered")

    def normalisations(self) -> None:
        """Batch normalisations that are layers of their own, into the layer before them."""
        found = [node for node in self.graph.nodes if node.kind in _NORMALISATIONS]
        if not found:
            return
        model = self.graph.build()
        for node in found:
            (source,) = node.sources
            before = self.graph.node(source)
            layer = model.get_layer(node.name)
            obstacle = self._obstacle(before)
            if list(layer.axis) != [len(layer.input_shape) - 1]:
                obstacle = "of another axis than the channels"
            if obstacle:
                self.record(node.name, f"a batch normalisation {obstacle}", "impossible")
            elif not self.lossy:
                self.record(
                    node.name,
                    f"can be folded into {source!r}, whose weights are rounded",
                    "offered",
                )
            else:
                self._fold(node, before, layer)

    def _obstacle(self, before: Node) -> str:
        if before.kind not in SLOTS or "Separable" in before.kind or "Transpose" in before.kind:
            return f"behind {before.name!r}, which is no quantized dense layer or convolution"
        if before.config.get("activation") not in (None, "linear"):
            return f"behind the activation inside of {before.name!r}"
        if len(self.graph.readers(before.name)) > 1:
            return f"behind {before.name!r}, which others read too"
        if any(not before.config.get(f"{slot}_quantizer") for slot in SLOTS[before.kind][:1]):
            return f"behind {before.name!r}, which has no quantized weights"
        return ""

    def _fold(self, node: Node, before: Node, layer: Any) -> None:
        if node.kind == "QBatchNormalization":
            node.weights = [
                np.asarray(quantizer(weight)) if quantizer is not None else weight
                for quantizer, weight in _quantized_statistics(layer)
            ]
        scale, shift = batch_norm.scale_and_shift(node)
        first = SLOTS[before.kind][0]
        kernel = np.asarray(before.weights[0], np.float64)
        bias = np.asarray(before.weights[1], np.float64) if len(before.weights) > 1 else 0.0
        by_channel = scale.reshape(kernel.shape[2:]) if first == "depthwise" else scale
        kernel, bias = kernel * by_channel, bias * scale + shift
        kernel_type, bias_type = requantized(kernel, _KERNEL), requantized(bias, _BIAS)
        before.weights = [
            kernel_type.quantize(kernel).astype(np.float32),
            bias_type.quantize(bias).astype(np.float32),
        ]
        before.config |= {
            f"{first}_quantizer": text_of(kernel_type),
            "bias_quantizer": text_of(bias_type),
            "use_bias": True,
        }
        self.graph.remove(node.name)
        self.record(
            node.name,
            f"folded into {before.name!r}, whose weights are rounded to {text_of(kernel_type)} and "
            f"{text_of(bias_type)}",
            "lossy",
        )


def repair(
    model: keras.Model,
    *,
    grid: FixedPoint | None = None,
    shape: tuple[int, ...] | None = None,
    lossy: bool = False,
    name: str | None = None,
) -> Repaired:
    """Make exact what can be made exact; the model that is given stays as it is.

    Parameters
    ----------
    model
        Any network of Keras and QKeras layers that `l1kd.load_model` would read.
    grid
        The fixed-point type of its events. Without it, a network that has no quantizer at its
        input does not get one.
    shape
        Of one event, where it is not the network's: flat events for a network that reads images,
        or the other way round.
    lossy
        Also do what changes the network's values: a batch normalisation that is a layer of its own
        is folded, weights that are on no grid are rounded.
    name
        Of the network that is returned, where it is not to keep its own.

    Returns
    -------
    Repaired
        What is left for `l1kd.networks.lint.check` to judge.

    Raises
    ------
    UserError
        If the model holds layers that are not on the list, or cannot read events of that shape.
    """
    work = _Repairer(Graph.of(model), lossy)
    graph = work.graph
    graph.name = re.sub(r"\W", "_", name or graph.name)
    work.idle_layers()
    work.folded()
    work.weights()
    work.normalisations()
    for step in (
        activations.averages(graph),
        activations.rectified(graph),
        activations.plain(graph),
        input_port.shaped(graph, shape),
        input_port.port(graph, grid),
        activations.repeated(graph),
        activations.symmetric(graph, grid),
    ):
        for layer, what, kind in step:
            work.record(layer, what, kind)
    return Repaired(graph.build(), work.repairs)


def _linear(node: Node) -> bool:
    return node.config.get("activation") in (None, "linear")


def _differs(quantizer: Any, text: str) -> bool:
    import qkeras

    ours = qkeras.get_quantizer(text).get_config()
    return (
        any(
            float(theirs) != float(ours[key])
            if isinstance(theirs, (int, float))
            else theirs != ours[key]
            for key, theirs in quantizer.get_config().items()
            if key in ours and not (key == "alpha" and theirs is None)
        )
        or type(quantizer).__name__ != "quantized_bits"
    )


def _quantized_statistics(layer: Any) -> list[tuple[Any, Any]]:
    """A QBatchNormalization's quantizers with its weights."""
    names = ["gamma"] * bool(layer.scale) + ["beta"] * bool(layer.center) + ["mean", "variance"]
    quantizers = [getattr(layer, f"{name}_quantizer_internal") for name in names]
    return list(zip(quantizers, layer.get_weights(), strict=True))
