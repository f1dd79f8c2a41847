"""Networks that the lint lets through: together they hold all that is clean."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tests.networks.lint_networks import (
    BITS,
    RELU,
    act,
    conv,
    dense,
    depthwise,
    filled,
    flat,
    joined_heads,
    layers,
    network,
    separable,
    unconverted,
)

CLEAN_ACTIVATIONS = [
    *("quantized_bits(5,2,0,alpha=1)", "quantized_bits(5,2,0)", "quantized_bits(2,0,0,alpha=1)"),
    "quantized_bits(5,2,0,alpha=1,use_stochastic_rounding=True)",
    *("quantized_relu(5,3)", "quantized_relu(1,0)", "quantized_relu(5,3,relu_upper_bound=3.5)"),
    *("quantized_tanh(2)", "quantized_tanh(5)", "quantized_tanh(5,symmetric=True)"),
    *("quantized_sigmoid(1)", "quantized_sigmoid(5)"),
]
CLEAN_WEIGHTS = [
    ("quantized_bits(4,1,1,alpha=1)", "quantized_bits(4,1,1,alpha=1)"),
    ("quantized_bits(4,1,0,keep_negative=0,alpha=1)", "quantized_bits(4,1,0)"),
    ("quantized_bits(1,0,0,alpha=1)", "quantized_bits(1,0,0,alpha=1)"),
    ("ternary(alpha=1)", "quantized_relu(4,1)"),
    ("quantized_sigmoid(4)", "quantized_sigmoid(4)"),
    ("quantized_bits(4,0,0,alpha=2.0)", "quantized_bits(4,1,0,alpha=1)"),
]


def clean_activations() -> Any:
    def body(x: Any) -> Any:
        # Two layers, for a stream has seven readers at most.
        first, second = (
            dense(2, "d1")(x),
            dense(2, "d2", activation="quantized_bits(8,4,0,alpha=1)")(x),
        )
        made = [
            act(text, f"a{k}")(first if k < 6 else dense(2, f"e{k}")(second))
            for k, text in enumerate(CLEAN_ACTIVATIONS)
        ]
        return joined_heads(x, [lambda _, y=y: y for y in made])

    return network((4,), body, score=None)


def clean_weights() -> Any:
    steps = [
        lambda x, kernel=kernel, bias=bias, k=k: act(BITS, f"a{k}")(
            dense(2, f"d{k}", kernel, bias)(x)
        )
        for k, (kernel, bias) in enumerate(CLEAN_WEIGHTS)
    ]
    last = lambda x: dense(2, "d", bias=None, use_bias=False)(x)  # noqa: E731
    return network((4,), lambda x: joined_heads(x, [*steps, last]), score=None)


def clean_images() -> Any:
    """Two outputs of the port; convolutions behind them, of every shape."""
    signed = "quantized_bits(6,3,0,alpha=1)"

    def body(x: Any) -> Any:
        x = act(signed, "c_signed")(conv(2, 1, "c")(x))
        one = conv(2, (3, 2), "c1", strides=(1, 2), padding="same", activation=RELU)(x)
        two = act(RELU, "c2_relu")(
            conv(2, 2, "c2", strides=2, use_bias=False, bias_quantizer=None)(x)
        )
        three = depthwise("c3", strides=2, padding="same")(x)
        three = separable("c4", activation=RELU)(three)
        four = layers().MaxPooling2D(2, name="max")(x)
        five = act(signed, "mean_signed")(layers().AveragePooling2D(3, name="mean")(x))
        six = act(RELU, "all_relu")(layers().GlobalAveragePooling2D(name="all")(x))
        seven = act(RELU, "top_relu")(layers().GlobalMaxPooling2D(name="top", keepdims=True)(x))
        made = [one, two, three, four, five, six, seven]
        return joined_heads(x, [lambda _, y=y: y for y in made])

    return network((5, 5, 2), body, score=None)


def clean_sequence() -> Any:
    def body(x: Any) -> Any:
        x = act(RELU, "c1_relu")(conv(2, 3, "c1", 1, padding="same")(x))
        x = act(RELU, "c2_relu")(conv(2, 3, "c2", 1, padding="causal")(layers().Dropout(0.1)(x)))
        x = layers().MaxPooling1D(3, 2, name="max")(x)
        x = act(RELU, "mean_relu")(layers().AveragePooling1D(3, 1, name="mean")(x))
        x = layers().Permute((2, 1), name="turn")(x)
        x = conv(3, 2, "c3", 1, activation="quantized_tanh(5)")(x)
        return dense(2, "out")(flat(x))

    return network((9, 2), body)


def clean_sums() -> Any:
    """Sums of an image, behind which follows a layer or a quantizer; and of a sequence."""
    from l1kd.networks.allowed_layers import AxisSum

    def body(x: Any) -> Any:
        x = act(RELU, "c_relu")(conv(2, 2, "c")(x))
        one = AxisSum(1, name="s1")(x)
        two = act("quantized_bits(6,3,0,alpha=1)", "s2_signed")(AxisSum(2, name="s2")(x))
        three = conv(2, 1, "c3")(AxisSum((1, 2), name="s3")(x))
        four = act(RELU, "s4_relu")(AxisSum((1, 2, 3), name="s4")(x))
        rows = layers().Reshape((4, 6), name="rows")(x)
        rows = AxisSum(1, name="s5")(rows)
        columns = layers().Reshape((4, 6), name="columns")(x)
        columns = AxisSum((2,), name="s6")(columns)
        channels = AxisSum(3, name="s7")(x)
        made = [one, two, three, four, rows, columns, channels]
        return joined_heads(x, [lambda _, y=y: y for y in made])

    return network((5, 4, 2), body, score=None)


def clean_merges() -> Any:
    def body(x: Any) -> Any:
        a, b = (
            act(RELU, "a")(dense(3, "d1")(x)),
            act("quantized_bits(6,2,0,alpha=1)", "b")(dense(3, "d2")(x)),
        )
        raw = dense(3, "d3")(x)
        made = [
            getattr(layers(), name)()(pair)
            for name, pair in (
                ("Add", [a, b]),
                ("Subtract", [a, raw]),
                ("Multiply", [a, b]),
                ("Average", [a, b]),
                ("Maximum", [a, b]),
                ("Minimum", [b, raw]),
            )
        ]
        made[0] = act(RELU, "sum_relu")(made[0])
        return joined_heads(x, [lambda _, y=y: y for y in made])

    return network((4,), body, port="quantized_bits(5,4,0,alpha=1)", score=None)


def clean_sequential() -> Any:
    """Without a quantizer at the end; what is before the port's is a Flatten."""
    from tensorflow.keras import Input, Sequential

    steps = [
        Input((2, 2, 1), name="events"),
        layers().Flatten(name="flat"),
        act("quantized_bits(6,3,0,alpha=1)", "port"),
        dense(3, "d1"),
        layers().Activation("linear", name="same"),
        layers().ReLU(name="relu"),
        act("quantized_bits(8,6,0,alpha=1)", "a1"),
        dense(3, "d2", activation="relu"),
        act("quantized_relu(8,6)", "a2"),
        layers().Reshape((3, 1), name="column"),
        layers().LeakyReLU(0.25, name="leaky"),
        layers().Flatten(name="flat2"),
        dense(2, "d3"),
    ]
    return filled(Sequential(steps, name="net"))


