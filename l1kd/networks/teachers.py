"""Teachers: float networks, learned or in closed form, whose output is the raw anomaly score.

The training finds layers by name: `standardised`, `latent`, `reconstruction` and `raw_score` of an
autoencoder, `latent`, `logit` and `raw_score` of a classifier. Of an ensemble's members the names
begin with `1_`, `2_` ...; its own layer is `raw_score`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.errors import UserError
from l1kd.core.teacher_config import Teacher, TeacherNetwork
from l1kd.data.dataset import Dataset, Sample
from l1kd.data.moments import Spread, measure_spread, principal_axes
from l1kd.networks.allowed_layers import LogEnsemble, Odds, PowerMean, SquareRoot

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


def _paper(x: Any, shape: tuple[int, ...], config: TeacherNetwork, name: str) -> Any:
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
    x = layers.Dense(config.latent, name=f"{name}latent")(layers.Flatten()(x))
    x = layers.LeakyReLU(0.3)(layers.Dense(128)(x))
    x = layers.Reshape((4, 4, 8))(x)
    for _ in range(3):  # 8, 16, 32 a side
        x = layers.LeakyReLU(0.3)(layers.Conv2DTranspose(16, 3, strides=2, padding="same")(x))
    x = layers.LeakyReLU(0.3)(layers.Conv2D(8, 3)(x))
    return layers.Conv2D(1, 3, activation="sigmoid")(x)


def _cicada(x: Any, shape: tuple[int, ...], config: TeacherNetwork, name: str) -> Any:
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
    x = layers.Dense(config.latent, activation="relu", name=f"{name}latent")(layers.Flatten()(x))
    x = layers.Dense(int(np.prod(half)))(x)
    x = layers.Activation("relu")(layers.Reshape(half)(x))
    x = layers.Conv2D(30, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(20, 3, padding="same", activation="relu")(x)
    # CICADA ends in a ReLU, right for counts; a standardised input is negative half of the time.
    last = None if config.standardise else "relu"
    channels = shape[2] if len(shape) > 2 else 1
    return layers.Conv2D(channels, 3, padding="same", activation=last)(x)


def _dense(x: Any, shape: tuple[int, ...], config: TeacherNetwork, name: str) -> Any:
    """Any shape: `hidden` units down to `latent` and up again."""
    x = layers.Flatten()(x)
    for units in config.hidden:
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(config.latent, name=f"{name}latent")(x)
    for units in reversed(config.hidden):
        x = layers.Dense(units, activation="relu")(x)
    return layers.Dense(int(np.prod(shape)))(x)


_Architecture = Callable[[Any, tuple[int, ...], TeacherNetwork, str], Any]
AUTOENCODERS: dict[str, _Architecture] = {"paper": _paper, "cicada": _cicada, "dense": _dense}


def _around(x: Any) -> Any:
    """Images with their last row before the first and their first behind the last."""
    last = int(x.shape[1]) - 1
    ends = [layers.Cropping2D((cut, (0, 0)))(x) for cut in ((last, 0), (0, last))]
    return layers.Concatenate(axis=1)([ends[0], x, ends[1]])


def _contrast(
    x: Any, shape: tuple[int, ...], config: TeacherNetwork, name: str, *, ring: bool
) -> Any:
    """A logit: of images convolutions 3 x 3, then the mean over rows if they are a ring; dense."""
    if len(shape) > 1 and config.filters:
        x = layers.Reshape((*shape, 1))(x) if len(shape) == 2 else x
        for filters in config.filters:
            if ring:
                x = layers.ZeroPadding2D((0, 1))(_around(x))
                x = layers.Conv2D(filters, 3, activation="relu")(x)
            else:
                x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        pool = (int(x.shape[1]), 1) if ring else (2, 2)
        x = layers.AveragePooling2D(pool, padding="same")(x)
    named = {len(config.hidden): f"{name}latent"}  # the last layer before the logit
    x = layers.Flatten(name=named.get(0))(x)
    for number, units in enumerate(config.hidden, 1):
        x = layers.Dense(units, activation="relu", name=named.get(number))(x)
    return layers.Dense(1, name=f"{name}logit")(x)


def _units(events: Any, config: TeacherNetwork, name: str) -> Any:
    """Inputs as a teacher sees them."""
    if config.square_root is None:
        return events
    return SquareRoot(config.square_root, name=f"{name}square_root")(events)


def residual_weights(config: TeacherNetwork, deviation: NDArray[Any]) -> list[Any] | None:
    """Weights of the inputs' residuals, (*shape), from the deviations of normal events."""
    if not config.residual_scale:
        return None
    weights = deviation**config.residual_scale
    return (weights / weights.mean()).astype(np.float32).tolist()


