"""Students: quantized networks, event -> score, in constructs that hls4ml converts exactly."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from qkeras import QActivation, QConv2D, QDense
from tensorflow import keras

from l1kd.core.config import LayerWidths, Score, Student
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import AxisSum
from l1kd.networks.quantizers import plain_grid, text_of

layers = keras.layers


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
    """A network that grows layer by layer, each with its own widths."""

    def __init__(
        self, config: Student, shape: tuple[int, ...], grid: FixedPoint, score: Score
    ) -> None:
        self.config, self.shape, self.score = config, shape, score.type
        self.widths = STUDENTS[config.architecture][1]
        self.counts: Counter[str] = Counter()
        self.weighted: list[str] = []  # names of the layers with weights
        self.inner_bias = (self.widths.activation[0] + 2, self.widths.activation[1])
        self.events = keras.Input(shape, name="events")
        self.x = QActivation(text_of(plain_grid(grid)), name="port")(self.events)

    def refuse(self, problem: str) -> UserError:
        """An error that names the student."""
        return UserError(f"student {self.config.name!r}{problem}")

    def _name(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def _own(self, name: str) -> LayerWidths:
        return self.config.layers.get(name, LayerWidths())

    def _asked(self, name: str, key: str, default: int) -> int:
        """A layer's own setting, else the student's, else the architecture's."""
        return int(getattr(self._own(name), key) or getattr(self.config, key) or default)

    def _weights(self, name: str, kernel: tuple[int, int], bias: tuple[int, int]) -> dict[str, Any]:
        """Name and quantizers of a layer; a bias that is asked for keeps its range."""
        self.weighted.append(name)
        word = self._asked(name, "weight_bits", kernel[0])
        integer = self._asked(name, "weight_integer", kernel[1] + 1)
        wide = self._asked(name, "bias_bits", bias[0])
        kinds = FixedPoint(word, integer), FixedPoint(wide, min(bias[1], wide - 1) + 1)
        keys = ("kernel_quantizer", "bias_quantizer")
        return {"name": name, **dict(zip(keys, map(text_of, kinds), strict=True))}

    def _relu(self, name: str) -> None:
        word = self._asked(name, "activation_bits", self.widths.activation[0])
        # An integer-only type loses rounding and saturation in hls4ml: keep one fraction bit.
        kind = FixedPoint(word, min(self.widths.activation[1], word - 1), False)
        self.x = QActivation(text_of(kind), name=f"{name}_relu")(self.x)

    def image(self) -> None:
        """Give events of two axes one channel."""
        if len(self.shape) == 2:
            self.x = layers.Reshape((*self.shape, 1), name="image")(self.x)
        elif len(self.shape) != 3:
            raise self.refuse(
                f" reads images; these events have the shape {self.shape}; "
                "use the architecture 'dense'"
            )

    def conv(self, filters: int, size: Any, stride: Any, *, bias: bool = True) -> None:
        name = self._name("conv")
        if not bias and self._own(name).bias_bits:
            raise self.refuse(f": layer {name!r} has no bias")
        kernel = self.widths.convolution or self.widths.weight
        options = self._weights(name, kernel, self.inner_bias)
        if not bias:
            del options["bias_quantizer"]
        filters = self._own(name).size or filters
        self.x = QConv2D(filters, size, strides=stride, use_bias=bias, **options)(self.x)
        self._relu(name)

    def pool(self) -> None:
        name = self._name("pool")
        self.x = layers.AveragePooling2D(2, name=name)(self.x)
        self._relu(name)

    def dense(self, hidden: Sequence[int]) -> None:
        """Dense layers of so many units on all values."""
        if len(self.x.shape) > 2:
            self.x = layers.Flatten(name="flatten")(self.x)
        for units in hidden:
            name = self._name("dense")
            options = self._weights(name, self.widths.weight, self.inner_bias)
            self.x = QDense(self._own(name).size or units, **options)(self.x)
            self._relu(name)

    def output(self) -> None:
        own, score = self._own("output"), self.score
        if own.size or own.activation_bits:
            raise self.refuse(
                ": layer 'output' has one unit and the type `distillation.score`; its size and "
                "activation_bits cannot be set"
            )
        # The bias holds where the scores' middle lies: as wide as the score itself.
        options = self._weights("output", self.widths.output, (score.word + 1, score.integer))
        kind = FixedPoint(score.word, score.integer, False)
        self.x = QActivation(text_of(kind), name="score")(QDense(1, **options)(self.x))


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
_SET_WIDTHS = Widths(weight=(6, 0), activation=(10, 8), output=(8, 1), convolution=(4, 0))
_SUMS = {"phi": (1,), "eta": (2,), "all": (1, 2)}  # axes, of images in batches
_DENSE_WIDTHS = Widths(weight=(8, 1), activation=(10, 5), output=(8, 3))


def _paper(build: _Builder) -> None:
    build.image()
    for step in _PAPER[build.config.architecture]:
        if min(int(side) for side in build.x.shape[1:3]) < (2 if step is None else 3):
            raise build.refuse(
                f" ({build.config.architecture}) needs larger images than {build.shape}; "
                "use a cicada or dense architecture"
            )
        if step is None:
            build.pool()
        else:
            build.conv(step[0], 3, step[1])
    build.dense(())


def _conv(build: _Builder) -> None:
    """CICADA's second; others have biases at the convolution, a threshold per filter.

    `set` sums over a side behind it: where windows tile that side, its score does not change when
    events are rotated by a stride.
    """
    config, cicada = build.config, build.config.architecture == "cicada_v2"
    summed = config.architecture == "set"
    build.image()
    kernel, stride = config.kernel or (2, 2), config.stride or config.kernel or (2, 2)
    if any(side < window for side, window in zip(build.shape, kernel, strict=False)):
        least = f"images of at least {kernel[0]}x{kernel[1]}"
        raise build.refuse(f" ({config.architecture}) needs {least}, not {build.shape}")
    build.conv(config.filters or (6 if summed else 4), kernel, stride, bias=not cicada)
    if config.pointwise:
        build.conv(config.pointwise, 1, 1)
    if summed:
        build.x = AxisSum(_SUMS[config.sum or "phi"], name="sum1")(build.x)
    build.dense((16,) if cicada else config.hidden)


STUDENTS: dict[str, tuple[Callable[[_Builder], None], Widths]] = {
    **dict.fromkeys(_PAPER, (_paper, _PAPER_WIDTHS)),
    "cicada_v1": (lambda build: build.dense((16,)), _CICADA_WIDTHS),
    "cicada_v2": (_conv, _CICADA_WIDTHS),
    "conv": (_conv, _CONV_WIDTHS),
    "set": (_conv, _SET_WIDTHS),
    "dense": (lambda build: build.dense(build.config.hidden), _DENSE_WIDTHS),
}


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def build_student(
    config: Student, shape: tuple[int, ...], grid: FixedPoint, score: Score
) -> keras.Model:
    """An untrained student: events (batch, *shape) on the grid to scores (batch, 1)."""
    build = _Builder(config, shape, grid, score)
    with warnings.catch_warnings():
        # QKeras draws weights again where the first are small; the global seed decides both.
        warnings.filterwarnings("ignore", message="The initializer .* is unseeded")
        STUDENTS[config.architecture][0](build)
        build.output()
    if unknown := sorted(set(config.layers) - set(build.weighted)):
        raise build.refuse(
            f" ({config.architecture}) has no layer {unknown[0]!r}; "
            f"its layers are {', '.join(build.weighted)}"
        )
    name = config.name.replace(".", "_").replace("-", "_")
    return keras.Model(build.events, build.x, name=name)