CLEAN: dict[str, Callable[[], Any]] = {
    "activations": clean_activations,
    "weights": clean_weights,
    "images": clean_images,
    "sequence": clean_sequence,
    "sums": clean_sums,
    "merges": clean_merges,
    "sequential": clean_sequential,
}


def parallel_images() -> Any:
    def body(x: Any) -> Any:
        x = act(RELU, "c_relu")(conv(2, 1, "c")(x))
        top = layers().GlobalMaxPooling2D(keepdims=True, name="top")(x)
        one = layers().Add(name="wide")([x, act(RELU, "top_relu")(top)])
        two = layers().MaxPooling2D(3, 2, name="max")(x)
        three = layers().AveragePooling2D(2, padding="same", name="mean")(x)
        return joined_heads(x, [lambda _, y=y: y for y in (one, two, three)])

    return network((5, 5, 1), body, score=None)


def parallel_readers() -> Any:
    def body(x: Any) -> Any:
        steps = [lambda x, k=k: conv(1, 3, f"c{k}", 1, padding="same")(x) for k in range(8)]
        return joined_heads(x, steps)

    return network((4, 2), body, score=None)


CLEAN_IN_PARALLEL = {"parallel_images": parallel_images, "parallel_readers": parallel_readers}


@functools.cache
def built(name: str) -> Any:
    """One of `CLEAN` or `CLEAN_IN_PARALLEL`, built once."""
    return unconverted({**CLEAN, **CLEAN_IN_PARALLEL}[name])
