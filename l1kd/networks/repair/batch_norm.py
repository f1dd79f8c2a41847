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
    kernel = weights.pop(0)
    bias = weights.pop(0) if config["use_bias"] else tf.constant(0.0)
    gamma = weights.pop(0) if config.get("scale", True) else None
    beta = weights.pop(0) if config.get("center", True) else None
    _, mean, variance = weights
    factor = tf.math.rsqrt(variance + config.get("epsilon", 1e-3))
    if gamma is not None:
        factor *= gamma
    shifted = factor * (bias - mean)
    if beta is not None:
        shifted += beta
    if node.kind == "QDepthwiseConv2DBatchnorm":
        # (height, width, channels, copies): the channels of the output are the last two together.
        factor = tf.reshape(factor, (kernel.shape[2], kernel.shape[3]))
    node.kind = node.kind.removesuffix("Batchnorm")
    node.weights = [(factor * kernel).numpy(), shifted.numpy()]
    kept = {key: value for key, value in config.items() if key not in _NORMALISATION}
    node.config = {key: value for key, value in kept.items() if not key.startswith(_PREFIXES)}
    node.config["use_bias"] = True
    return Repair(
        node.name, "its own batch normalisation folded into its weights, as it defines", "exact"
    )


def fold_layers(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Fold batch normalizations that are layers into the layer before, and round its weights."""
    found = [node for node in graph.nodes if node.kind.endswith("BatchNormalization")]
    model: Any = graph.build() if found else None
    for node in found:
        (source,) = node.sources
        layer = model.get_layer(node.name)
        obstacle = _obstacle(graph, graph.node(source))
        if list(layer.axis) != [len(layer.input_shape) - 1]:
            obstacle = "of another axis than the channels"
        if obstacle:
            yield Repair(node.name, f"a batch normalisation {obstacle}", "impossible")
        elif lossy:
            yield _fold(graph, node, layer)
        else:
            text = f"can be folded into {source!r}, whose weights are rounded"
            yield Repair(node.name, text, "offered")


def _obstacle(graph: Graph, before: Node) -> str:
    if before.kind not in SLOTS or "Separable" in before.kind or "Transpose" in before.kind:
        return f"behind {before.name!r}, which is not a quantized dense layer or convolution"
    if before.config.get("activation") not in (None, "linear"):
        return f"behind the activation inside of {before.name!r}"
    if len(graph.readers(before.name)) > 1:
        return f"behind {before.name!r}, which others read too"
    if not before.config.get(f"{SLOTS[before.kind][0]}_quantizer"):
        return f"behind {before.name!r}, which has no quantized weights"
    return ""


def _fold(graph: Graph, node: Node, layer: keras.layers.Layer) -> Repair:
    before = graph.node(node.sources[0])
    scale, shift = _scale_and_shift(node, layer)
    first = SLOTS[before.kind][0]
    kernel = np.asarray(before.weights[0], np.float64)
    bias = np.asarray(before.weights[1], np.float64) if len(before.weights) > 1 else 0.0
    by_channel = scale.reshape(kernel.shape[2:]) if first == "depthwise" else scale
    kernel, bias = kernel * by_channel, bias * scale + shift
    kernel_type, bias_type = requantized(kernel, KERNEL_BITS), requantized(bias, BIAS_BITS)
    before.weights = [
        kernel_type.quantize(kernel).astype(np.float32),
        bias_type.quantize(bias).astype(np.float32),
    ]
    before.config |= {
        f"{first}_quantizer": text_of(kernel_type),
        "bias_quantizer": text_of(bias_type),
        "use_bias": True,
    }
    graph.remove(node.name)
    return Repair(
        node.name,
        f"folded into {before.name!r}, whose weights are rounded to {text_of(kernel_type)} and "
        f"{text_of(bias_type)}",
        "lossy",
    )


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
