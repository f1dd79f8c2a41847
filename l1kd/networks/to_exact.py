"""From a QKeras network to the same network in exact arithmetic.

What is read is the network that its configuration and weights *define*: every weight the value that
its quantizer's type makes of the stored one. QKeras itself computes in float32 and can be off that
definition; `doubts` says where.

What hls4ml converts exactly and l1kd does not, or not yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from l1kd.core.errors import CheckFailed
from l1kd.exact import network as graph
from l1kd.networks.lint.keras_graph import Graph, Problem
from l1kd.networks.lint.layer_rules import cells_seen

if TYPE_CHECKING:
    from tensorflow import keras
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.float32_limits import beyond_float32
from l1kd.networks.lint.keras_graph import PARTS
from l1kd.networks.quantizers import reading
from l1kd.networks.repair.weights import on_a_grid, settled


def check_steps(network: graph.Network) -> None:
    """Refuse a quantizer whose step lies above all bits of what it is given: it gives 0.

    hls4ml's C simulation stops at it, for its rounding looks at a bit that the sums do not have.
    """
    for node in network.nodes:
        if not isinstance(node, graph.Quantize) or node.halved:
            continue
        source = network.bounds[node.sources[0]].type
        if source.fraction - node.type.fraction > source.word:
            raise CheckFailed(
                f"{network.name}: layer {node.name!r}, steps of {node.type.lsb:g}: its input "
                f"({source.text}) is always rounded to 0, and hls4ml's C simulation stops at it; "
                "use more fraction bits"
            )


def beyond(model: keras.Model) -> Problem | None:
    """What hls4ml converts exactly and l1kd does not: the first of it, None if there is nothing.

    These are no faults of hls4ml, so that the lint does not name them.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return Problem(
            model.name,
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "a project of l1kd has one port for events and one for scores",
            "concatenate them, or convert a network for each",
        )
    layers = Graph.of(model)
    for layer in layers.layers:
        if "Average" in type(layer).__name__ and "Pool" in type(layer).__name__:
            counts = cells_seen(layer)
            if len(counts) > 1 or any(count & (count - 1) for count in counts):
                return Problem(
                    layer.name,
                    f"averages of {', '.join(map(str, sorted(counts)))} values",
                    "a quotient without a last bit is no fixed-point number, in float32 neither",
                    "average over a power of two, without padding",
                )
    return None


_SUMS = ":sums"  # what a layer with an activation of its own computes before it


def read(model: keras.Model) -> graph.Network:
    """The exact network of a QKeras model.

    Every layer of the model is a node of its name, with the same output. A layer with an activation
    of its own is two: `<name>:sums` and `<name>`.

    Raises
    ------
    CheckFailed
        If the lint refuses the model.
    """
    from l1kd.networks.lint.check import demand

    demand(model)
    if problem := beyond(model):
        raise CheckFailed(
            f"{model.name}: layer {problem.layer!r}, {problem.construct}: {problem.reason}; "
            f"{problem.remedy}"
        )
    layers = Graph.of(model)
    nodes: list[graph.Node] = []
    for layer in layers.layers:
        nodes += _nodes(layers, layer)
    network = graph.Network(model.name, tuple(nodes), tuple(model.output_names))
    check_steps(network)
    return network


def doubts(model: keras.Model, network: graph.Network | None = None) -> dict[str, str]:
    """Layers that QKeras' float32 arithmetic may not compute exactly, each with the reason.

    Firmware of these layers can be right where QKeras is not. Everywhere else QKeras equals the
    exact network, bit for bit.
    """
    network = network or read(model)
    found = beyond_float32(network)
    for layer in model.layers:
        for name, quantizer, stored in _quantized_weights(layer):
            counts, fraction = weight_counts(quantizer, stored)
            theirs = np.asarray(quantizer(stored.astype(np.float32)), np.float64)
            off = int(np.sum(theirs != counts * 2.0**-fraction))
            if off:
                found.setdefault(
                    layer.name,
                    f"{off} of {stored.size} values of its {name} lie so far out of their "
                    "quantizer's range that QKeras' float32 leaves the grid",
                )
    return {name.partition(":")[0]: reason for name, reason in found.items()}


def call_back(model: keras.Model) -> None:
    """Set weights that QKeras' float32 leaves off their grid to what their quantizer means.

    No other weight changes: the latent ones are what the network without quantizers is made of.
    """
    for layer in model.layers:
        given = {name: (quantizer, stored) for name, quantizer, stored in _quantized_weights(layer)}
        if not given:
            continue
        called = []
        for quantizer, stored in given.values():
            counts, fraction = weight_counts(quantizer, stored)
            exact = (counts * 2.0**-fraction).astype(np.float32)
            theirs = np.asarray(quantizer(stored.astype(np.float32)))
            called.append(np.where(theirs == exact, stored, exact))
        if len(called) == len(layer.get_weights()):
            layer.set_weights(called)


