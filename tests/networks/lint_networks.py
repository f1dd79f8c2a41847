"""Small networks with random weights for the lint's tests, and the layers that they are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

PORT = "quantized_bits(6,3,0,alpha=1)"
W = "quantized_bits(4,1,0,alpha=1)"
RELU = "quantized_relu(5,3)"
BITS = "quantized_bits(8,4,0,alpha=1)"
FINE = "quantized_bits(24,4,0,alpha=1)"
FINER = "quantized_bits(28,3,0,alpha=1)"


def unconverted(build: Callable[[], Any]) -> Any:
    """What `build` builds, without AutoGraph: it rewrites each layer's Python for nothing."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(build)()


def network(
    shape: tuple[int, ...],
    body: Callable[[Any], Any],
    *,
    before: Callable[[Any], Any] = lambda x: x,
    port: str | None = PORT,
    score: str | None = BITS,
    scale: float = 0.7,
    name: str = "net",
) -> Any:
    """Input, what is before the port, port, body, score; random weights."""
    from qkeras import QActivation
    from tensorflow.keras import Input, Model

    events = Input(shape, name="events")
    x = before(events)
    x = body(QActivation(port, name="port")(x) if port else x)
    return filled(
        Model(events, QActivation(score, name="score")(x) if score else x, name=name), scale
    )


def filled(model: Any, scale: float = 0.7) -> Any:
    """The model with random weights; those that have to be are positive."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        values = [random.normal(0, scale, each.shape) for each in layer.weights]
        positive = [any(n in each.name for n in ("variance", "gamma")) for each in layer.weights]
        layer.set_weights(
            [np.abs(v) + 0.1 if plus else v for v, plus in zip(values, positive, strict=True)]
        )
    return model


def act(quantizer: Any, name: str) -> Any:
    from qkeras import QActivation

    return QActivation(quantizer, name=name)


def dense(units: int, name: str, kernel: Any = W, bias: Any = W, **options: Any) -> Any:
    from qkeras import QDense

    return QDense(units, kernel_quantizer=kernel, bias_quantizer=bias, name=name, **options)


def conv(filters: int, size: Any, name: str, rank: int = 2, **options: Any) -> Any:
    import qkeras

    layer = getattr(qkeras, f"QConv{rank}D")
    return layer(
        filters, size, **{"kernel_quantizer": W, "bias_quantizer": W, **options}, name=name
    )


def layers() -> Any:
    from tensorflow.keras import layers as found

    return found


def flat(x: Any, name: str = "flat") -> Any:
    return layers().Flatten(name=name)(x)


def between(quantizer: Any) -> Callable[[], Any]:
    """A quantizer between two dense layers."""
    return lambda: network((4,), lambda x: dense(2, "out")(act(quantizer, "a")(dense(3, "d")(x))))


def image(body: Callable[[Any], Any], **options: Any) -> Callable[[], Any]:
    """A body between a quantized 1x1 convolution of a 5x5 image and a dense layer."""

    def build(x: Any) -> Any:
        y = body(act(RELU, "c_relu")(conv(2, 1, "c")(x)))
        return dense(2, "out")(y if len(y.shape) == 2 else flat(y))

    return lambda: network(options.pop("shape", (5, 5, 1)), build, **options)


def heads(steps: list[Callable[[Any], Any]], shape: tuple[int, ...] = (4,), **options: Any) -> Any:
    """Every step makes a head of the port; the outputs are their columns, in order."""
    return network(shape, lambda x: joined_heads(x, steps), score=None, **options)


def vector(body: Callable[[Any], Any], **options: Any) -> Callable[[], Any]:
    """A body between a quantized dense layer of 3 units and another."""

    def build(x: Any) -> Any:
        return dense(2, "out")(body(act(RELU, "d_relu")(dense(3, "d")(x))))

    return lambda: network((4,), build, **options)


def sequence(body: Callable[[Any], Any], **options: Any) -> Callable[[], Any]:
    """A body between a quantized Conv1D of a sequence of 6 and a dense layer."""

    def build(x: Any) -> Any:
        return dense(2, "out")(flat(body(act(RELU, "c_relu")(conv(2, 1, "c0", 1)(x)))))

    return lambda: network((6, 2), build, **options)


def head(place: int) -> Callable[[Any], Any]:
    return lambda x: act(RELU, f"a{place}")(dense(2, f"d{place}")(x))


def depthwise(name: str, **options: Any) -> Any:
    from qkeras import QDepthwiseConv2D

    given = {"depthwise_quantizer": W, "bias_quantizer": W, **options}
    return QDepthwiseConv2D(2, name=name, **given)


def separable(name: str, **options: Any) -> Any:
    """A separable convolution with windows of 2x2."""
    quantizers = {f"{part}_quantizer": W for part in ("depthwise", "pointwise", "bias")}
    return qkeras_layer("QSeparableConv2D")(2, 2, name=name, **quantizers, **options)


def normalised(name: str) -> Any:
    """A quantized batch normalisation."""
    parts = ("beta", "gamma", "mean", "variance")
    return qkeras_layer("QBatchNormalization")(
        name=name, **{f"{part}_quantizer": W for part in parts}
    )


def qkeras_layer(name: str) -> Any:
    import qkeras

    return getattr(qkeras, name)


def joined_heads(x: Any, steps: list[Callable[[Any], Any]]) -> Any:
    made = [step(x) for step in steps]
    flats = [y if len(y.shape) == 2 else flat(y, f"flat{k}") for k, y in enumerate(made)]
    return functools.reduce(lambda a, b: layers().Concatenate()([a, b]), flats)
