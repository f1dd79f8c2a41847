"""Students: quantized networks, event -> score, in constructs that hls4ml converts exactly.

These are (measured in `tests/firmware`): a `quantized_bits` QActivation of the data's own grid
right after the input; `alpha=1`; no batch normalisation; a QActivation, given as a string so that
the model reloads, behind every activation and pooling; an unsigned `quantized_relu` at the end. The
paper's LeakyReLU(0.3) is a quantized ReLU here (hls4ml and QKeras disagree on a quantized one), and
CICADA's batch normalisation and dropout, for training on labels, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from qkeras import QActivation, QConv2D, QDense
from tensorflow import keras

from l1kd.core.config import LayerWidths, Score, Student
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.quantizers import text_of

layers = keras.layers


def bits(word: int, integer: int) -> str:
    """QKeras' text of a signed type; `integer` leaves out the sign, as QKeras counts."""
    return text_of(FixedPoint(word, integer + 1))


def relu(word: int, integer: int) -> str:
    """QKeras' text of an unsigned type behind a ReLU."""
    return text_of(FixedPoint(word, integer, False))


@dataclass(frozen=True)
class Widths:
    """An architecture's own number formats; integer bits follow what its sums need."""

    weight: tuple[int, int]  # bits, integer bits without the sign
    activation: tuple[int, int]  # bits, integer bits
    output: tuple[int, int]  # the last layer's weights
    convolution: tuple[int, int] | None = None  # weights of convolutions, where they differ
    # Before training, biases are raised until every unit fires at this quantile of its inputs: at
    # 1 only those that never do. Measured: the paper's small image students need it (s7 on
    # Fashion-MNIST: AUC 0.50 without, 0.93 with the median), trigger students lose by it.
    awake: float = 1.0


