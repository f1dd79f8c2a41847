"""Reads a QKeras network into exact arithmetic, as its configuration and weights *define* it.

QKeras computes in float32 and can be off that definition; `doubts` says where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.errors import CheckFailed
from l1kd.exact import layers as exact
from l1kd.exact.arithmetic import NO_PADS, Pads
from l1kd.exact.layers import Node
from l1kd.exact.network import Network, beyond_float32
from l1kd.networks.lint import check as lint
from l1kd.networks.quantizers import Settled, reading, settled


def read(model: keras.Model) -> Network:
    """The exact network of a QKeras model.

    Every layer of the model is a node of its name, with the same output. A layer with an activation
    of its own is two: `<name>:sums` and `<name>`.

    Parameters
    ----------
    model
        A Functional or Sequential model that `check` accepts.

    Returns
    -------
    Network
        Pure NumPy; it keeps no reference to the model.

    Raises
    ------
    CheckFailed
        If the lint refuses the model, or it has more than one input or output, averages of another
        number of values than a power of two, or a quantizer that always gives 0.
    """
    lint.demand(model)
    if problem := beyond(model):
        raise CheckFailed(problem.refusal(model))
    graph = lint.Graph.of(model)
    nodes = [node for layer in graph.layers for node in _nodes(graph, layer)]
    network = Network(model.name, tuple(nodes), tuple(model.output_names))
    for node in network.nodes:
        if not isinstance(node, exact.Quantize) or node.halved:
            continue
        source = network.bounds[node.sources[0]].type
        # Its rounding looks at a bit that the sums do not have.
        if source.fraction - node.type.fraction > source.word:
            raise CheckFailed(
                f"{network.name}: layer {node.name!r}, steps of {node.type.lsb:g}: its input "
                f"({source.text}) is always rounded to 0, and hls4ml's C simulation stops at it; "
                "use more fraction bits"
            )
    return network


def beyond(model: keras.Model) -> lint.Problem | None:
    """The first construct that hls4ml converts exactly and l1kd does not, so the lint is silent."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return lint.Problem(
            model.name,
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "a project of l1kd has one port for events and one for scores",
            "concatenate them, or convert a network for each",
        )
    for layer in lint.Graph.of(model).layers:
        if "Average" in lint.kind(layer) and "Pool" in lint.kind(layer):
            counts = lint.cells_seen(layer)
            if len(counts) > 1 or any(count & (count - 1) for count in counts):
                return lint.Problem(
                    layer.name,
                    f"averages of {', '.join(map(str, sorted(counts)))} values",
                    "a quotient without a last bit is no fixed-point number, in float32 neither",
                    "average over a power of two, without padding, or sum with an AxisSum",
                )
    return None


def doubts(model: keras.Model, network: Network | None = None) -> dict[str, str]:
    """Layers that QKeras' float32 may not compute exactly, with the reason."""
    found = beyond_float32(network or read(model))
    for layer in model.layers:
        for name, weights in _settled_weights(layer).items():
            if off := int(weights.strayed.sum()):
                found.setdefault(
                    layer.name,
                    f"{off} of {weights.values.size} values of its {name} lie so far out of their "
                    "quantizer's range that QKeras' float32 leaves the grid",
                )
    return {name.partition(":")[0]: reason for name, reason in found.items()}


def call_back(model: keras.Model) -> None:
    """Set weights that QKeras' float32 leaves off their grid to their quantizer's values."""
    for layer in model.layers:
        own, stored = _settled_weights(layer), layer.get_weights()
        if own and len(own) == len(stored):
            pairs = zip(own.values(), stored, strict=True)
            layer.set_weights([np.where(w.strayed, w.values, latent) for w, latent in pairs])


def _settled_weights(layer: Any) -> dict[str, Settled]:
    """A layer's quantized weights by name; the lint has seen to it that they are on grids."""
    found = {}
    for name, quantizer, stored in lint.weights_of(layer):
        if quantizer is not None and (own := settled(quantizer, stored)) is not None:
            found[name] = own
    return found


def weight_counts(weights: Settled) -> tuple[NDArray[np.int64], int]:
    """Quantized weights as counts, and the lowest fraction that all of them allow."""
    counts = weights.type.integers(weights.values)
    present = int(np.bitwise_or.reduce(np.abs(counts), axis=None)) if counts.size else 0
    if not present:
        return counts, 0
    spare = (present & -present).bit_length() - 1
    return counts >> spare, weights.type.fraction - spare


def _nodes(graph: lint.Graph, layer: Any) -> list[Node]:
    shape = layer.output_shape  # of an input layer, in a list
    shape = tuple(int(side) for side in (shape[0] if isinstance(shape, list) else shape)[1:])
    sources = tuple(parent.name for parent in graph.parents(layer))
    place = {"name": layer.name, "sources": sources, "shape": shape}
    if lint.kind(layer) == "InputLayer":
        (port,) = graph.reached(layer)  # the lint has seen to it
        return [exact.Input(type=_quantize(port.quantizer, place).type, **place)]
    return READERS[lint.kind(layer)](layer, place)


def _quantize(quantizer: Any, place: Any) -> exact.Quantize:
    found = reading(quantizer)
    assert found is not None  # the lint has seen to it
    return exact.Quantize(type=found.type, halved=found.halved, **place)


