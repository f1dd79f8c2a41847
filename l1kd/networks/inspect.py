"""A Keras network as the firmware side sees it: its hash, its layers' outputs, its float twin.

TensorFlow is imported when a function is called, not with the module.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow import keras

_BATCH = 1024


def model_hash(model: keras.Model) -> str:
    """SHA-256 of a network's configuration and weights, in hexadecimal."""
    with _quiet():
        digest = hashlib.sha256(model.to_json().encode())
    for weights in model.get_weights():
        digest.update(f"{weights.dtype}{weights.shape}".encode() + weights.tobytes())
    return digest.hexdigest()


def multiplications(layer: Any) -> int | None:
    """Multiplications of a dense layer or a convolution for one event; None for other layers."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return None
    positions = np.prod([int(side) for side in layer.output_shape[1:-1]], dtype=int)
    return int(np.prod(kernel.shape)) * int(positions)


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
