"""The layers and quantizers that a model file may hold, five of our own, and their arguments.

No function, class or module that a file names is looked up anywhere else. The tables are broader
than what can become firmware, so that the lint can name the layer that cannot, and why.
"""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import numpy as np
import qkeras
import tensorflow as tf
from tensorflow import keras

from l1kd.core.errors import UserError


class SquareRoot(keras.layers.Layer):
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


class PowerMean(keras.layers.Layer):
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


class Odds(keras.layers.Layer):
    """The raw anomaly score of a classifier: exp(logit), the odds against a normal event."""

    LARGEST = 60.0  # a logit beyond which float32 would overflow soon

    def call(self, inputs: Any) -> Any:
        """Logits (batch, 1) to scores (batch,)."""
        logit = tf.reshape(inputs, (-1,))
        return tf.exp(tf.clip_by_value(logit, -self.LARGEST, self.LARGEST))


class LogEnsemble(keras.layers.Layer):
    """Several raw scores as one, exp(log sum exp z) or exp(mean z).

    z is the log of a score, in units that make its median over normals 0 and its 99 % quantile that
    of a normal distribution: alike in the tail, where decisions are made, not around the middle.
    Median and unit are weights that no gradient changes.
    """

    SMALLEST = 1e-12  # of a score

    def __init__(self, combine: str = "soft_maximum", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if combine not in ("soft_maximum", "mean"):
            raise ValueError(f"combine is {combine!r}, and has to be 'soft_maximum' or 'mean'")
        self.combine = combine

    def build(self, input_shape: Any) -> None:
        """A median and a unit for each score; ValueError if it is one alone."""
        if not isinstance(input_shape, list):
            raise ValueError(f"{self.name!r} combines two scores or more")
        for name, start in (("median", "zeros"), ("unit", "ones")):
            size = (len(input_shape),)
            setattr(self, name, self.add_weight(name, size, initializer=start, trainable=False))
        super().build(input_shape)

    def logs(self, inputs: Any) -> Any:
        """Logs of scores, (batch, scores)."""
        return tf.stack([tf.math.log(tf.maximum(one, self.SMALLEST)) for one in inputs], -1)

    def call(self, inputs: Any) -> Any:
        """Tensors (batch,), two or more, to scores (batch,)."""
        scaled = (self.logs(inputs) - self.median) / self.unit
        mean = self.combine == "mean"
        together = tf.reduce_mean(scaled, -1) if mean else tf.reduce_logsumexp(scaled, -1)
        return tf.exp(tf.clip_by_value(together, -Odds.LARGEST, Odds.LARGEST))

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `l1kd.load_model`."""
        return {**super().get_config(), "combine": self.combine}


class AxisSum(keras.layers.Layer):
    """Sums of an image or a sequence over axes, which stay with the length 1: trees of adders.

    Parameters
    ----------
    axes
        As Keras counts them, the batch being 0: of images 1 is their rows, 3 their channels.
    """

    def __init__(self, axes: Any = (1,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = sorted({int(axis) for axis in np.ravel(axes)})

    def build(self, input_shape: Any) -> None:
        """ValueError if there are no such axes."""
        rank = len(input_shape)
        if rank not in (3, 4) or not {*self.axes} <= {*range(1, rank)} or not self.axes:
            shape = tuple(input_shape[1:])
            raise ValueError(
                f"{self.name!r} sums over the axes {self.axes} of events of the shape {shape}; it "
                "sums images over some of 1, 2, 3 and sequences over some of 1, 2"
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """A tensor of the same rank."""
        return tf.reduce_sum(inputs, self.axes, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `l1kd.load_model`."""
        return {**super().get_config(), "axes": self.axes}


_KERAS = (
    "Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D "
    "BatchNormalization Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Cropping1D "
    "Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU Flatten GaussianDropout "
    "GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GroupNormalization LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D "
    "Maximum Minimum Multiply Normalization PReLU Permute ReLU RepeatVector Rescaling Reshape "
    "SeparableConv1D SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D Subtract "
    "ThresholdedReLU UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D"
)
_QKERAS = (
    "QActivation QAveragePooling2D QBatchNormalization QConv1D QConv2D QConv2DBatchnorm "
    "QConv2DTranspose QDense QDepthwiseConv2D QDepthwiseConv2DBatchnorm "
    "QGlobalAveragePooling2D QSeparableConv1D QSeparableConv2D"
)
_QUANTIZERS = (
    "bernoulli binary quantized_bits quantized_hswish quantized_po2 quantized_relu "
    "quantized_relu_po2 quantized_sigmoid quantized_tanh quantized_ulaw stochastic_binary "
    "stochastic_ternary ternary"
)
LAYERS: dict[str, Any] = {
    **{name: getattr(keras.layers, name) for name in _KERAS.split()},
    **{name: getattr(qkeras, name) for name in _QKERAS.split()},
    "AxisSum": AxisSum,
    "LogEnsemble": LogEnsemble,
    "Odds": Odds,
    "PowerMean": PowerMean,
    "SquareRoot": SquareRoot,
}
QUANTIZERS: dict[str, Any] = {name: getattr(qkeras, name) for name in _QUANTIZERS.split()}
# Functions by name: of Keras, and of QKeras where QKeras looks names up.
_FUNCTIONS = {
    *("linear", "relu", "sigmoid", "softmax", "softplus", "tanh", "elu", "leaky_relu"),
    *("exponential", "gelu", "mish", "selu", "softsign", "swish"),
    *("binary_sigmoid", "binary_tanh", "hard_sigmoid", "hard_tanh"),
    *("smooth_sigmoid", "smooth_tanh"),
}

# They matter to training only, and QKeras chooses its own again.
_DROPPED = re.compile(r".*_(initializer|regularizer|constraint|range)$|^(dtype|trainable)$")
# Of the batch normalisation inside a layer; QKeras' own hands them on to Keras, which has no more.
_ALSO_DROPPED = {
    *("batch_input_shape", "renorm", "renorm_clipping", "renorm_momentum", "fused"),
    *("virtual_batch_size", "adjustment"),
}
_QUANTIZER_KEY = re.compile(r".*_quantizer$|^(activation|quantizer)$")
_MAX_NUMBER = 1 << 20
_MAX_BITS = 64  # QKeras raises 2 to such numbers; a float32 holds 24
_PLAIN = "a number, text or truth value"
_LISTS = ("axis", "axes", "weights")
_SIGNS = re.compile(r"[\w\s(),.=+'\"-]*")  # of a quantizer's text


def arguments(kind: str, stored: dict[str, Any], where: str) -> dict[str, Any]:
    """The arguments that a layer of the class `kind` is built with, from its configuration."""
    found: dict[str, Any] = {}
    for key, value in stored.items():
        if _DROPPED.match(key) or key in _ALSO_DROPPED:
            continue
        if _QUANTIZER_KEY.match(key):
            found[key] = quantizer(value, f"{where}: {key}", as_text=kind == "QActivation")
        elif _plain(value):
            found[key] = tuple(value) if isinstance(value, list) and key not in _LISTS else value
        else:
            raise UserError(f"{where} has an argument {key!r} that is not a plain value")
    return found


def quantizer(value: Any, where: str, *, as_text: bool = False) -> Any:
    """A quantizer, or the name of a function, from a text or a mapping of class and configuration.

    `as_text` gives QKeras' text: a QActivation with an object is neither loaded nor converted.
    """
    if value is None or (isinstance(value, str) and value in _FUNCTIONS):
        return value
    positional: list[Any] = []
    if isinstance(value, dict) and value.get("class_name") == "function":
        return quantizer(value.get("config"), where, as_text=as_text)  # a function by its name
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        name, named = value.get("class_name"), dict(value["config"])
    elif isinstance(value, str):
        name, positional, named = _call(value, where)
    else:
        raise UserError(f"{where} is not a quantizer")
    if name not in QUANTIZERS:
        raise UserError(f"{where} is {str(name)[:80]!r}; known are {', '.join(QUANTIZERS)}")
    if named.get("qnoise_factor") == 1:
        del named["qnoise_factor"]
    given = (*positional, *named.values())
    if not all(_number_or_text(item) for item in given):
        raise UserError(f"{where} has an argument that is not {_PLAIN}")
    try:
        held = inspect.signature(QUANTIZERS[name]).bind(*positional, **named).arguments
        _check_numbers(held)
        built = QUANTIZERS[name](*positional, **named)
    except (ArithmeticError, AssertionError, TypeError, ValueError) as error:
        reason = error or "QKeras has none with such arguments"
        raise UserError(f"{where} is {str(value)[:80]!r}: {reason}") from error
    if not as_text:
        return built
    if any(isinstance(item, list) for item in named.values()):
        raise UserError(f"{where} has a list for an argument; an activation has one scale")
    # QKeras reads `None` as a text; where it may stand it is the default.
    texts = [repr(item) for item in positional]
    texts += [f"{key}={item!r}" for key, item in named.items() if item is not None]
    return value if isinstance(value, str) else f"{name}({','.join(texts)})"


def _check_numbers(held: dict[str, Any]) -> None:
    """`ValueError` for arguments of a quantizer that no fixed-point type has."""
    for key, value in held.items():
        if key in ("bits", "integer"):
            least, number = int(key == "bits"), isinstance(value, (int, float))
            if not number or not least <= value <= _MAX_BITS or value % 1:
                raise ValueError(f"{key} is {value!r}, not a whole number in {least}...{_MAX_BITS}")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (int, float)) and not abs(item) <= _MAX_NUMBER:
                raise ValueError(f"{key} is {item}, and has to be within {_MAX_NUMBER}")
    if isinstance(alpha := held.get("alpha"), str) and alpha not in ("auto", "auto_po2"):
        raise ValueError(f"alpha is {alpha!r}, and has to be a number, 'auto' or 'auto_po2'")


def function_of(value: Any) -> str | None:
    """The name of a function that no firmware computes exactly; None for any other activation."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    plain = isinstance(value, str) and value in _FUNCTIONS - {"linear", "relu"}
    return value if plain else None


def _call(text: str, where: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The name and the literal arguments of a quantizer's text; nothing in it is evaluated."""
    try:
        match ast.parse(text.strip() if _SIGNS.fullmatch(text) else "", mode="eval").body:
            case ast.Name(name):
                return name, [], {}
            case ast.Call(ast.Name(name), positional, named):
                literals = [ast.literal_eval(each) for each in positional]
                return name, literals, {str(k.arg): ast.literal_eval(k.value) for k in named}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise UserError(f"{where} is {text[:80]!r}: no quantizer, or an argument is not {_PLAIN}")


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _number_or_text(value: Any) -> bool:
    """Plain, or a list of numbers: a scale for each channel."""
    return _scalar(value) or (
        isinstance(value, list) and all(isinstance(item, (int, float)) for item in value)
    )


def _plain(value: Any) -> bool:
    return _scalar(value) or (isinstance(value, list) and all(_plain(item) for item in value))
