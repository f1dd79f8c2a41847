r"""Stores weights as the values that their quantizers give, and folds batch normalizations.

QKeras keeps float weights and quantizes them whenever a layer is called. Once trained, only the
quantized ones matter, and every quantizer that scales (alpha, powers of two), leaves out a value
(symmetric) or knows few of them (ternary, binary) is as good as the plain type that holds them all.

Layers that bring a batch normalization (`QConv2DBatchnorm`, `QDepthwiseConv2DBatchnorm`, and
`QDenseBatchnorm` of a proposal to QKeras that many trigger networks are built with) define in
inference, in both of their folding modes,
:math:`y = x \cdot Q_k(s W) + Q_b(s (b - m) + \beta)` with
:math:`s = \gamma / \sqrt{v + \epsilon}`, the moving mean m and variance v: exactly a plain
quantized layer with these weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import qkeras
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.keras_files import FOLDED
from l1kd.networks.layer_graph import Graph, Node, Repair
from l1kd.networks.lint.keras_graph import PARTS
from l1kd.networks.quantizers import on_a_grid, plain_grid, settled, text_of

# Weights with a quantizer by the class of their layer, in the order in which they are stored.
SLOTS = {**PARTS, "QConv2DTranspose": ("kernel", "bias")}
# Bits of weights that are rounded to a new grid: what it costs in quality is little.
KERNEL_BITS, BIAS_BITS = 16, 18


def quantized(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Store every layer's quantized weights; round those that have no grid if `lossy`."""
    model = graph.build()
    for node in graph.nodes:
        if node.kind in SLOTS and node.weights:
            yield from _quantized(node, model.get_layer(node.name), lossy)


def _quantized(node: Node, layer: Any, lossy: bool) -> Iterator[Repair]:
    renamed: list[str] = []
    strayed = 0
    for place, slot in enumerate(SLOTS[node.kind][: len(node.weights)]):
        quantizer = getattr(layer, f"{slot}_quantizer_internal", None)
        found = None if quantizer is None else settled(quantizer, node.weights[place])
        if found is None:
            yield _on_some_grid(node, place, slot, quantizer, lossy)
            continue
        strayed += int(found.strayed.sum())
        if found.text is not None:
            if reworded(quantizer, found.text):
                renamed.append(f"{slot} {quantizer} -> {found.text}")
            node.config[f"{slot}_quantizer"] = found.text
        node.weights[place] = found.values.astype(np.float32)
    if renamed:
        what = f"weights keep their values on a plain grid: {'; '.join(renamed)}"
        yield Repair(node.name, what)
    pairs = zip(layer.get_weights(), node.weights, strict=True)
    if strayed:
        what = f"{strayed} weights so far out of their range that float32 left the grid are on it"
        yield Repair(node.name, what, "settled")
    elif not renamed and any((np.asarray(old) != new).any() for old, new in pairs):
        yield Repair(node.name, "weights stored as the values that their quantizers give")


def _on_some_grid(node: Node, place: int, slot: str, quantizer: Any, lossy: bool) -> Repair:
    """Weights without a quantizer, or with one whose values are on no grid."""
    stored = np.asarray(node.weights[place], np.float32)
    given = stored if quantizer is None else np.asarray(quantizer(stored))
    why = "has no quantizer" if quantizer is None else f"is on no binary grid: {quantizer}"
    bits = BIAS_BITS if slot == "bias" else KERNEL_BITS
    held = on_a_grid(given)
    exact = held is not None and plain_grid(held).word <= bits
    if not exact and not lossy:
        return Repair(node.name, f"its {slot} {why}; it can be rounded to {bits} bits", "offered")
    kind = plain_grid(held) if held is not None and exact else requantized(given, bits)
    text = node.config[f"{slot}_quantizer"] = text_of(kind)
    node.weights[place] = kind.quantize(given).astype(np.float32)
    if exact:
        return Repair(node.name, f"its {slot} {why}; all its values are on that of {text}")
    return Repair(node.name, f"its {slot} {why}; rounded to {text}", "lossy")


def reworded(given: Any, text: str) -> bool:
    """True if a quantizer's text is more than another spelling of it."""
    ours, theirs = qkeras.get_quantizer(text), given.get_config()
    return type(given) is not type(ours) or any(
        theirs[key] != value
        for key, value in ours.get_config().items()
        if key in theirs and not (key == "alpha" and theirs[key] is None)
    )


def requantized(values: NDArray[Any], word: int) -> FixedPoint:
    """The plain type of `word` bits (or more) with the finest step that holds `values`, rounded."""
    high = float(np.abs(values).max(initial=0.0))
    integer = 1 if high == 0 else int(np.floor(np.log2(high))) + 2  # and the sign
    kind = FixedPoint(word, integer)
    if high > kind.high + kind.lsb / 2 or (kind.quantize(high) < high - kind.lsb / 2):
        kind = FixedPoint(word, integer + 1)
    return plain_grid(kind)


# Arguments of the batch normalization inside a layer, besides those of `_PREFIXES`.
_NORMALISATION = {
    *("axis", "momentum", "epsilon", "center", "scale", "ema_freeze_delay", "folding_mode"),
    *("renorm", "renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size"),
    *("adjustment", "synchronized"),
}
_PREFIXES = ("beta_", "gamma_", "moving_")


def fold_own(graph: Graph, kinds: Sequence[str] = FOLDED) -> Iterator[Repair]:
    """Fold layers that bring a batch normalization.

    A first draft of QDenseBatchnorm scaled after it had quantized, and copies of it exist. Files do
    not tell which one they are of; they are read as what was proposed in the end.
    """
    for node in graph.nodes:
        if node.kind in kinds:
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
    names = ["gamma"] * bool(layer.scale) + ["beta"] * bool(layer.center) + ["mean", "variance"]
    held: dict[str, Any] = {"gamma": 1.0, "beta": 0.0}
    for name, array in zip(names, layer.get_weights(), strict=True):
        quantizer = getattr(layer, f"{name}_quantizer_internal", None)
        held[name] = np.asarray(array if quantizer is None else quantizer(array), np.float64)
    scale = held["gamma"] / np.sqrt(held["variance"] + float(node.config.get("epsilon", 1e-3)))
    shift = held["beta"] - held["mean"] * scale

    before = graph.node(node.sources[0])
    first = SLOTS[before.kind][0]
    kernel, *rest = (np.asarray(array, np.float64) for array in before.weights)
    bias = rest[0] if rest else 0.0
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if first == "depthwise" else scale)
    texts = []
    before.weights = []
    for values, bits in ((kernel, KERNEL_BITS), (bias * scale + shift, BIAS_BITS)):
        kind = requantized(values, bits)
        before.weights.append(kind.quantize(values).astype(np.float32))
        texts.append(text_of(kind))
    before.config |= dict(zip((f"{first}_quantizer", "bias_quantizer"), texts, strict=True))
    before.config["use_bias"] = True
    graph.remove(node.name)
    what = f"folded into {before.name!r}, whose weights are rounded to {' and '.join(texts)}"
    return Repair(node.name, what, "lossy")
