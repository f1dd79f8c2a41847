"""Teachers: float autoencoders, learned or in closed form, whose output is the raw anomaly score.

The training finds their layers `standardised`, `latent`, `reconstruction` and `raw_score` by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.core.config import Teacher
from l1kd.core.errors import UserError
from l1kd.data.dataset import Sample
from l1kd.data.moments import Spread, principal_axes
from l1kd.networks.allowed_layers import PowerMean, SquareRoot

layers = keras.layers


def _image(x: Any, shape: tuple[int, ...], architecture: str, channels: str = "") -> Any:
    if len(shape) == 2:
        x = layers.Reshape((*shape, 1))(x)
    elif len(shape) != 3 or (channels and shape[2] != 1):
        raise UserError(
            f"teacher {architecture!r} reads images{channels}; these events have the shape "
            f"{shape}; use `teacher: {{architecture: dense}}`"
        )
    return x


def _paper(x: Any, shape: tuple[int, ...], config: Teacher) -> Any:
    """19,357 parameters on 28x28 with latent 20 (arXiv 2310.06047): convolutions 3x3, `valid`."""
    if tuple(shape[:2]) != (28, 28):
        raise UserError(
            f"teacher 'paper' reads 28x28 images; these events have the shape {shape}; "
            "use `teacher: {architecture: cicada}` or `dense`"
        )
    x = _image(x, shape, "paper", " of one channel")
    # Of 10 rows the last window of stride 2 leaves one unread, of 22 the one before it: so nobody
    # reads the last 3 of 28, nor what the convolutions in between would make of them.
    x = layers.Cropping2D(((0, 3), (0, 3)))(x)
    for filters, stride in ((8, 1), (16, 1), (16, 1), (16, 2), (8, 2)):
        x = layers.LeakyReLU(0.3)(layers.Conv2D(filters, 3, strides=stride)(x))
    x = layers.Dense(config.latent, name="latent")(layers.Flatten()(x))
    x = layers.LeakyReLU(0.3)(layers.Dense(128)(x))
    x = layers.Reshape((4, 4, 8))(x)
    for _ in range(3):  # 8, 16, 32 a side
        x = layers.LeakyReLU(0.3)(layers.Conv2DTranspose(16, 3, strides=2, padding="same")(x))
    x = layers.LeakyReLU(0.3)(layers.Conv2D(8, 3)(x))
    return layers.Conv2D(1, 3, activation="sigmoid")(x)


def _cicada(x: Any, shape: tuple[int, ...], config: Teacher) -> Any:
    """CICADA's (323,731 parameters on 18x14 with latent 80); sizes are halved once."""
    x, (height, width) = _image(x, shape, "cicada"), shape[:2]
    if height % 2 or width % 2:
        raise UserError(
            f"teacher 'cicada' halves its images once; {height}x{width} has an odd side; "
            "use `teacher: {architecture: dense}`"
        )
    half = (height // 2, width // 2, 30)
    x = layers.Conv2D(20, 3, padding="same", activation="relu")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(30, 3, padding="same", activation="relu")(x)
    x = layers.Dense(config.latent, activation="relu", name="latent")(layers.Flatten()(x))
    x = layers.Dense(int(np.prod(half)))(x)
    x = layers.Activation("relu")(layers.Reshape(half)(x))
    x = layers.Conv2D(30, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(20, 3, padding="same", activation="relu")(x)
    # CICADA ends in a ReLU, right for counts; a standardised input is negative half of the time.
    last = None if config.standardise else "relu"
    channels = shape[2] if len(shape) > 2 else 1
    return layers.Conv2D(channels, 3, padding="same", activation=last)(x)


def _dense(x: Any, shape: tuple[int, ...], config: Teacher) -> Any:
    """Any shape: `hidden` units down to `latent` and up again."""
    x = layers.Flatten()(x)
    for units in config.hidden:
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(config.latent, name="latent")(x)
    for units in reversed(config.hidden):
        x = layers.Dense(units, activation="relu")(x)
    return layers.Dense(int(np.prod(shape)))(x)


_Architecture = Callable[[Any, tuple[int, ...], Teacher], Any]
TEACHERS: dict[str, _Architecture] = {"paper": _paper, "cicada": _cicada, "dense": _dense}


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def build_teacher(config: Teacher, shape: tuple[int, ...], spread: Spread) -> keras.Model:
    """An untrained teacher: events (batch, *shape) to raw scores (batch,)."""
    events = keras.Input(shape, name="events")
    (mean, deviation), units = spread, events
    if config.square_root is not None:
        units = SquareRoot(config.square_root, name="square_root")(events)
    if config.standardise:
        standardise = layers.Normalization(
            # axis=None would ask for one mean in all; every axis named keeps one per input.
            axis=tuple(range(1, len(shape) + 1)),
            mean=mean.astype(np.float32).tolist(),
            variance=np.square(deviation).astype(np.float32).tolist(),
            name="standardised",
        )
    else:
        standardise = layers.Activation("linear", name="standardised")
    standardised = standardise(units)
    decoded = TEACHERS[config.architecture](standardised, shape, config)
    reconstruction = layers.Reshape(shape, name="reconstruction")(decoded)
    weights = None
    if config.residual_scale:
        weight = deviation**config.residual_scale
        weights = (weight / weight.mean()).astype(np.float32).tolist()
    score = PowerMean(config.residual_power, weights, name="raw_score")
    return keras.Model(events, score([standardised, reconstruction]), name="teacher")


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def fit_teacher(config: Teacher, normal: Sample) -> keras.Model:
    """A teacher in closed form, of normal events; it does not learn, its residual is squared."""
    mean, axes, whitening = principal_axes(normal, config.square_root)
    events = keras.Input(normal.shape, name="events")
    units = events
    if config.square_root is not None:
        units = SquareRoot(config.square_root, name="square_root")(events)
    if config.architecture == "pca":
        if config.components >= len(mean):
            many = f"{config.components} components leave nothing of {len(mean)} inputs"
            raise UserError(f"teacher 'pca': {many}; set teacher.components to fewer")
        basis = axes[:, -config.components :]
        weights = {"latent": (basis, -mean @ basis), "decoded": (basis.T, mean)}
        standardised = layers.Activation("linear", name="standardised")(units)
        latent = layers.Dense(config.components, name="latent")(layers.Flatten()(standardised))
        decoded = layers.Dense(len(mean), name="decoded")(latent)
        reconstruction = layers.Reshape(normal.shape, name="reconstruction")(decoded)
    else:  # Mahalanobis: the mean square of whitened inputs, with nothing to reconstruct
        weights = {"latent": (whitening, -mean @ whitening)}
        latent = layers.Dense(len(mean), name="latent")(layers.Flatten()(units))
        standardised = layers.Reshape(normal.shape, name="standardised")(latent)
        reconstruction = layers.Subtract(name="reconstruction")([standardised, standardised])
    score = PowerMean(2.0, name="raw_score")([standardised, reconstruction])
    model = keras.Model(events, score, name="teacher")
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    model.trainable = False
    return model
