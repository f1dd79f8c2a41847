"""Networks as other people build and store them, CICADA's two among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from qkeras import QActivation, QConv2D, QDense, quantized_bits
from tensorflow import keras

layers = keras.layers

# Their weights: symmetric, scale 1.
NARROW, WIDE = (8, 1), (12, 3)
# AutoGraph would rewrite each layer's Python while a network is built, for nothing.
UNCONVERTED = tf.autograph.experimental.do_not_convert


class QDenseBatchnorm(QDense):
    """A dense layer with its batch normalisation, as it was proposed to QKeras; inference alone.

    It is registered nowhere: `l1kd` has never heard of this class.
    """

    def __init__(
        self,
        units: int,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        folding_mode: str = "ema_stats_folding",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.batchnorm = layers.BatchNormalization(epsilon=epsilon, center=center, scale=scale)
        self.folding_mode = folding_mode

    def build(self, shape: Any) -> None:
        super().build(shape)
        self._iteration = tf.Variable(-1, trainable=False, name="iteration", dtype=tf.int64)

    def call(self, inputs: Any, training: Any = None) -> Any:
        bias = self.bias if self.use_bias else 0.0
        normalise = self.batchnorm
        normalise(tf.matmul(inputs, self.kernel) + bias, training=False)
        factor = tf.math.rsqrt(normalise.moving_variance + normalise.epsilon)
        if normalise.gamma is not None:
            factor = factor * normalise.gamma
        shifted = factor * (bias - normalise.moving_mean)
        if normalise.beta is not None:
            shifted = shifted + normalise.beta
        kernel = self.kernel_quantizer_internal(factor * self.kernel)
        if self.bias_quantizer_internal is not None:
            shifted = self.bias_quantizer_internal(shifted)
        summed = tf.matmul(inputs, kernel) + shifted
        return summed if self.activation is None else self.activation(summed)

    def get_config(self) -> dict[str, Any]:
        own = {"name": self.name, "folding_mode": self.folding_mode, "ema_freeze_delay": None}
        return {**super().get_config(), **self.batchnorm.get_config(), **own}


def symmetric(kind: tuple[int, int]) -> Any:
    """A quantizer of weights as they give it."""
    return quantized_bits(*kind, 1, alpha=1.0)


def _behind(x: Any, units: int) -> Any:
    x = QDenseBatchnorm(
        units,
        kernel_quantizer=symmetric(NARROW),
        bias_quantizer=quantized_bits(8, 3, 1, alpha=1.0),
        name="dense1",
    )(x)
    x = QActivation("quantized_relu(10, 6)", name="relu1")(x)
    x = layers.Dropout(1 / 8)(x)
    x = QDense(1, kernel_quantizer=symmetric(WIDE), use_bias=False, name="dense2")(x)
    return QActivation("quantized_relu(16, 8)", name="outputs")(x)


@UNCONVERTED
def cicada_v1(inputs: int = 252, units: int = 16) -> keras.Model:
    """The first CICADA network: no quantizer at the input, where integers come in."""
    events = keras.Input((inputs,), name="inputs_")
    return keras.Model(events, _behind(events, units), name="cicada-v1")


@UNCONVERTED
def cicada_v2(shape: tuple[int, int] = (18, 14), units: int = 16) -> keras.Model:
    """The second: flat events are an image, one convolution in front."""
    events = keras.Input((shape[0] * shape[1],), name="inputs_")
    x = layers.Reshape((*shape, 1), name="reshape")(events)
    x = QConv2D(
        4,
        (2, 2),
        strides=2,
        padding="valid",
        use_bias=False,
        kernel_quantizer=symmetric(WIDE),
        name="conv",
    )(x)
    x = QActivation("quantized_relu(10, 6)", name="relu0")(x)
    x = layers.Dropout(1 / 9)(layers.Flatten(name="flatten")(x))
    return keras.Model(events, _behind(x, units), name="cicada-v2")


def trained(model: keras.Model, seed: int = 0, spread: float = 0.3) -> keras.Model:
    """With weights and statistics as a training leaves them: anything but the initial ones."""
    random = np.random.default_rng(seed)

    def drawn(name: str, array: Any) -> Any:
        if "variance" in name:
            return np.exp(random.normal(size=array.shape)).astype(np.float32)
        if "gamma" in name:
            return (1 + 0.3 * random.normal(size=array.shape)).astype(np.float32)
        if array.dtype.kind != "f":
            return array
        return (random.normal(size=array.shape) * spread).astype(np.float32)

    for layer in model.layers:
        arrays = [
            drawn(weight.name, array)
            for weight, array in zip(layer.weights, layer.get_weights(), strict=True)
        ]
        layer.set_weights(arrays)
    return model


Body = Callable[[Any], Any]


@UNCONVERTED
def network(body: Body, shape: tuple[int, ...], seed: int = 0) -> keras.Model:
    """A trained network of one input."""
    events = keras.Input(shape, name="events")
    return trained(keras.Model(events, body(events), name="foreign"), seed)
