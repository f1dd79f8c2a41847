"""The lint's rules for layers and for the network as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from l1kd.models import lint_quantizers as quantizers
from l1kd.models.lint_graph import Graph, Problem, kind
from l1kd.models.lint_quantizers import Finding

__all__ = ["layer_problems", "network_problems"]

Rule = Callable[[Graph, Any], Iterator[Finding]]

_QUANTIZED = "use {}, with kernel_quantizer='quantized_bits(bits,integer,alpha=1)'"
_ACTIVATION = "use QActivation('quantized_relu(bits,integer)') or another quantizer"
_NO_STEP = "hls4ml has no such layer"
# Classes that are refused whatever their arguments: reason, remedy.
_REFUSED: dict[str, tuple[str, str]] = {
    "BatchNormalization": (
        "hls4ml fuses it into weights that are no longer on their quantizer's grid",
        "run l1kd.models.repair, which folds it into the layer before",
    ),
    "QBatchNormalization": (
        "hls4ml does not quantize its parts as QKeras does",
        "run l1kd.models.repair, which folds it into the layer before",
    ),
    "QConv2DBatchnorm": (
        "hls4ml cannot convert it",
        "run l1kd.models.repair, which folds it exactly into a QConv2D",
    ),
    "QDepthwiseConv2DBatchnorm": (
        "hls4ml cannot convert it",
        "run l1kd.models.repair, which folds it exactly into a QDepthwiseConv2D",
    ),
    "Dense": ("its weights are float32", _QUANTIZED.format("QDense")),
    "Conv1D": ("its weights are float32", _QUANTIZED.format("QConv1D")),
    "Conv2D": ("its weights are float32", _QUANTIZED.format("QConv2D")),
    "Activation": ("it is computed in float32", _ACTIVATION),
    "ReLU": ("it is computed in float32", _ACTIVATION),
    "LeakyReLU": ("it is computed in float32", _ACTIVATION),
    "PReLU": ("it is computed in float32", _ACTIVATION),
    "ELU": ("it is computed in float32", _ACTIVATION),
    "Softmax": ("hls4ml looks it up in tables that are not exact", "end the network before it"),
    "Functional": (
        "a model inside a model",
        "put the inner model's layers into the outer one",
    ),
    "Sequential": (
        "a model inside a model",
        "put the inner model's layers into the outer one",
    ),
}


def network_problems(graph: Graph) -> Iterator[Problem]:
    """What is wrong with the network rather than with a layer: its inputs and outputs."""
    model = graph.model
    if len(model.inputs) != 1:
        yield Problem(
            model.name,
            f"{len(model.inputs)} inputs",
            "an event is one array at one port",
            "put the inputs into one and take them apart by weights that are zero",
        )


def layer_problems(graph: Graph, layer: Any) -> Iterator[Problem]:
    """What is wrong with a layer in its place."""
    for finding in _findings(graph, layer):
        yield Problem(layer.name, *finding)


def _findings(graph: Graph, layer: Any) -> Iterator[Finding]:
    name = kind(layer)
    if len(graph.calls[layer.name]) > 1:
        yield Finding(
            f"called {len(graph.calls[layer.name])} times",
            "hls4ml converts a layer that is shared for one of its calls only",
            "build a layer of its own for every call, with copies of the weights",
        )
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(graph, layer)
        return
    reason, remedy = _REFUSED.get(name, (_NO_STEP, "leave it out of the network for the firmware"))
    yield Finding(name, reason, remedy)


def _input(graph: Graph, layer: Any) -> Iterator[Finding]:
    readers = graph.readers[layer.name]
    if len(readers) == 1 and graph.is_port(readers[0]):
        return
    yield Finding(
        "no quantizer behind the input" if len(readers) < 2 else f"{len(readers)} readers",
        "hls4ml takes the input port's type from the one quantizer that reads it",
        "let one QActivation('quantized_bits(bits,integer,alpha=1)') read the input, and all "
        "others that quantizer",
    )


def _activation(graph: Graph, layer: Any) -> Iterator[Finding]:
    port = graph.is_port(layer)
    yield from quantizers.activation(layer.quantizer, port=port)
    before = graph.source(layer)
    if (
        not port
        and before is not None
        and type(layer.quantizer).__name__ == "quantized_bits"
        and _quantizes(before)
    ):
        yield Finding(
            "quantized_bits behind another quantizer",
            f"hls4ml gives its type to the layer before, {before.name!r}, whose own is lost",
            f"leave one of the two out, or use quantized_relu for {layer.name!r}",
        )


def _quantizes(layer: Any) -> bool:
    """Whether a layer's output is that of a quantizer."""
    return kind(layer) == "QActivation" or _own_activation(layer) is not None


def _own_activation(layer: Any) -> Any:
    """The activation inside a layer, None if it is linear."""
    activation = getattr(layer, "activation", None)
    if activation is None or kind(layer) == "QActivation":
        return None
    return None if getattr(activation, "__name__", "") == "linear" else activation


def _weighted(graph: Graph, layer: Any) -> Iterator[Finding]:
    for part, values in zip(_PARTS[kind(layer)], layer.get_weights(), strict=False):
        quantizer = getattr(layer, f"{part}_quantizer_internal", None)
        yield from quantizers.weights(quantizer, np.asarray(values), bias=part == "bias")
    activation = _own_activation(layer)
    if activation is not None:
        yield from quantizers.activation(activation)


def _convolution(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from _channels(graph, layer)
    if any(step != 1 for step in _tuple(layer.dilation_rate)):
        yield Finding(
            f"dilation_rate={_tuple(layer.dilation_rate)}",
            "hls4ml ignores it",
            "use a larger kernel with zeros in between",
        )
    if getattr(layer, "groups", 1) != 1:
        yield Finding(
            f"groups={layer.groups}",
            "hls4ml convolves all channels with all filters",
            "use groups=1, or a convolution for each group",
        )
    yield from _weighted(graph, layer)


def _pool(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from _channels(graph, layer)


def _channels(graph: Graph, layer: Any) -> Iterator[Finding]:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        yield Finding(
            "data_format='channels_first'",
            "hls4ml's exact types know channels last only",
            "build the network with data_format='channels_last'",
        )


def _merge(graph: Graph, layer: Any) -> Iterator[Finding]:
    count = len(graph.parents(layer))
    if count > 2:
        yield Finding(
            f"{kind(layer)} of {count} layers",
            "hls4ml merges two",
            f"use {count - 1} layers {kind(layer)} of two each",
        )


def _nothing(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from ()


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)


_PARTS = {
    "QDense": ("kernel", "bias"),
    "QConv1D": ("kernel", "bias"),
    "QConv2D": ("kernel", "bias"),
    "QDepthwiseConv2D": ("depthwise", "bias"),
}
_RULES: dict[str, Rule] = {
    "InputLayer": _input,
    "QActivation": _activation,
    "QDense": _weighted,
    **dict.fromkeys(("QConv1D", "QConv2D", "QDepthwiseConv2D"), _convolution),
    **{
        f"{glob}{op}Pooling{rank}D": _pool
        for glob in ("", "Global")
        for op in ("Max", "Average")
        for rank in (1, 2)
    },
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"), _merge
    ),
    **dict.fromkeys(("Flatten", "Reshape", "Dropout", "ZeroPadding1D", "ZeroPadding2D"), _nothing),
}
_IDENTIFIER = re.compile(r"^[A-Za-z_]\w*$", re.ASCII)
