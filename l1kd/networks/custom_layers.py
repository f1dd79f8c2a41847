"""Layers of our own that stored models use."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


class SquareRoot(tf.keras.layers.Layer):
    """`sqrt(x + offset)`: gives counts about equal spread (Anscombe 1948, 3/8 for Poisson)."""

    def __init__(self, offset: float = 0.375, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset = float(offset)

    def call(self, inputs: Any) -> Any:
        """A tensor of any shape; what lies below `-offset` counts as there."""
        return tf.sqrt(tf.maximum(inputs + self.offset, 0.0))

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `l1kd.load_model`."""
        return {**super().get_config(), "offset": self.offset}


class PowerMean(tf.keras.layers.Layer):
    """The raw anomaly score of a reconstruction: the mean of `w |x - y|^p`, no root taken."""

    def __init__(self, power: float = 2.0, weights: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = float(power)
        self.residual_weights = weights
        self._factor = None if weights is None else np.asarray(weights, np.float32)

    def call(self, inputs: Any) -> Any:
        """Two tensors (batch, \\*event) to scores (batch,)."""
        events, reconstruction = inputs
        residual = tf.abs(events - reconstruction)
        # tf.pow is slow and its gradient is not finite at 0 for powers below 1.
        powered = tf.square(residual) if self.power == 2 else tf.pow(residual + 1e-12, self.power)
        if self._factor is not None:
            powered *= self._factor
        return tf.reduce_mean(tf.reshape(powered, (tf.shape(powered)[0], -1)), axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `l1kd.load_model`."""
        return {**super().get_config(), "power": self.power, "weights": self.residual_weights}