def _activated(layer: Any, node: type[Node], weights: dict[str, Any], place: Any) -> list[Node]:
    """A layer of sums, and the quantizer inside of it if there is one."""
    if (activation := lint.own_activation(layer)) is None:
        return [node(**weights, **place)]
    sums = {**place, "name": f"{layer.name}:sums"}
    behind = {**place, "sources": (sums["name"],)}
    relu = getattr(activation, "__name__", "") == "relu"
    last = exact.Rectify(**behind) if relu else _quantize(activation, behind)
    return [node(**weights, **sums), last]


def _weights(layer: Any, of: str = "kernel", *, bias: bool = True) -> dict[str, Any]:
    """A kernel and the bias as a node has them."""
    counted = {name: weight_counts(own) for name, own in _settled_weights(layer).items()}
    kernel, fraction = counted[of]
    if kernel.ndim == 3:
        kernel = kernel[None]  # a sequence is an image of height 1
    if of == "depthwise":  # as a convolution's: filters that see one channel each
        apart = np.eye(kernel.shape[2], dtype=np.int64)
        kernel = np.einsum("hwik,io->hwiok", kernel, apart).reshape(*kernel.shape[:3], -1)
    none = np.zeros(kernel.shape[-1], np.int64), 0
    own, own_fraction = counted.get("bias", none) if bias else none
    found = {"kernel": kernel, "kernel_fraction": fraction}
    return {**found, "bias": own, "bias_fraction": own_fraction}


def _sliding(layer: Any, of: str = "kernel", *, bias: bool = True) -> dict[str, Any]:
    """Weights, strides, dilation and padding of a convolution."""
    weights, strides, dilation = _weights(layer, of, bias=bias), layer.strides, layer.dilation_rate
    padding = _padding(layer, weights["kernel"].shape[:2], _pair(strides), _pair(dilation))
    moved = {"strides": _pair(strides), "dilation": _pair(dilation), "padding": padding}
    return {**weights, **moved}


def _affine(layer: Any, place: Any) -> list[Node]:
    if lint.kind(layer) == "QDense":
        return _activated(layer, exact.Dense, _weights(layer), place)
    of = "depthwise" if "Depthwise" in lint.kind(layer) else "kernel"
    return _activated(layer, exact.Conv, _sliding(layer, of), place)


def _separable(layer: Any, place: Any) -> list[Node]:
    """Channel by channel, then across channels; nothing is quantized in between."""
    first = _sliding(layer, "depthwise", bias=False)
    name, shape = layer.name + ":depthwise", (*place["shape"][:-1], first["kernel"].shape[-1])
    depthwise = exact.Conv(**first, **{**place, "name": name, "shape": shape})
    second = {**_weights(layer, "pointwise"), "strides": (1, 1)}
    return [depthwise, *_activated(layer, exact.Conv, second, {**place, "sources": (name,)})]


def _pool(layer: Any, place: Any) -> list[Node]:
    place = {**place, "operation": "max" if "Max" in lint.kind(layer) else "average"}
    if lint.kind(layer).startswith("Global"):
        window = _pair(layer.input_shape[1:-1])
        return [exact.Pool(window=window, strides=window, **place)]
    window, strides = _pair(layer.pool_size), _pair(layer.strides)
    padding = _padding(layer, window, strides, (1, 1))
    return [exact.Pool(window=window, strides=strides, padding=padding, **place)]


def _merge(layer: Any, place: Any) -> list[Node]:
    operation: Any = lint.kind(layer).lower()
    axis = getattr(layer, "axis", -1)
    return [exact.Merge(operation=operation, axis=axis - 1 if axis > 0 else axis, **place)]


def _pair(value: Any) -> tuple[int, int]:
    """Height and width; a sequence is an image of height 1."""
    *first, last = map(int, lint.sides(value))
    return (first[0] if first else 1), last


def _padding(
    layer: Any, window: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """Cells added at each side."""
    if layer.padding == "valid":
        return NO_PADS
    found, image = [], _pair(layer.input_shape[1:-1])
    for size, step, apart, cells in zip(window, strides, dilation, image, strict=True):
        reach = (size - 1) * apart + 1
        found.append((reach - 1, 0) if layer.padding == "causal" else lint.pads(cells, reach, step))
    return (found[0], found[1])


# One for every class that the lint accepts.
READERS: dict[str, Callable[[Any, Any], list[Node]]] = {
    "QActivation": lambda layer, place: [_quantize(layer.quantizer, place)],
    **dict.fromkeys(("QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D"), _affine),
    **{
        f"{whole}{operation}Pooling{rank}D": _pool
        for whole in ("", "Global")
        for operation in ("Max", "Average")
        for rank in (1, 2)
    },
    **dict.fromkeys(("QSeparableConv1D", "QSeparableConv2D"), _separable),
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"), _merge
    ),
    "Activation": lambda layer, place: [
        (exact.Rectify if layer.activation.__name__ == "relu" else exact.Reshape)(**place)
    ],
    "AxisSum": lambda layer, place: [exact.Sum(axes=tuple(a - 1 for a in layer.axes), **place)],
    "LeakyReLU": lambda layer, place: [exact.Rectify(shift=int(-np.log2(layer.alpha)), **place)],
    "Permute": lambda layer, place: [exact.Permute(axes=tuple(a - 1 for a in layer.dims), **place)],
    "ReLU": lambda layer, place: [exact.Rectify(**place)],
    **dict.fromkeys(
        ("Flatten", "Reshape", "Dropout"), lambda layer, place: [exact.Reshape(**place)]
    ),
}