def weight_counts(quantizer: Any, stored: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """What a weight quantizer makes of stored weights: counts, and their fraction.

    The fraction is the lowest that all of them allow: a sum of coarse weights is no wider than it
    has to be.
    """
    kind = reading(quantizer)
    if kind is not None and not kind.halved:
        return _reduced(kind.type.integers(kind.type.quantize(stored)), kind.type.fraction)
    found = settled(quantizer, stored)
    if found is None:
        raise ValueError(f"the values of {quantizer} are on no grid")
    grid = on_a_grid(found.values)
    if grid is None:
        raise ValueError(f"the values of {quantizer} are on no grid")
    return _reduced(grid.integers(found.values), grid.fraction)


def _reduced(counts: NDArray[np.int64], fraction: int) -> tuple[NDArray[np.int64], int]:
    """The same with no more fraction bits than they need."""
    present = int(np.bitwise_or.reduce(np.abs(counts), axis=None)) if counts.size else 0
    if not present:
        return counts, 0
    spare = (present & -present).bit_length() - 1
    return counts >> spare, fraction - spare


def _nodes(layers: Graph, layer: Any) -> list[graph.Node]:
    kind = type(layer).__name__
    sources = tuple(parent.name for parent in layers.parents(layer))
    shape = tuple(int(side) for side in _shape(layer.output_shape)[1:])
    place = {"name": layer.name, "sources": sources, "shape": shape}
    if kind == "InputLayer":
        (port,) = layers.reached(layer)  # the lint has seen to it
        return [graph.Input(type=_type(port.quantizer), **place)]
    return _READERS[kind](layer, place)


def _shape(shape: Any) -> tuple[Any, ...]:
    # An input layer's is wrapped in a list.
    return tuple(shape[0]) if isinstance(shape, list) else tuple(shape)


def _type(quantizer: Any) -> FixedPoint:
    kind = reading(quantizer)
    assert kind is not None  # the lint has seen to it
    return kind.type


def _activated(layer: Any, node: Callable[[dict[str, Any]], graph.Node], place: Any) -> list[Any]:
    """A layer of sums, and the quantizer inside of it if there is one."""
    activation = getattr(layer, "activation", None)
    if activation is None or getattr(activation, "__name__", "") == "linear":
        return [node(place)]
    sums = {**place, "name": layer.name + _SUMS}
    if getattr(activation, "__name__", "") == "relu":
        return [node(sums), graph.Rectify(**{**place, "sources": (sums["name"],)})]
    return [node(sums), _quantize(activation, {**place, "sources": (sums["name"],)})]


def _quantize(quantizer: Any, place: Any) -> graph.Quantize:
    kind = reading(quantizer)
    assert kind is not None
    return graph.Quantize(type=kind.type, halved=kind.halved, **place)


def _quantized_weights(layer: Any) -> list[tuple[str, Any, NDArray[Any]]]:
    """Name, quantizer and stored values of a layer's quantized weights."""
    found = []
    parts = PARTS.get(type(layer).__name__, ())
    for name, weights in zip(parts, layer.get_weights(), strict=False):
        quantizer = getattr(layer, f"{name}_quantizer_internal", None)
        if quantizer is not None:
            found.append((name, quantizer, weights))
    return found


def _weights(layer: Any, *, of: str | None = None, bias: bool = True) -> dict[str, Any]:
    """A kernel (the first one, or that of a name) and the bias, as a node has them."""
    counted = {
        name: weight_counts(quantizer, stored)
        for name, quantizer, stored in _quantized_weights(layer)
    }
    kernel, fraction = counted[of or next(iter(counted))]
    nothing = (np.zeros(kernel.shape[-1], np.int64), 0)
    biases, bias_fraction = counted.get("bias", nothing) if bias else nothing
    return {
        "kernel": kernel,
        "kernel_fraction": fraction,
        "bias": biases,
        "bias_fraction": bias_fraction,
    }


def _dense(layer: Any, place: Any) -> list[graph.Node]:
    return _activated(layer, lambda at: graph.Dense(**_weights(layer), **at), place)


def _conv(layer: Any, place: Any) -> list[graph.Node]:
    weights = _weights(layer)
    kernel = weights["kernel"]
    weights["kernel"] = kernel[None] if kernel.ndim == 3 else kernel
    return _convolution(layer, weights, place)


def _depthwise(layer: Any, place: Any) -> list[graph.Node]:
    return _convolution(layer, _by_channel(_weights(layer)), place)


def _by_channel(weights: dict[str, Any]) -> dict[str, Any]:
    """As a convolution whose filters see one channel each."""
    kernel = weights["kernel"]
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    height, width, channels, copies = kernel.shape
    full = np.zeros((height, width, channels, channels * copies), np.int64)
    for channel in range(channels):
        full[:, :, channel, channel * copies : (channel + 1) * copies] = kernel[:, :, channel]
    bias = weights["bias"]
    if bias.shape != (channels * copies,):
        bias = np.zeros(channels * copies, np.int64)
    return {**weights, "kernel": full, "bias": bias}


def _separable(layer: Any, place: Any) -> list[graph.Node]:
    """Channel by channel, then across channels; nothing is quantized in between."""
    first = _by_channel(_weights(layer, of="depthwise", bias=False))
    second = _weights(layer, of="pointwise")
    kernel = second["kernel"]
    second["kernel"] = kernel[None] if kernel.ndim == 3 else kernel
    strides, dilation = _pair(layer.strides), _pair(layer.dilation_rate)
    padding = _padding(layer, first["kernel"].shape[:2], strides, dilation)
    inner = {
        "name": layer.name + ":depthwise",
        "sources": place["sources"],
        "shape": (*place["shape"][:-1], first["kernel"].shape[-1]),
    }
    depthwise = graph.Conv(strides=strides, dilation=dilation, padding=padding, **first, **inner)

    def pointwise(at: Any) -> graph.Node:
        return graph.Conv(strides=(1, 1), **second, **at)

    return [depthwise, *_activated(layer, pointwise, {**place, "sources": (inner["name"],)})]


def _convolution(layer: Any, weights: dict[str, Any], place: Any) -> list[graph.Node]:
    strides, dilation = _pair(layer.strides), _pair(layer.dilation_rate)
    size = weights["kernel"].shape[:2]
    padding = _padding(layer, size, strides, dilation)

    def node(at: Any) -> graph.Node:
        return graph.Conv(strides=strides, dilation=dilation, padding=padding, **weights, **at)

    return _activated(layer, node, place)


def _pool(layer: Any, place: Any) -> list[graph.Node]:
    name = type(layer).__name__
    operation: Any = "max" if "Max" in name else "average"
    window, strides = _pair(layer.pool_size), _pair(layer.strides)
    padding = _padding(layer, window, strides, (1, 1))
    return [
        graph.Pool(operation=operation, window=window, strides=strides, padding=padding, **place)
    ]


def _global_pool(layer: Any, place: Any) -> list[graph.Node]:
    operation: Any = "max" if "Max" in type(layer).__name__ else "average"
    window = _image(layer)
    return [graph.Pool(operation=operation, window=window, strides=window, **place)]


def _merge(layer: Any, place: Any) -> list[graph.Node]:
    operation: Any = type(layer).__name__.lower()
    axis = getattr(layer, "axis", -1)
    return [graph.Merge(operation=operation, axis=axis - 1 if axis > 0 else axis, **place)]


def _permute(layer: Any, place: Any) -> list[graph.Node]:
    return [graph.Permute(axes=tuple(axis - 1 for axis in layer.dims), **place)]


def _relu(layer: Any, place: Any) -> list[graph.Node]:
    return [graph.Rectify(**place)]


def _leaky_relu(layer: Any, place: Any) -> list[graph.Node]:
    return [graph.Rectify(shift=int(-np.log2(float(layer.alpha))), **place)]


def _float_activation(layer: Any, place: Any) -> list[graph.Node]:
    if getattr(layer.activation, "__name__", "") == "relu":
        return [graph.Rectify(**place)]
    return [graph.Reshape(**place)]


def _reshape(_: Any, place: Any) -> list[graph.Node]:
    return [graph.Reshape(**place)]


def _activation(layer: Any, place: Any) -> list[graph.Node]:
    return [_quantize(layer.quantizer, place)]


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(int(each) for each in (value if isinstance(value, (list, tuple)) else (value,)))
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def _image(layer: Any) -> tuple[int, int]:
    """Height and width of what a layer reads."""
    shape = _shape(layer.input_shape)[1:-1]
    return (1, int(shape[0])) if len(shape) == 1 else (int(shape[0]), int(shape[1]))


def _padding(
    layer: Any, window: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int]
) -> graph.Pads:
    """Cells added at each side: TensorFlow puts the odd one of `same` behind."""
    if layer.padding == "valid":
        return ((0, 0), (0, 0))
    sides = []
    for size, step, apart, cells in zip(window, strides, dilation, _image(layer), strict=True):
        reach = (size - 1) * apart + 1
        if layer.padding == "causal":
            sides.append((reach - 1, 0))
            continue
        missing = max((-(-cells // step) - 1) * step + reach - cells, 0)
        sides.append((missing // 2, missing - missing // 2))
    return (sides[0], sides[1])


_READERS: dict[str, Callable[[Any, Any], list[graph.Node]]] = {
    "QActivation": _activation,
    "QDense": _dense,
    "QConv1D": _conv,
    "QConv2D": _conv,
    "QDepthwiseConv2D": _depthwise,
    **dict.fromkeys(
        ("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"), _pool
    ),
    **dict.fromkeys(
        (
            "GlobalMaxPooling1D",
            "GlobalMaxPooling2D",
            "GlobalAveragePooling1D",
            "GlobalAveragePooling2D",
        ),
        _global_pool,
    ),
    **dict.fromkeys(("QSeparableConv1D", "QSeparableConv2D"), _separable),
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"), _merge
    ),
    "Activation": _float_activation,
    "LeakyReLU": _leaky_relu,
    "Permute": _permute,
    "ReLU": _relu,
    **dict.fromkeys(("Flatten", "Reshape", "Dropout"), _reshape),
}
