"""What the lint refuses and what differs, many in one network, so that one compilation shows all.

Each of `HEADS` gives a network, and for each of its heads, in order, the layer that is refused and
what the lint calls it; one head of each is exact, the control.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.networks.lint_networks import (
    FINE,
    FINER,
    RELU,
    W,
    act,
    conv,
    dense,
    flat,
    heads,
    layers,
    normalised,
)

# Quantizers of activations: (text, what the lint calls it).
ACTIVATION_HEADS: list[tuple[str, str]] = [
    ("quantized_bits(5,2,1,alpha=1)", "symmetric=1"),
    ("quantized_bits(5,2,0,keep_negative=0,alpha=1)", "keep_negative=0"),
    ("quantized_bits(5,2,0,alpha=2.0)", "alpha=2.0"),
    ("quantized_bits(5,2,0,alpha='auto')", "alpha='auto'"),
    ("quantized_bits(5,2,0,alpha='auto_po2')", "alpha='auto_po2'"),
    ("quantized_bits(4,3,0,alpha=1)", "quantized_bits(4,3) inside"),
    ("quantized_bits(1,0,0,alpha=1)", "quantized_bits(1,...)"),
    ("quantized_bits(5,2,0,alpha=1,qnoise_factor=0.5)", "qnoise_factor=0.5"),
    ("quantized_relu(4,4)", "quantized_relu(4,4) inside"),
    ("quantized_relu(4,5)", "quantized_relu(4,5) inside"),
    ("quantized_relu(5,2,use_sigmoid=1)", "use_sigmoid=1"),
    ("quantized_relu(5,3,relu_upper_bound=3.3,is_quantized_clip=False)", "relu_upper_bound=3.3"),
    ("quantized_tanh(1)", "quantized_tanh(1)"),
    ("quantized_tanh(10,use_real_tanh=True)", "use_real_tanh"),
    ("quantized_sigmoid(5,symmetric=True)", "symmetric=True"),
    ("quantized_sigmoid(10,use_real_sigmoid=True)", "use_real_sigmoid"),
    ("binary(alpha=2.0)", "binary"),
    ("ternary(alpha=1,threshold=0.5)", "ternary"),
    ("binary_tanh", "binary_tanh"),
    ("binary_sigmoid", "binary_sigmoid"),
]


# Quantizers of weights: kernel, bias, what the lint calls it.
WEIGHT_HEADS: list[tuple[str | None, str | None, str]] = [
    ("quantized_bits(4,1,0,alpha=0.3)", W, "kernel: quantized_bits(alpha=0.3)"),
    ("quantized_bits(4,1,0,alpha='auto')", W, "kernel: quantized_bits(alpha='auto')"),
    (W, "quantized_bits(4,1,0,alpha=2.0)", "bias: quantized_bits(alpha=2.0)"),
    ("binary(alpha=1)", W, "kernel: binary"),
    ("quantized_ulaw(4,1)", W, "kernel: quantized_ulaw"),
    (None, W, "kernel without quantizer"),
    (W, None, "bias without quantizer"),
    ("quantized_bits(4,0,0,alpha=2.0)", "quantized_sigmoid(4)", "bias: quantized_sigmoid"),
]
# Layers behind a dense layer: class, arguments, what the lint calls it.
FUNCTION_HEADS: list[tuple[str, dict[str, Any], str]] = [
    ("Activation", {"activation": "tanh"}, "Activation('tanh')"),
    ("LeakyReLU", {"alpha": 0.3}, "LeakyReLU(0.3)"),
    ("PReLU", {}, "PReLU"),
    ("ELU", {}, "ELU"),
    ("ReLU", {"max_value": 2.0}, "ReLU(max_value=2.0)"),
    ("ReLU", {"negative_slope": 0.25}, "ReLU(negative_slope=0.25)"),
    ("ReLU", {"threshold": 1.0}, "ReLU(threshold=1.0)"),
    ("BatchNormalization", {}, "BatchNormalization"),
    ("Dense", {"units": 2}, "Dense"),
]
CONTROL = "control"  # a head that is exact, beside those that are not


def activation_heads() -> tuple[Any, list[tuple[str, str]]]:
    steps = [
        lambda x, text=text, k=k: act(text, f"a{k}")(dense(2, f"d{k}")(x))
        for k, (text, _) in enumerate(ACTIVATION_HEADS)
    ]
    named = [(f"a{k}", construct) for k, (_, construct) in enumerate(ACTIVATION_HEADS)]
    return heads([*steps, control]), [*named, (CONTROL, "")]


def weight_heads() -> tuple[Any, list[tuple[str, str]]]:
    steps = [
        lambda x, kernel=kernel, bias=bias, k=k: act(FINER, f"a{k}")(
            dense(2, f"d{k}", kernel, bias)(x)
        )
        for k, (kernel, bias, _) in enumerate(WEIGHT_HEADS)
    ]
    named = [(f"d{k}", construct) for k, (_, _, construct) in enumerate(WEIGHT_HEADS)]
    return heads([*steps, control]), [*named, (CONTROL, "")]


def function_heads() -> tuple[Any, list[tuple[str, str]]]:
    def step(k: int, kind: str, arguments: dict[str, Any]) -> Callable[[Any], Any]:
        layer = getattr(layers(), kind)
        return lambda x: act(FINER, f"a{k}")(layer(**arguments, name=f"f{k}")(dense(2, f"d{k}")(x)))

    steps = [step(k, kind, given) for k, (kind, given, _) in enumerate(FUNCTION_HEADS)]
    named = [(f"f{k}", construct) for k, (_, _, construct) in enumerate(FUNCTION_HEADS)]
    return heads([*steps, control]), [*named, (CONTROL, "")]


def place_heads() -> tuple[Any, list[tuple[str, str]]]:
    """What is wrong because of where it is, or of what it reads; of an image."""
    wide = "quantized_bits(8,4,0,alpha=1)"
    steps: list[tuple[Callable[[Any], Any], str, str]] = [
        (
            lambda x: act(wide, "q1")(flat(act(RELU, "r1")(conv(2, 2, "k1")(x)), "flat_q1")),
            "q1",
            "behind another quantizer",
        ),
        (
            lambda x: act(wide, "q2")(conv(2, 2, "k2", activation=RELU)(x)),
            "q2",
            "behind another quantizer",
        ),
        (
            lambda x: layers().MaxPooling2D(2, 1, padding="same", name="p1")(act(RELU, "r2")(x)),
            "p1",
            "padding='same' of unsigned",
        ),
        (
            lambda x: act(FINE, "q3")(
                dense(2, "e1")(flat(layers().AveragePooling2D(3, name="p2")(x), "flat_p2"))
            ),
            "p2",
            "average of 9 values",
        ),
        (lambda x: dense(2, "e2")(x), "e2", "QDense of an input of 3"),
        (
            lambda x: act(FINE, "q4")(normalised("n1")(conv(2, 2, "k3")(x))),
            "n1",
            "QBatchNormalization",
        ),
        (
            lambda x: dense(2, "e3")(layers().Flatten(data_format="channels_first", name="f1")(x)),
            "f1",
            "channels_first",
        ),
        (lost_behind_flatten, "q5", "behind a Flatten of what others read"),
        (control_image, CONTROL, ""),
    ]
    model = heads([step for step, _, _ in steps], shape=(4, 4, 2))
    return model, [(layer, construct) for _, layer, construct in steps]


def lost_behind_flatten(x: Any) -> Any:
    x = conv(2, 2, "k4")(x)
    one = act("quantized_bits(4,1,0,alpha=1)", "q5")(flat(x, "flat_q5"))
    two = flat(act(RELU, "q6")(x), "flat_q6")
    return layers().Add(name="sum")([one, two])


def control_image(x: Any) -> Any:
    return act(RELU, CONTROL)(conv(2, 2, "control_conv")(x))


def control(x: Any) -> Any:
    return act(RELU, CONTROL)(dense(2, "control_dense")(x))


HEADS = {
    "activations": activation_heads,
    "weights": weight_heads,
    "functions": function_heads,
    "places": place_heads,
}
