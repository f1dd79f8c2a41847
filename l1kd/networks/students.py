"""Students: quantized networks, event -> score, in constructs that hls4ml converts exactly.

These are (measured in `tests/firmware`): a `quantized_bits` QActivation of the data's own grid
right after the input; `alpha=1`; no batch normalisation; a QActivation, given as a string so that
the model reloads, behind every activation and pooling; an unsigned `quantized_relu` at the end. The
paper's LeakyReLU(0.3) is a quantized ReLU here (hls4ml and QKeras disagree on a quantized one), and
CICADA's batch normalisation and dropout, for training on labels, are left out.
"""

from __future__ import annotations

from collections import Counter
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
    """Adds layers to a network, each with its own widths, and lists those with weights."""

    def __init__(self, config: Student, widths: Widths, grid: FixedPoint, score: Score) -> None:
        self.config, self.widths, self.grid, self.score = config, widths, grid, score
        self.counts: Counter[str] = Counter()
        self.names: list[str] = []
        self.inner_bias = (widths.activation[0] + 2, widths.activation[1])

    def _name(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def _own(self, name: str) -> LayerWidths:
        return self.config.layers.get(name, LayerWidths())

    def _asked(self, name: str, key: str, default: int) -> int:
        """A layer's own setting, else the student's, else the architecture's."""
        return int(getattr(self._own(name), key) or getattr(self.config, key) or default)

    def _weights(
        self, name: str, kernel: tuple[int, int], bias: tuple[int, int] | None
    ) -> dict[str, Any]:
        """Name and quantizers of a layer; a bias that is asked for keeps its range."""
        self.names.append(name)
        word = self._asked(name, "weight_bits", kernel[0])
        integer = self._asked(name, "weight_integer", kernel[1] + 1)
        options: dict[str, Any] = {"name": name, "kernel_quantizer": bits(word, integer - 1)}
        if bias is not None:
            word = self._asked(name, "bias_bits", bias[0])
            options["bias_quantizer"] = bits(word, min(bias[1], word - 1))
        return options

    def _relu(self, x: Any, name: str) -> Any:
        word = self._asked(name, "activation_bits", self.widths.activation[0])
        # An integer-only type loses rounding and saturation in hls4ml: keep one fraction bit.
        kind = relu(word, min(self.widths.activation[1], word - 1))
        return QActivation(kind, name=f"{name}_relu")(x)

    def input(self, x: Any) -> Any:
        grid = self.grid
        if not grid.signed:
            # QKeras has no unsigned quantizer but a ReLU, and hls4ml takes none at the port.
            grid = FixedPoint(grid.word + 1, grid.integer + 1)
        return QActivation(bits(grid.word, grid.integer - 1), name="port")(x)

    def conv(self, x: Any, filters: int, size: Any, stride: Any, *, bias: bool = True) -> Any:
        name = self._name("conv")
        if not bias and self._own(name).bias_bits:
            raise UserError(f"student {self.config.name!r}: layer {name!r} has no bias")
        kernel = self.widths.convolution or self.widths.weight
        options = self._weights(name, kernel, self.inner_bias if bias else None)
        filters = self._own(name).size or filters
        x = QConv2D(filters, size, strides=stride, use_bias=bias, **options)(x)
        return self._relu(x, name)

    def pool(self, x: Any) -> Any:
        name = self._name("pool")
        return self._relu(layers.AveragePooling2D(2, name=name)(x), name)

    def dense(self, x: Any, units: int) -> Any:
        name = self._name("dense")
        options = self._weights(name, self.widths.weight, self.inner_bias)
        return self._relu(QDense(self._own(name).size or units, **options)(x), name)

    def hidden(self, x: Any) -> Any:
        for units in self.config.hidden:
            x = self.dense(x, units)
        return x

    def output(self, x: Any) -> Any:
        own, score = self._own("output"), self.score.type
        if own.size or own.activation_bits:
            raise UserError(
                f"student {self.config.name!r}: layer 'output' has one unit and the type "
                "`distillation.score`; its size and activation_bits cannot be set"
            )
        # The bias holds where the scores' middle lies: as wide as the score itself.
        options = self._weights("output", self.widths.output, (score.word + 1, score.integer))
        x = QDense(1, **options)(x)
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


def _flat(x: Any) -> Any:
    return layers.Flatten(name="flatten")(x) if len(x.shape) > 2 else x


def _paper(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    x = _as_image(x, shape, build.config.name)
    for step in _PAPER[build.config.architecture]:
        if min(int(side) for side in x.shape[1:3]) < (2 if step is None else 3):
            raise UserError(
                f"student {build.config.name!r} ({build.config.architecture}) needs larger images "
                f"than {shape}; use a cicada or dense architecture"
            )
        x = build.pool(x) if step is None else build.conv(x, step[0], 3, step[1])
    return _flat(x)


def _cicada_v1(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    return build.dense(_flat(x), 16)


def _cicada_v2(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    x, name = _as_image(x, shape, build.config.name), build.config.name
    if min(shape[:2]) < 2:
        raise UserError(f"student {name!r} (cicada_v2) needs images of at least 2x2, not {shape}")
    x = build.conv(x, 4, 2, 2, bias=False)
    return build.dense(_flat(x), 16)


def _conv(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    """CICADA's second with biases at its convolution: a threshold per filter."""
    config = build.config
    x = _as_image(x, shape, config.name)
    kernel, stride = config.kernel or (2, 2), config.stride or config.kernel or (2, 2)
    if any(side < window for side, window in zip(shape, kernel, strict=False)):
        least = f"{kernel[0]}x{kernel[1]}"
        raise UserError(
            f"student {config.name!r} (conv) needs images of at least {least}, not {shape}"
        )
    return build.hidden(_flat(build.conv(x, config.filters or 4, kernel, stride)))


def _dense(build: _Builder, x: Any, shape: tuple[int, ...]) -> Any:
    return build.hidden(_flat(x))


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
    """An untrained student: events (batch, *shape) on the grid to scores (batch, 1)."""
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
