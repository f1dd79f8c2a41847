r"""Batch normalisation folded into the layer before it.

Layers that bring their own (`QConv2DBatchnorm`, `QDepthwiseConv2DBatchnorm`, and `QDenseBatchnorm`
of a proposal to QKeras that many trigger networks are built with) define in inference, in both of
their folding modes,

.. math::

    s = \gamma / \sqrt{v + \epsilon}, \quad
    y = x \cdot Q_k(s W) + Q_b(s (b - m) + \beta)

with the moving mean m and variance v: a plain quantized layer with the weights s W and s (b - m) +
beta *is* that layer, exactly. The arithmetic here is theirs, in float32 and in their order, so that
a weight half way between two values of its grid falls on the same side.

A first draft of the proposal scaled after it had quantized, and copies of it are about. Files do
not tell which one they are of; they are read as what was proposed in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from l1kd.networks.keras_files import FOLDED
from l1kd.networks.layer_graph import Graph, Node

_PLAIN = {
    "QDenseBatchnorm": "QDense",
    "QConv2DBatchnorm": "QConv2D",
    "QDepthwiseConv2DBatchnorm": "QDepthwiseConv2D",
}
# What a layer has of its batch normalisation.
_NORMALISATION = {
    "axis",
    "momentum",
    "epsilon",
    "center",
    "scale",
    "ema_freeze_delay",
    "folding_mode",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
    "fused",
    "virtual_batch_size",
    "adjustment",
    "synchronized",
}


def fold_dense(graph: Graph) -> list[str]:
    """Fold the layers that QKeras itself does not have; returns their names."""
    return [node.name for node in graph.nodes if node.kind == "QDenseBatchnorm" and _fold(node)]


def fold_own(graph: Graph) -> list[str]:
    """Fold every layer that brings a batch normalisation; returns their names."""
    return [node.name for node in graph.nodes if node.kind in FOLDED and _fold(node)]


def _fold(node: Node) -> bool:
    config = node.config
    weights = list(node.weights)
    kernel = _floats(weights.pop(0))
    bias = _floats(weights.pop(0)) if config["use_bias"] else tf.constant(0.0)
    gamma = _floats(weights.pop(0)) if config.get("scale", True) else None
    beta = _floats(weights.pop(0)) if config.get("center", True) else None
    _, mean, variance = weights
    factor = tf.math.rsqrt(_floats(variance) + config.get("epsilon", 1e-3))
    if gamma is not None:
        factor *= gamma
    shifted = factor * (bias - _floats(mean))
    if beta is not None:
        shifted += beta
    if node.kind == "QDepthwiseConv2DBatchnorm":
        # (height, width, channels, copies): the channels of the output are the last two together.
        by_channel = tf.reshape(factor, (kernel.shape[2], kernel.shape[3]))
        folded = by_channel * kernel
    else:
        folded = factor * kernel
    node.kind = _PLAIN[node.kind]
    node.weights = [folded.numpy(), shifted.numpy()]
    kept = {key: value for key, value in config.items() if key not in _NORMALISATION}
    node.config = {key: value for key, value in kept.items() if not _of_normalisation(key)}
    node.config["use_bias"] = True
    return True


def _of_normalisation(key: str) -> bool:
    return key.startswith(("beta_", "gamma_", "moving_"))


def scale_and_shift(node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch normalisation of its own multiplies and adds, per channel, in float64."""
    weights = [np.asarray(array, np.float64) for array in node.weights]
    gamma = weights.pop(0) if node.config.get("scale", True) else 1.0
    beta = weights.pop(0) if node.config.get("center", True) else 0.0
    mean, variance = weights
    scale = gamma / np.sqrt(variance + float(node.config.get("epsilon", 1e-3)))
    return scale, beta - mean * scale


def _floats(array: Any) -> Any:
    return tf.constant(array, tf.float32)