def _learning(
    config: TeacherNetwork, events: Any, spread: Spread, name: str = "", *, ring: bool = False
) -> Any:
    """Raw scores of an untrained teacher."""
    shape, (mean, deviation) = tuple(events.shape[1:]), spread
    if config.standardise:
        standardise = layers.Normalization(
            # axis=None would ask for one mean in all; every axis named keeps one per input.
            axis=tuple(range(1, len(shape) + 1)),
            mean=mean.astype(np.float32).tolist(),
            variance=np.square(deviation).astype(np.float32).tolist(),
            name=f"{name}standardised",
        )
    else:
        standardise = layers.Activation("linear", name=f"{name}standardised")
    standardised = standardise(_units(events, config, name))
    if config.architecture == "contrast":
        logit = _contrast(standardised, shape, config, name, ring=ring)
        return Odds(name=f"{name}raw_score")(logit)
    decoded = AUTOENCODERS[config.architecture](standardised, shape, config, name)
    reconstruction = layers.Reshape(shape, name=f"{name}reconstruction")(decoded)
    weights = residual_weights(config, deviation)
    score = PowerMean(config.residual_power, weights, name=f"{name}raw_score")
    return score([standardised, reconstruction])


def _fitted(config: TeacherNetwork, events: Any, normal: Sample, name: str = "") -> Any:
    """Raw scores of a teacher in closed form, of normal events; its residual is squared."""
    mean, axes, whitening = principal_axes(normal, config.square_root)

    def dense(x: Any, kernel: Any, bias: Any, called: str) -> Any:
        layer = layers.Dense(len(bias), name=f"{name}{called}", trainable=False)
        found = layer(x)
        layer.set_weights([kernel, bias])
        return found

    units = _units(events, config, name)
    if config.architecture == "pca":
        if config.components >= len(mean):
            many = f"{config.components} components leave nothing of {len(mean)} inputs"
            raise UserError(f"teacher 'pca': {many}; set teacher.components to fewer")
        basis = axes[:, -config.components :]
        standardised = layers.Activation("linear", name=f"{name}standardised")(units)
        latent = dense(layers.Flatten()(standardised), basis, -mean @ basis, "latent")
        decoded = dense(latent, basis.T, mean, "decoded")
        reconstruction = layers.Reshape(normal.shape, name=f"{name}reconstruction")(decoded)
    else:  # Mahalanobis: the mean square of whitened inputs, with nothing to reconstruct
        latent = dense(layers.Flatten()(units), whitening, -mean @ whitening, "latent")
        standardised = layers.Reshape(normal.shape, name=f"{name}standardised")(latent)
        both = [standardised, standardised]
        reconstruction = layers.Subtract(name=f"{name}reconstruction")(both)
    return PowerMean(2.0, name=f"{name}raw_score")([standardised, reconstruction])


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def build_teacher(config: Teacher, dataset: Dataset) -> keras.Model:
    """A teacher, events (batch, *shape) to raw scores (batch,), untrained or fitted."""
    events, several, scores = keras.Input(dataset.shape, name="events"), bool(config.of), []
    for number, own in enumerate(config.members, 1):
        name, axes = f"{number}_" if several else "", dataset.standardise_axes
        if own.closed_form:
            scores.append(_fitted(own, events, dataset.train, name))
            continue
        spread = measure_spread(dataset.train, axes, own.square_root)
        scores.append(_learning(own, events, spread, name, ring=0 in axes))
    score = LogEnsemble(config.combine, name="raw_score")(scores) if several else scores[0]
    return keras.Model(events, score, name="teacher")


def latents_of(teacher: keras.Model) -> list[Any]:
    """A teacher's latents, tensors (batch, numbers), of each member one; without one, its score."""
    named = [layer for layer in teacher.layers if layer.name.rpartition("_")[2] == "latent"]
    return [layer.output for layer in named] or [teacher.output[:, None]]
