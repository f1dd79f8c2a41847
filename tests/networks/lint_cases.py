"""Networks that the lint refuses, each with the evidence that hls4ml differs or fails on it.

`CASES` hold one network each; what many of in one network can show is in `lint_heads`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tests.networks.lint_networks import (
    BITS,
    FINE,
    PORT,
    RELU,
    W,
    act,
    between,
    conv,
    dense,
    depthwise,
    filled,
    flat,
    head,
    heads,
    image,
    layers,
    network,
    qkeras_layer,
    sequence,
    vector,
)


@dataclass(frozen=True)
class Case:
    """A network that is refused.

    `layer` and `construct` are what the lint has to say; `evidence` is what hls4ml makes of it:
    another result than QKeras' network `reference` (by default the same one), an error that says
    `says`, or C++ that does not compile or not run; or it is known of vendors' tools.
    """

    name: str
    build: Callable[[], Any]
    layer: str
    construct: str
    evidence: Literal["differs", "fails", "does not compile", "does not run", "source"]
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    says: str = ""
    reference: Callable[[], Any] | None = None


def ported(quantizer: str | None) -> Callable[[], Any]:
    """A quantizer at the input."""
    return lambda: network((4,), lambda x: dense(3, "d")(x), port=quantizer)


def scored(quantizer: Any) -> Callable[[], Any]:
    """A quantizer behind a dense layer, which is the output."""
    return lambda: network((4,), lambda x: act(quantizer, "a")(dense(3, "d")(x)), score=None)


def kernelled(kernel: Any, bias: Any = W, scale: float = 0.7) -> Callable[[], Any]:
    """A dense layer of these quantizers."""
    return lambda: network((4,), lambda x: dense(3, "d", kernel, bias)(x), scale=scale, score=FINE)


def two_ports() -> Any:
    from tensorflow.keras import Input, Model

    events = Input((4,), name="events")
    x, y = (dense(3, f"d{k}")(act(PORT, f"port{k}")(events)) for k in (1, 2))
    return filled(Model(events, act(BITS, "score")(layers().Add()([x, y])), name="net"))


def wide_sums() -> Any:
    """Its sum reaches 2^15 exactly, in steps of 2^-39: a bound in float64 takes it for less."""
    model = network(
        (2,),
        lambda x: dense(1, "d", "quantized_bits(24,0,0,alpha=1)")(x),
        port="quantized_bits(32,15,0,alpha=1)",
        score="quantized_bits(24,16,0,alpha=1)",
    )
    step = 2.0**-23
    model.get_layer("d").set_weights([np.array([[step - 1], [-step]]), np.zeros(1)])
    return model


def strayed(*, stored: bool) -> Any:
    """Latent weights so large that x + (q(x) - x) in float32 is not q(x); `stored`: q(x) itself."""
    model = kernelled("quantized_bits(8,0,0,alpha=1)", scale=3e5)()
    if stored:
        values = model.get_layer("d").get_weights()
        kernel = np.clip(np.rint(values[0] * 128), -128, 127) / 128
        model.get_layer("d").set_weights([kernel, values[1]])
    return model


def merged(name: str, **options: Any) -> Callable[[Any], Any]:
    """A merge of two heads of the same shape."""

    def body(x: Any) -> Any:
        return getattr(layers(), name)(name="merge", **options)(
            [
                act(RELU, "a")(dense(3, "d1")(x)),
                act("quantized_bits(6,2,0,alpha=1)", "b")(dense(3, "d2")(x)),
            ]
        )

    return body


def joined(axis: int) -> Callable[[Any], Any]:
    return lambda x: layers().Concatenate(axis=axis, name="merge")(
        [act(RELU, f"j{k}_relu")(conv(2, 1, f"j{k}")(x)) for k in (1, 2)]
    )


def nested() -> Any:
    from tensorflow.keras import Input, Model

    events = Input((4,), name="inside")
    inner = Model(events, act(RELU, "inner_relu")(dense(3, "inner_dense")(events)), name="inner")
    return network((4,), lambda x: dense(2, "out")(inner(x)))


def shared() -> Any:
    layer = dense(4, "d")
    return network((4,), lambda x: layer(act("quantized_bits(6,3,0,alpha=1)", "a")(layer(x))))


def called(name: str) -> Any:
    """A network whose input has this name."""
    from tensorflow.keras import Input, Model

    events = Input((4,), name=name)
    return filled(
        Model(events, act(RELU, "s")(dense(2, "d")(act(PORT, "port")(events))), name="net")
    )


def last(x: Any) -> Any:
    return dense(2, "last")(x)


def squared(x: Any) -> Any:
    return layers().Multiply(name="squared")([x, x])


def _fails(name: str, build: Any, layer: str, construct: str, says: str, **options: Any) -> Case:
    evidence: Any = says if says in ("does not compile", "does not run") else "fails"
    return Case(name, build, layer, construct, evidence, says=says, **options)


def _differs(name: str, build: Any, layer: str, construct: str, **options: Any) -> Case:
    return Case(name, build, layer, construct, "differs", **options)


_CHAIN = "unexpected input layer chain"
CASES: list[Case] = [
    _fails(
        "slope",
        between("quantized_relu(5,2,negative_slope=0.25)"),
        "a",
        "negative_slope=0.25",
        "Einstein",
    ),
    _fails(
        "reshaped port without fraction bits",
        lambda: network(
            (2, 2), lambda x: dense(2, "d")(x), before=flat, port="quantized_bits(6,5,0,alpha=1)"
        ),
        "port",
        "quantized_bits(6,5) behind a reshaped input",
        "setter",
    ),
    _fails(
        "dilation",
        image(lambda x: conv(2, 2, "k", dilation_rate=2)(x)),
        "k",
        "dilation_rate=(2, 2)",
        "Size of label",
    ),
    _fails(
        "open reshape",
        image(lambda x: layers().Reshape((5, -1, 2), name="r")(x)),
        "r",
        "target_shape=(5, -1, 2)",
        "negative dimensions",
    ),
    Case("sums beyond float64", wide_sums, "d", "sums of 55 bits", "source"),
    _fails("no port", ported(None), "events", "no quantizer behind the input", _CHAIN),
    _fails("two ports", two_ports, "events", "2 readers", _CHAIN),
    _fails("relu at the port", ported(RELU), "port", "quantized_relu at the input", _CHAIN),
    _fails("tanh at the port", ported("quantized_tanh(5)"), "port", "at the input", _CHAIN),
    _differs("symmetric port", ported("quantized_bits(6,3,1,alpha=1)"), "port", "symmetric=1"),
    _differs(
        "unsigned port",
        ported("quantized_bits(6,3,0,keep_negative=0,alpha=1)"),
        "port",
        "keep_negative=0",
    ),
    _differs("scaled port", ported("quantized_bits(6,2,0,alpha=2.0)"), "port", "alpha=2.0"),
    _differs(
        "port of a coarse step",
        ported("quantized_bits(4,5,0,alpha=1)"),
        "port",
        "quantized_bits(4,5) at the input",
    ),
    _differs(
        "port of one bit", ported("quantized_bits(1,0,0,alpha=1)"), "port", "quantized_bits(1,...)"
    ),
    _differs(
        "two quantizers at the port",
        lambda: network(
            (4,), lambda x: dense(3, "d")(act("quantized_bits(4,1,0,alpha=1)", "a")(x))
        ),
        "a",
        "behind another quantizer",
    ),
    _differs(
        "two quantizers",
        lambda: network((4,), lambda x: act(RELU, "a")(dense(3, "d")(x))),
        "score",
        "behind another quantizer",
    ),
    _fails("powers of two", scored("quantized_po2(4)"), "a", "quantized_po2", "Unsupported"),
    _fails(
        "relu of powers of two",
        scored("quantized_relu_po2(4)"),
        "a",
        "quantized_relu_po2",
        "Unsupported",
    ),
    _fails(
        "stochastic binary", scored("stochastic_binary()"), "a", "stochastic_binary", "Unsupported"
    ),
    _fails(
        "hswish", scored("quantized_hswish(6,2,0,alpha=1)"), "a", "quantized_hswish", "Unsupported"
    ),
    _fails("ulaw", scored("quantized_ulaw(6,2)"), "a", "quantized_ulaw", "Unsupported"),
    _fails("bernoulli", scored("bernoulli()"), "a", "bernoulli", "Unsupported"),
    _fails("hard tanh", scored("hard_tanh"), "a", "hard_tanh", "Unsupported"),
    _fails("float relu as text", scored("relu"), "a", "relu", "Unsupported"),
    _differs(
        "binary",
        lambda: network(
            (3, 3, 1),
            lambda x: dense(2, "out")(act("binary(alpha=1)", "a")(flat(conv(2, 2, "c")(x)))),
        ),
        "a",
        "binary",
        io_type="io_stream",
    ),
    _fails(
        "ternary",
        lambda: network(
            (3, 3, 1),
            lambda x: dense(2, "out")(flat(act("ternary(alpha=1)", "a")(conv(2, 2, "c")(x)))),
        ),
        "a",
        "ternary",
        "does not compile",
        io_type="io_stream",
    ),
    _fails(
        "negative integer bits",
        scored("quantized_bits(6,-1,0,alpha=1)"),
        "a",
        "quantized_bits(6,-1)",
        "Pow",
    ),
    _fails(
        "relu of negative integer bits",
        scored("quantized_relu(6,-1)"),
        "a",
        "quantized_relu(6,-1)",
        "Pow",
    ),
    _fails(
        "kernel of negative integer bits",
        kernelled("quantized_bits(4,-1,0,alpha=1)"),
        "d",
        "kernel: quantized_bits(4,-1)",
        "Pow",
    ),
    _fails(
        "kernel of automatic powers of two",
        kernelled("quantized_bits(4,1,0)"),
        "d",
        "kernel: quantized_bits(alpha='auto_po2')",
        "does not compile",
    ),
    _fails(
        "kernel of powers of two",
        kernelled("quantized_po2(4)"),
        "d",
        "kernel: quantized_po2",
        "does not compile",
    ),
    _fails(
        "ternary kernel", kernelled("ternary()"), "d", "kernel: ternary(alpha=", "does not compile"
    ),
    _differs(
        "weights far beyond",
        lambda: strayed(stored=False),
        "d",
        "far beyond",
        reference=lambda: strayed(stored=True),
    ),
    _fails(
        "pool with overlap",
        image(lambda x: layers().MaxPooling2D(3, 2, name="p")(x)),
        "p",
        "strides=(2, 2) and io_stream",
        "does not run",
        io_type="io_stream",
    ),
    _fails(
        "average with padding",
        image(lambda x: layers().AveragePooling2D(2, padding="same", name="p")(x)),
        "p",
        "padding='same' and io_stream",
        "does not run",
        io_type="io_stream",
    ),
    _differs(
        "rows skipped by a flat kernel",
        image(lambda x: conv(1, (1, 2), "k", strides=2)(x)),
        "k",
        "kernel_size=(1, 2) with strides=(2, 2) and io_stream",
        io_type="io_stream",
    ),
    _fails(
        "Add of three",
        vector(lambda x: layers().Add(name="merge")([x, x, x])),
        "merge",
        "Add of 3",
        "more than two",
    ),
    _fails(
        "Concatenate along rows",
        lambda: network((4, 4, 1), lambda x: dense(2, "out")(flat(joined(1)(x)))),
        "merge",
        "axis=1",
        "",
    ),
    _differs("model in a model", nested, "inner", "Functional"),
    _differs("layer called twice", shared, "d", "called 2 times"),
    _differs(
        "causal with a stride",
        sequence(lambda x: conv(2, 3, "c", 1, padding="causal", strides=2)(x)),
        "c",
        "padding='causal' with strides=2",
    ),
    _fails("groups", image(lambda x: conv(2, 2, "k", groups=2)(x)), "k", "groups=2", "broadcast"),
    _fails(
        "depth multiplier",
        image(lambda x: depthwise("k", depth_multiplier=2)(x)),
        "k",
        "depth_multiplier=2",
        "broadcast",
    ),
    _fails(
        "channels first",
        image(lambda x: layers().MaxPooling2D(2, data_format="channels_first", name="p")(x)),
        "p",
        "channels_first",
        "",
    ),
    _fails(
        "softmax",
        lambda: network((4,), lambda x: layers().Softmax(name="s")(dense(3, "d")(x))),
        "s",
        "Softmax",
        "does not compile",
    ),
    _fails(
        "convolution with batch normalisation",
        image(
            lambda x: qkeras_layer("QConv2DBatchnorm")(
                2, 2, kernel_quantizer=W, bias_quantizer=W, name="n"
            )(x)
        ),
        "n",
        "QConv2DBatchnorm",
        "",
    ),
    _fails(
        "depthwise with batch normalisation",
        image(
            lambda x: qkeras_layer("QDepthwiseConv2DBatchnorm")(
                2, depthwise_quantizer=W, bias_quantizer=W, name="n"
            )(x)
        ),
        "n",
        "QDepthwiseConv2DBatchnorm",
        "Unsupported",
    ),
    _fails(
        "zero padding",
        image(lambda x: layers().ZeroPadding2D(1, name="z")(x)),
        "z",
        "ZeroPadding2D",
        "produce_kif",
    ),
    _fails(
        "zero padding of a sequence",
        sequence(lambda x: layers().ZeroPadding1D(1, name="z")(x)),
        "z",
        "ZeroPadding1D",
        "produce_kif",
    ),
    _fails(
        "upsampling",
        image(lambda x: layers().UpSampling2D(2, name="u")(x)),
        "u",
        "UpSampling2D",
        "produce_kif",
    ),
    _fails(
        "cropping",
        image(lambda x: layers().Cropping2D(1, name="u")(x)),
        "u",
        "Cropping2D",
        "produce_kif",
    ),
    _fails(
        "spatial dropout",
        image(lambda x: layers().SpatialDropout2D(0.1, name="s")(x)),
        "s",
        "SpatialDropout2D",
        "Unsupported",
    ),
    _fails(
        "noise",
        vector(lambda x: layers().GaussianNoise(0.1, name="s")(x)),
        "s",
        "GaussianNoise",
        "Unsupported",
    ),
    _fails(
        "Concatenate along axis 1",
        vector(lambda x: layers().Concatenate(axis=1, name="merge")([x, x])),
        "merge",
        "axis=1",
        "out of bounds",
    ),
    _fails(
        "global pool before Concatenate",
        image(
            lambda x: layers().Concatenate(name="merge")(
                [layers().GlobalMaxPooling2D(name="g")(x), dense(2, "e")(flat(x))]
            )
        ),
        "g",
        "before Concatenate",
        "dimensions",
    ),
    _fails(
        "dot product",
        vector(lambda x: layers().Dot(axes=1, name="merge")([x, x])),
        "merge",
        "Dot",
        "does not compile",
        io_type="io_stream",
    ),
    _fails(
        "eight readers",
        lambda: heads([head(k) for k in range(8)]),
        "port",
        "8 readers",
        "7 times",
        io_type="io_stream",
    ),
    _fails(
        "Add of different shapes",
        image(
            lambda x: layers().Add(name="merge")([x, layers().GlobalMaxPooling2D(keepdims=True)(x)])
        ),
        "merge",
        "different shapes",
        "broadcasting",
        io_type="io_stream",
    ),
    _differs(
        "padding among readers",
        sequence(
            lambda x: layers().Add(name="merge")(
                [conv(2, 3, "k1", 1, padding="same")(x), conv(2, 3, "k2", 1, padding="same")(x)]
            )
        ),
        "k1",
        "of what others read",
        io_type="io_stream",
    ),
    _fails(
        "name with a dot",
        vector(lambda x: dense(2, "d.1")(x)),
        "d.1",
        "its name",
        "does not compile",
    ),
    _fails(
        "pool of one cell",
        image(
            lambda x: layers().GlobalMaxPooling2D(name="p")(
                layers().GlobalMaxPooling2D(keepdims=True)(x)
            )
        ),
        "p",
        "an image of one cell",
        "out of range",
    ),
    _fails(
        "Dropout at the end",
        lambda: network(
            (4,),
            lambda x: layers().Dropout(0.1, name="s")(act(RELU, "a")(dense(2, "d")(x))),
            score=None,
        ),
        "s",
        "Dropout at the end",
        "not enough values",
    ),
    _fails(
        "nothing behind the port",
        lambda: network((4,), lambda x: x, score=None),
        "port",
        "no layer behind",
        "does not compile",
    ),
    _differs(
        "flat stream",
        lambda: network((4, 4, 1), lambda x: last(act(RELU, "a")(flat(conv(2, 2, "k")(x))))),
        "flat",
        "Flatten to one dimension and io_stream",
        io_type="io_stream",
    ),
    _fails(
        "flat stream that is read twice",
        lambda: network((4, 4, 1), lambda x: squared(flat(act(RELU, "a")(conv(2, 2, "k")(x))))),
        "flat",
        "Flatten to one dimension and io_stream",
        "does not run",
        io_type="io_stream",
    ),
    _fails(
        "Lambda",
        vector(lambda x: layers().Lambda(lambda t: 2 * t, name="l")(x)),
        "l",
        "Lambda",
        "Unsupported",
    ),
]
