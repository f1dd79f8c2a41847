"""Hash, layer outputs and float twin of a Keras network; functions import TensorFlow themselves."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.run_files import DrawnLayer

if TYPE_CHECKING:
    from tensorflow import keras

_BATCH = 1024  # events at a time: inner layers are large


def model_hash(model: keras.Model) -> str:
    """SHA-256 of a network's configuration and weights, in hexadecimal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' doubts about QKeras' constraints
        digest = hashlib.sha256(model.to_json().encode())
    for weights in model.get_weights():
        digest.update(f"{weights.dtype}{weights.shape}".encode() + weights.tobytes())
    return digest.hexdigest()


def multiplications(layer: Any) -> int | None:
    """Multiplications of a dense layer or a convolution for one event; None for other layers."""
    if getattr(layer, "kernel", None) is None:
        return None
    return math.prod(layer.kernel.shape) * math.prod(layer.output_shape[1:-1])


def drawn_layers(model: keras.Model) -> list[DrawnLayer]:
    """Layers of a network in their order, with weights that training can change."""
    model.trainable = True  # a stored teacher is frozen; constants are not weights either way
    found = []
    for layer in model.layers:
        shape = (
            layer.output_shape[0] if isinstance(layer.output_shape, list) else layer.output_shape
        )
        after = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
        kernel = getattr(layer, "kernel_quantizer_internal", None)
        bits = [getattr(each, "bits", None) for each in (kernel, after)]
        weight_bits, output_bits = (None if each is None else int(each) for each in bits)
        found.append(
            DrawnLayer(
                name=layer.name,
                kind=type(layer).__name__,
                shape=list(shape[1:]),
                params=sum(math.prod(weight.shape) for weight in layer.trainable_weights),
                weight_bits=weight_bits,
                output_bits=output_bits,
            )
        )
    return found


def layer_outputs(
    model: keras.Model, names: Sequence[str], events: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """Outputs of named layers for `events` (N, *shape), each (N, *shape of the layer)."""
    import tensorflow as tf

    part = tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    batches = (events[i : i + _BATCH] for i in range(0, max(len(events), 1), _BATCH))
    given = (tf.constant(batch, tf.float32) for batch in batches)
    columns = zip(*(tf.nest.flatten(part(batch, training=False)) for batch in given), strict=True)
    whole = (np.concatenate(column).astype(np.float64) for column in columns)
    return dict(zip(names, whole, strict=True))


def float_twin(model: keras.Model) -> keras.Model:
    """The same network without quantizers: latent float weights, plain ReLUs."""
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

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = tf.keras.models.clone_model(model, clone_function=twin)
    for layer in model.layers:
        if layer.get_weights():
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy
