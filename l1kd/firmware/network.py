"""A Keras network as the firmware side sees it: quantizers by type, layer by layer, its float twin.

TensorFlow is imported when a function is called, not with the module.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.fixedpoint import FixedPoint

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = [
    "Kernel",
    "float_twin",
    "kernels",
    "layer_outputs",
    "model_hash",
    "multiplications",
    "port_of",
    "quantizer_type",
]

_BATCH = 1024


def model_hash(model: keras.Model) -> str:
    """SHA-256 of a network's configuration and weights, in hexadecimal."""
    with _quiet():
        digest = hashlib.sha256(model.to_json().encode())
    for weights in model.get_weights():
        digest.update(f"{weights.dtype}{weights.shape}".encode() + weights.tobytes())
    return digest.hexdigest()


def quantizer_type(quantizer: Any) -> FixedPoint | None:
    """The type of a QKeras quantizer's values; None for one that is not that simple."""
    kind = type(quantizer).__name__
    config = quantizer.get_config() if hasattr(quantizer, "get_config") else {}
    if kind == "quantized_bits":
        alpha = config.get("alpha")
        if alpha not in (1, 1.0) or config.get("symmetric") or not config.get("keep_negative", 1):
            return None
        return FixedPoint(int(config["bits"]), int(config["integer"]) + 1)
    if kind == "quantized_relu":
        plain = not config.get("negative_slope") and config.get("relu_upper_bound") is None
        if not plain or config.get("use_sigmoid"):
            return None
        return FixedPoint(int(config["bits"]), int(config["integer"]), False)
    return None


def port_of(model: keras.Model) -> FixedPoint | None:
    """The type that a network's first layer gives its input; None if that is no quantizer."""
    first = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"][:1]
    if not first or type(first[0]).__name__ != "QActivation":
        return None
    return quantizer_type(first[0].quantizer)


def multiplications(layer: Any) -> int | None:
    """Multiplications of a dense layer or a convolution for one event; None for other layers."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return None
    positions = np.prod([int(side) for side in layer.output_shape[1:-1]], dtype=int)
    return int(np.prod(kernel.shape)) * int(positions)


@dataclass(frozen=True)
class Kernel:
    """The matrix of a dense layer, or of a convolution at one position.

    Parameters
    ----------
    layer
        Its name.
    matrix, bias
        Quantized weights, (inputs, outputs), and biases, (outputs,).
    input
        The type of what it is multiplied with.
    positions
        How often it is applied to one event.
    """

    layer: str
    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]
    input: FixedPoint
    positions: int


def kernels(model: keras.Model) -> list[Kernel]:
    """The kernels of a network whose layers follow each other, in their order."""
    found, kind = [], port_of(model)
    for layer in model.layers:
        if type(layer).__name__ == "QActivation":
            kind = quantizer_type(layer.quantizer)
        if multiplications(layer) is None or kind is None:
            continue
        weights = [np.asarray(each, np.float64) for each in layer.get_weights()]
        quantizers = (layer.kernel_quantizer_internal, layer.bias_quantizer_internal)
        quantized = [
            np.asarray(quantizer(each.astype(np.float32)), np.float64) if quantizer else each
            for quantizer, each in zip(quantizers, weights, strict=False)
        ]
        matrix = quantized[0].reshape(-1, quantized[0].shape[-1])
        bias = quantized[1] if len(quantized) > 1 else np.zeros(matrix.shape[1])
        positions = (multiplications(layer) or 0) // matrix.size
        found.append(Kernel(layer.name, matrix, bias, kind, positions))
    return found


def layer_outputs(
    model: keras.Model, names: Sequence[str], events: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """What named layers of a network give for `events` (N, *shape), each (N, *its shape)."""
    import tensorflow as tf

    part = tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    return dict(zip(names, _in_batches(part, events), strict=True))


def float_twin(model: keras.Model) -> keras.Model:
    """The same network without quantizers: latent float weights, plain ReLU for a quantized one.

    No value is rounded or saturated; what is left of a `quantized_relu` is its `max(x, 0)`.
    """
    import tensorflow as tf

    layers = tf.keras.layers

    def twin(layer: Any) -> Any:
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "QActivation":
            relu = type(layer.quantizer).__name__ == "quantized_relu"
            return layers.Activation("relu" if relu else "linear", name=layer.name)
        if kind in ("QDense", "QConv2D", "QConv1D"):
            plain = getattr(layers, kind.removeprefix("Q"))
            keys = ("filters", "units", "kernel_size", "strides", "padding", "dilation_rate")
            kept = {key: config[key] for key in (*keys, "use_bias") if key in config}
            activation = config.get("activation")
            relu = "relu" in str(getattr(activation, "__name__", activation))
            return plain(**kept, activation="relu" if relu else None, name=layer.name)
        return type(layer).from_config(config)

    with _quiet():
        copy = tf.keras.models.clone_model(model, clone_function=twin)
    for layer in model.layers:
        if layer.get_weights():
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Keras' doubts about QKeras' constraints, which come whenever a layer is described."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _in_batches(model: Any, events: NDArray[Any]) -> list[NDArray[np.float64]]:
    """All outputs of a model as float64; small batches, for inner layers are large."""
    import tensorflow as tf

    parts: list[list[NDArray[np.float64]]] = []
    for start in range(0, max(len(events), 1), _BATCH):
        batch = tf.constant(events[start : start + _BATCH], tf.float32)
        outputs = model(batch, training=False)
        if not isinstance(outputs, (list, tuple)):
            outputs = [outputs]
        parts.append([np.asarray(output, np.float64) for output in outputs])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
