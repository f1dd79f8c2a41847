r"""Folds batch normalizations into the layer before them.

Layers that bring their own (`QConv2DBatchnorm`, `QDepthwiseConv2DBatchnorm`, and `QDenseBatchnorm`
of a proposal to QKeras that many trigger networks are built with) define in inference, in both of
their folding modes, :math:`y = x \cdot Q_k(s W) + Q_b(s (b - m) + \beta)` with
:math:`s = \gamma / \sqrt{v + \epsilon}`, the moving mean m and variance v: exactly a plain
quantized layer with these weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.networks.keras_files import FOLDED
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.quantizers import text_of
from l1kd.networks.repair.weights import BIAS_BITS, KERNEL_BITS, SLOTS, requantized

# Arguments of the batch normalization inside a layer, besides those of `_PREFIXES`.
_NORMALISATION = {
    *("axis", "momentum", "epsilon", "center", "scale", "ema_freeze_delay", "folding_mode"),
    *("renorm", "renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size"),
    *("adjustment", "synchronized"),
}
_PREFIXES = ("beta_", "gamma_", "moving_")


def fold_dense(graph: Graph) -> list[Repair]:
    """Fold the layers that QKeras 0.9.0 itself does not have.

    A first draft of the proposal scaled after it had quantized, and copies of it exist. Files do
    not tell which one they are of; they are read as what was proposed in the end.
    """
    return [_folded(node) for node in graph.nodes if node.kind == "QDenseBatchnorm"]


def fold_own(graph: Graph) -> Iterator[Repair]:
    """Fold every layer that brings a batch normalization."""
    for node in graph.nodes:
        if node.kind in FOLDED:
            yield _folded(node)


def _folded(node: Node) -> Repair:
    # In float32 and in QKeras' order, so that a weight half way between two values of its grid
    # falls on the same side.
    config = node.config
    weights = [tf.constant(array, tf.float32) for array in node.weights]
    given = ("use_bias", "scale", "center")  # which of bias, gamma and beta are stored
    kernel, present = weights.pop(0), [config.get(key, True) for key in given]
    bias, gamma, beta = (weights.pop(0) if each else None for each in present)
    _, mean, variance = weights
    factor = tf.math.rsqrt(variance + config.get("epsilon", 1e-3))
    if gamma is not None:
        factor *= gamma
    shifted = factor * ((0.0 if bias is None else bias) - mean)
    if beta is not None:
        shifted += beta
    if node.kind == "QDepthwiseConv2DBatchnorm":
        # (height, width, channels, copies): the channels of the output are the last two together.
        factor = tf.reshape(factor, (kernel.shape[2], kernel.shape[3]))
    node.kind = node.kind.removesuffix("Batchnorm")
    node.weights = [(factor * kernel).numpy(), shifted.numpy()]
    node.config = {
        key: value
        for key, value in config.items()
        if key not in _NORMALISATION and not key.startswith(_PREFIXES)
    }
    node.config["use_bias"] = True
    return Repair(node.name, "its own batch normalisation folded into its weights, as it defines")


def fold_layers(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Fold batch normalizations that are layers into the layer before, and round its weights."""
    found = [node for node in graph.nodes if node.kind.endswith("BatchNormalization")]
    model: Any = graph.build() if found else None
    for node in found:
        (source,) = node.sources
        layer = model.get_layer(node.name)
        if list(layer.axis) != [len(layer.input_shape) - 1]:
            obstacle = "of another axis than the channels"
        else:
            obstacle = _obstacle(graph, graph.node(source))
        if obstacle:
            yield Repair(node.name, f"a batch normalisation {obstacle}", "impossible")
        elif lossy:
            yield _fold(graph, node, layer)
        else:
            text = f"can be folded into {source!r}, whose weights are rounded"
            yield Repair(node.name, text, "offered")


def _obstacle(graph: Graph, before: Node) -> str:
    name = before.name
    if before.kind not in SLOTS or "Separable" in before.kind or "Transpose" in before.kind:
        return f"behind {name!r}, which is not a quantized dense layer or convolution"
    if before.config.get("activation") not in (None, "linear"):
        return f"behind the activation inside of {name!r}"
    if len(graph.readers(name)) > 1:
        return f"behind {name!r}, which others read too"
    quantized = before.config.get(f"{SLOTS[before.kind][0]}_quantizer")
    return "" if quantized else f"behind {name!r}, which has no quantized weights"


def _fold(graph: Graph, node: Node, layer: keras.layers.Layer) -> Repair:
    before = graph.node(node.sources[0])
    scale, shift = _scale_and_shift(node, layer)
    first = SLOTS[before.kind][0]
    kernel = np.asarray(before.weights[0], np.float64)
    bias = np.asarray(before.weights[1], np.float64) if len(before.weights) > 1 else 0.0
    by_channel = scale.reshape(kernel.shape[2:]) if first == "depthwise" else scale
    kernel, bias = kernel * by_channel, bias * scale + shift
    types = requantized(kernel, KERNEL_BITS), requantized(bias, BIAS_BITS)
    before.weights = [
        kind.quantize(values).astype(np.float32)
        for kind, values in zip(types, (kernel, bias), strict=True)
    ]
    texts = [text_of(kind) for kind in types]
    before.config |= dict(zip((f"{first}_quantizer", "bias_quantizer"), texts, strict=True))
    before.config["use_bias"] = True
    graph.remove(node.name)
    what = f"folded into {before.name!r}, whose weights are rounded to {' and '.join(texts)}"
    return Repair(node.name, what, "lossy")


def _scale_and_shift(node: Node, layer: keras.layers.Layer) -> tuple[Any, Any]:
    """Factor and offset per channel of a batch normalization, in float64."""
    names = ["gamma"] * bool(layer.scale) + ["beta"] * bool(layer.center) + ["mean", "variance"]
    held: dict[str, Any] = {"gamma": 1.0, "beta": 0.0}
    for name, array in zip(names, layer.get_weights(), strict=True):
        quantizer = getattr(layer, f"{name}_quantizer_internal", None)
        held[name] = np.asarray(array if quantizer is None else quantizer(array), np.float64)
    epsilon = float(node.config.get("epsilon", 1e-3))
    scale = held["gamma"] / np.sqrt(held["variance"] + epsilon)
    return scale, held["beta"] - held["mean"] * scale