class _Builder:
    """Adds layers to a network and keeps count of their names."""

    def __init__(self, config: Student, widths: Widths, grid: FixedPoint, score: Score) -> None:
        self.config, self.widths, self.grid, self.score = config, widths, grid, score
        self.counts: dict[str, int] = {}
        self.names: list[str] = []

    def _name(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"

    def _own(self, name: str, size: int, weight: tuple[int, int]) -> tuple[int, str, str]:
        """Size, weight quantizer and activation of a layer, its own widths considered."""
        self.names.append(name)
        own = self.config.layers.get(name, LayerWidths())
        weight_bits = own.weight_bits or self.config.weight_bits or weight[0]
        weight_integer = own.weight_integer or self.config.weight_integer or weight[1] + 1
        activation_bits = (
            own.activation_bits or self.config.activation_bits or self.widths.activation[0]
        )
        # An integer-only type loses rounding and saturation in hls4ml: keep one fraction bit.
        integer = min(self.widths.activation[1], activation_bits - 1)
        weights = bits(weight_bits, weight_integer - 1)
        return own.size or size, weights, relu(activation_bits, integer)

    def _bias(self, name: str, word: int, integer: int) -> str:
        """Bias quantizer of a layer: of this type, or as wide as asked for with the same range."""
        own = self.config.layers.get(name, LayerWidths())
        asked = own.bias_bits or self.config.bias_bits
        return bits(word, integer) if asked is None else bits(asked, min(integer, asked - 1))

    def input(self, x: Any) -> Any:
        grid = self.grid
        if not grid.signed:
            # QKeras has no unsigned quantizer but a ReLU, and hls4ml takes none at the port.
            grid = FixedPoint(grid.word + 1, grid.integer + 1)
        return QActivation(bits(grid.word, grid.integer - 1), name="port")(x)

    def _inner_bias(self, name: str) -> str:
        word, integer = self.widths.activation
        return self._bias(name, word + 2, integer)

    def conv(self, x: Any, filters: int, size: Any, stride: Any, *, bias: bool = True) -> Any:
        name = self._name("conv")
        if not bias and self.config.layers.get(name, LayerWidths()).bias_bits:
            raise UserError(f"student {self.config.name!r}: layer {name!r} has no bias")
        filters, weight, activation = self._own(
            name, filters, self.widths.convolution or self.widths.weight
        )
        x = QConv2D(
            filters,
            size,
            strides=stride,
            use_bias=bias,
            kernel_quantizer=weight,
            bias_quantizer=self._inner_bias(name) if bias else None,
            name=name,
        )(x)
        return QActivation(activation, name=f"{name}_relu")(x)

    def pool(self, x: Any) -> Any:
        name = self._name("pool")
        x = layers.AveragePooling2D(2, name=name)(x)
        activation_bits = self.config.activation_bits or self.widths.activation[0]
        integer = min(self.widths.activation[1], activation_bits - 1)
        return QActivation(relu(activation_bits, integer), name=f"{name}_relu")(x)

    def dense(self, x: Any, units: int) -> Any:
        name = self._name("dense")
        units, weight, activation = self._own(name, units, self.widths.weight)
        bias = self._inner_bias(name)
        x = QDense(units, kernel_quantizer=weight, bias_quantizer=bias, name=name)(x)
        return QActivation(activation, name=f"{name}_relu")(x)

    def output(self, x: Any) -> Any:
        _, weight, _ = self._own("output", 1, self.widths.output)
        own = self.config.layers.get("output")
        if own is not None and (own.size or own.activation_bits):
            raise UserError(
                f"student {self.config.name!r}: layer 'output' has one unit and the type "
                "`distillation.score`; its size and activation_bits cannot be set"
            )
        score = self.score.type
        x = QDense(
            1,
            kernel_quantizer=weight,
            # The bias holds where the scores' middle lies: as wide as the score itself.
            bias_quantizer=self._bias("output", score.word + 1, score.integer),
            name="output",
        )(x)
        return QActivation(relu(score.word, score.integer), name="score")(x)


_PAPER: dict[str, tuple[tuple[int, int] | None, ...]] = {
    # (filters, stride) of a 3x3 convolution; None is a 2x2 average pooling
    "s1": ((8, 1), (16, 1), (16, 1), (16, 2), (8, 2)),
    "s2": ((8, 1), (8, 1), (8, 1), (8, 2), (4, 2)),
    "s3": ((8, 1), None, (8, 1), (4, 2)),
    "s4": ((4, 1), None, (8, 2), None),
    "s5": ((4, 1), None, (4, 2), None),
    "s6": ((2, 1), None, (4, 2), None),
    "s7": ((2, 1), None, (2, 2), None),
}
_PAPER_WIDTHS = Widths(weight=(8, 0), activation=(10, 4), output=(8, 2), awake=0.5)
_CICADA_WIDTHS = Widths(weight=(8, 1), activation=(10, 6), output=(12, 3), convolution=(12, 3))
_CONV_WIDTHS = Widths(weight=(8, 1), activation=(10, 6), output=(8, 3), convolution=(8, 1))
_DENSE_WIDTHS = Widths(weight=(8, 1), activation=(10, 5), output=(8, 3))


def _as_image(x: Any, shape: tuple[int, ...], name: str) -> Any:
    if len(shape) == 2:
        return layers.Reshape((*shape, 1), name="image")(x)
    if len(shape) != 3:
        raise UserError(
            f"student {name!r} reads images; these events have the shape {shape}; "
            "use the architecture 'dense'"
        )
    return x


def _paper(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    x = _as_image(x, shape, build.config.name)
    for step in _PAPER[build.config.architecture]:
        if min(int(side) for side in x.shape[1:3]) < (2 if step is None else 3):
            raise UserError(
                f"student {build.config.name!r} ({build.config.architecture}) needs larger images "
                f"than {shape}; use a cicada or dense architecture"
            )
        x = build.pool(x) if step is None else build.conv(x, step[0], 3, step[1])
    return layers.Flatten(name="flatten")(x)


def _cicada_v1(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    return build.dense(x, 16)


def _cicada_v2(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    x = _as_image(x, shape, build.config.name)
    if min(shape[:2]) < 2:
        raise UserError(
            f"student {build.config.name!r} (cicada_v2) needs images of at least 2x2, not {shape}"
        )
    x = build.conv(x, 4, 2, 2, bias=False)
    return build.dense(layers.Flatten(name="flatten")(x), 16)


def _conv(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    """CICADA's second with biases at its convolution: a threshold per filter.

    An anomaly mostly lies *above* the usual in few places; a filter with a bias counts just that.
    """
    config = build.config
    x = _as_image(x, shape, config.name)
    kernel, stride = config.kernel or (2, 2), config.stride or config.kernel or (2, 2)
    if any(side < window for side, window in zip(shape, kernel, strict=False)):
        raise UserError(
            f"student {config.name!r} (conv) needs images of at least {kernel[0]}x{kernel[1]}, "
            f"not {shape}"
        )
    x = layers.Flatten(name="flatten")(build.conv(x, config.filters or 4, kernel, stride))
    for units in build.config.hidden:
        x = build.dense(x, units)
    return x


def _dense(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for units in build.config.hidden:
        x = build.dense(x, units)
    return x


STUDENTS: dict[str, tuple[Callable[[_Builder, Any, tuple[int, ...]], Any], Widths]] = {
    **dict.fromkeys(_PAPER, (_paper, _PAPER_WIDTHS)),
    "cicada_v1": (_cicada_v1, _CICADA_WIDTHS),
    "cicada_v2": (_cicada_v2, _CICADA_WIDTHS),
    "conv": (_conv, _CONV_WIDTHS),
    "dense": (_dense, _DENSE_WIDTHS),
}
AWAKE: dict[str, float] = {name: widths.awake for name, (_, widths) in STUDENTS.items()}


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def build_student(
    config: Student, shape: tuple[int, ...], grid: FixedPoint, score: Score
) -> keras.Model:
    """An untrained student: events (batch, *shape) on the grid to scores (batch, 1).

    A `UserError` if it cannot read that shape, or `layers` names a layer that it does not have.
    """
    architecture, widths = STUDENTS[config.architecture]
    build = _Builder(config, widths, grid, score)
    events = keras.Input(shape, name="events")
    scores = build.output(architecture(build, build.input(events), shape))
    unknown = sorted(set(config.layers) - set(build.names))
    if unknown:
        raise UserError(
            f"student {config.name!r} ({config.architecture}) has no layer {unknown[0]!r}; "
            f"its layers are {', '.join(build.names)}"
        )
    return keras.Model(events, scores, name=config.name.replace(".", "_").replace("-", "_"))
