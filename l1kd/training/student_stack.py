"""All students of a run as one computation, with scores equal to theirs bit by bit.

Weights lie in one vector. Students compute in counts of each layer's LSB, scales being folded into
the weights. A quantizer passes the gradient inside its range, a weight always (arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.quantizers import type_of

Kind = Literal["reshape", "flatten", "pool", "sum", "conv", "dense", "relu"]


@dataclass(frozen=True)
class Step:
    """One layer's operation; students with equal steps can share them."""

    kind: Kind
    options: tuple[Any, ...] = ()
    layer: str = field(default="", compare=False)  # name, of a layer with weights


def sides_after(step: Step, before: Sequence[int]) -> tuple[int, ...]:
    """Rows and columns after a convolution or a pooling."""
    size, stride, padding, *_ = step.options
    lost = size if padding == "VALID" else (1, 1)
    return tuple((a - less) // by + 1 for a, less, by in zip(before, lost, stride, strict=True))


def sides_read(steps: Sequence[Step], sides: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and columns of an image that the result of steps depends on: of 28, 25 for s1 and s2."""
    if not steps or steps[0].kind not in ("conv", "pool", "relu"):
        return sides
    step, *rest = steps
    if step.kind == "relu":
        return sides_read(rest, sides)
    size, stride, padding, *_ = step.options
    if padding != "VALID":
        return sides
    after = sides_read(rest, sides_after(step, sides))
    return tuple((a - 1) * by + own for a, by, own in zip(after, stride, size, strict=True))


def plain(step: Step, x: Any, quantize: bool) -> Any:
    """A step without weights, on a tensor of any number of students."""
    if step.kind == "reshape":
        return tf.reshape(x, (-1, *step.options))
    if step.kind == "flatten":
        return tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))
    if step.kind == "pool":
        return tf.nn.avg_pool2d(x, *step.options)
    if step.kind == "sum":
        return tf.reduce_sum(x, step.options, keepdims=True)
    high, word, scale = step.options
    if scale != 1.0:
        x = x * scale
    return _quantized_relu(high, word)(x) if quantize else tf.clip_by_value(x, 0.0, high)


def _quantized_relu(high: float, word: int) -> Any:
    """Clip and round of an unsigned type, in counts; the gradient passes inside the range."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def quantized_relu(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            if 2 <= word <= 16:  # one operation instead of four
                return tf.raw_ops.FakeQuantWithMinMaxArgsGradient(
                    gradients=upstream, inputs=x, min=0.0, max=high, num_bits=word
                )
            return tf.where((x >= 0) & (x <= high), upstream, 0.0)

        # One operation; `tf.clip_by_value`, which has a gradient of its own, is two.
        clipped = tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=high)
        return tf.round(clipped), gradient

    return quantized_relu


_SMALLER = ("pool", "sum")  # steps that leave fewer values
# Multiplications of an event below which different inputs share a convolution that is zero but on
# its diagonal blocks: a call costs about as much.
_WORTH_MERGING = 100_000


@dataclass(frozen=True)
class Slot:
    """A trained tensor of a student, and its place in the vector."""

    student: str  # names
    layer: str
    part: str  # `kernel` or `bias`
    shape: tuple[int, ...]
    start: int  # its first element in the vector
    type: FixedPoint  # its quantizer's
    unit: float  # output LSB over input LSB, the factor of a count
    bits: int  # of the values that the layer reads
    positions: int  # at which they are multiplied with the kernel
    variable: Any = field(repr=False)  # the Keras layer's

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape))

    @property
    def span(self) -> slice:
        """Its place in the vector."""
        return slice(self.start, self.start + self.size)


class Stack:
    """Students of `l1kd.networks.students` as one network: chains that end in a quantizer."""

    def __init__(self, students: Mapping[str, keras.Model]) -> None:
        self.students = dict(students)
        self.slots: list[Slot] = []
        self._plans = {name: self._read(name, model) for name, model in self.students.items()}
        # Neighbours do the same things for as long as they can.
        self._order = sorted(self.students, key=lambda name: [repr(s) for s in self._plans[name]])
        self._keys = [(slot.student, slot.layer, slot.part) for slot in self.slots]
        self._counts = self._vector(lambda slot: 1 / slot.type.lsb)
        self._low = self._vector(lambda slot: slot.type.low / slot.type.lsb)
        self._high = self._vector(lambda slot: slot.type.high / slot.type.lsb)
        self._unit = self._vector(lambda slot: slot.type.lsb * slot.unit)
        self.low = self._vector(lambda slot: slot.type.low)
        self.high = self._vector(lambda slot: slot.type.high)

    def _vector(self, value: Any) -> NDArray[np.float32]:
        return np.concatenate([np.full(slot.size, value(slot), np.float32) for slot in self.slots])

    def gather(self) -> NDArray[np.float32]:
        """The students' weights as one vector, as they are now."""
        return np.concatenate([slot.variable.numpy().ravel() for slot in self.slots])

    def scatter(self, vector: NDArray[np.float32]) -> None:
        """Give the students the weights of a vector."""
        for slot in self.slots:
            slot.variable.assign(vector[slot.span].reshape(slot.shape))

    def _read(self, name: str, model: keras.Model) -> list[Step]:
        """The steps of a student up to its last quantizer."""
        steps: list[Step] = []
        held, bits = 1.0, 0  # LSB and word of what the next layer reads: events come as they are
        layers = model.layers[:-1]
        for place, layer in enumerate(layers):
            kind = type(layer).__name__
            own = type_of(layer.quantizer) if kind == "QActivation" else None
            if kind == "InputLayer" or (own is not None and own.signed and not steps):
                bits = 0 if own is None else own.word  # the port: events are on its grid
            elif own is not None and not own.signed and steps:
                scale = held / own.lsb if steps[-1].kind in ("pool", "sum") else 1.0
                steps.append(Step("relu", (own.high / own.lsb, own.word, scale)))
                held, bits = own.lsb, own.word
            elif kind == "Reshape":
                steps.append(Step("reshape", layer.target_shape))
            elif kind == "Flatten":
                steps.append(Step("flatten"))
            elif kind == "AveragePooling2D" and layer.padding == "valid":
                steps.append(Step("pool", (layer.pool_size, layer.strides, "VALID")))
            elif kind == "AxisSum":
                steps.append(Step("sum", tuple(layer.axes)))
                cells = np.prod([layer.input_shape[axis] for axis in layer.axes])
                bits += int(np.ceil(np.log2(cells)))
            elif kind in ("QConv2D", "QDense"):
                last = layer is layers[-1]
                after = 1.0 if last else type_of(layers[place + 1].quantizer).lsb  # type: ignore[union-attr]
                steps.append(self._affine(name, layer, held, bits, after))
                held = after
            else:
                raise TypeError(f"{name}: layer {layer.name!r} ({kind}) is none of a student's")
        return steps

    def _affine(self, name: str, layer: Any, held: float, bits: int, after: float) -> Step:
        positions = int(np.prod(layer.output_shape[1:-1], dtype=int))
        parts = [("kernel", layer.kernel, layer.kernel_quantizer_internal, held / after)]
        if layer.use_bias:
            parts.append(("bias", layer.bias, layer.bias_quantizer_internal, 1 / after))
        for part, variable, quantizer, unit in parts:
            own = type_of(quantizer)
            if own is None:
                raise TypeError(f"{name}: the {part} of {layer.name!r} has no plain quantizer")
            start = self.size if self.slots else 0
            shape = tuple(int(side) for side in variable.shape)
            place = (name, layer.name, part, shape, start)
            self.slots.append(Slot(*place, own, unit, bits, positions, variable))
        if type(layer).__name__ == "QDense":
            return Step("dense", (layer.use_bias,), layer.name)
        options = (layer.kernel_size, layer.strides, layer.padding.upper(), layer.use_bias)
        return Step("conv", options, layer.name)

    @property
    def size(self) -> int:
        """Elements of the vector."""
        return self.slots[-1].start + self.slots[-1].size

    def kernels(self, student: str) -> list[Slot]:
        """A student's kernels, in the order of its layers."""
        return [s for s in self.slots if s.student == student and s.part == "kernel"]

    def features(self) -> dict[str, tuple[int, float]]:
        """Number and LSB of the inputs of every student's last layer."""
        last = {name: self.kernels(name)[-1] for name in self.students}
        return {name: (slot.shape[0], slot.unit) for name, slot in last.items()}

    def slice_of(self, student: str) -> slice:
        """A student's place in the vector."""
        own = [slot for slot in self.slots if slot.student == student]
        return slice(own[0].start, own[-1].start + own[-1].size)

    def weights(self, vector: Any, *, quantize: bool = True) -> list[Any]:
        """A vector of weights as tensors in the slots' order, scaled and quantized."""
        counts = vector * self._counts
        if quantize:
            counts = _straight_round(counts, self._low, self._high)
        parts = tf.split(counts * self._unit, [slot.size for slot in self.slots])
        return [tf.reshape(p, s.shape) for p, s in zip(parts, self.slots, strict=True)]

    def forward(self, weights: Sequence[Any], events: Any, *, quantize: bool = True) -> Forward:
        """Run `weights` of the students on events (batch, *shape) on the port's grid."""
        found = Forward(self._plans, dict(zip(self._keys, weights, strict=True)), quantize)
        found._share(events, self._order, 0)
        return found


@dataclass(frozen=True)
class Forward:
    """One pass of a batch through all students at once, and its results by student."""

    plans: Mapping[str, list[Step]]
    weights: Mapping[tuple[str, str, str], Any]
    quantize: bool
    scores: dict[str, Any] = field(default_factory=dict)  # inputs of the last quantizer, (batch,)
    # inputs of the last layer, (batch, units), in counts
    features: dict[str, Any] = field(default_factory=dict)

    def _share(self, x: Any, names: list[str], place: int) -> None:
        """Go on from a tensor that all of `names` read."""
        for step, group in self._groups(names, place):
            if not step.layer:
                self._share(plain(step, x, self.quantize), group, place + 1)
                continue
            for own in self._companions(x, group, place):
                kernels = [self._weight(name, place, "kernel") for name in own]
                self._affine(self._cropped(x, own, place), own, place, kernels)

    def _companions(self, x: Any, names: list[str], place: int) -> Iterator[list[str]]:
        """Groups that compute a layer together: splitting a large tensor again saves nothing."""
        for steps, group in groupby(names, lambda name: self._until_weights(name, place + 1)):
            own = list(group)
            here, kinds, apart = self.plans[own[0]][place], [step.kind for step in steps], False
            # Neither smaller in between nor at an end.
            if here.kind == "conv" and kinds and kinds[-1] == "conv" and not {*_SMALLER} & {*kinds}:
                kernels = [self._weight(name, place + len(steps), "kernel") for name in own]
                apart = not _together(steps[-1], sides_after(here, x.shape[1:3]), kernels)
            yield from ([name] for name in own) if apart else [own]

    def _cropped(self, x: Any, names: list[str], place: int) -> Any:
        """A convolution's input without the last rows and columns that none of `names` reads."""
        if self.plans[names[0]][place].kind != "conv":
            return x
        sides = x.shape[1], x.shape[2]
        read = [sides_read(self.plans[name][place:], sides) for name in names]
        rows, columns = (max(each) for each in zip(*read, strict=True))
        return x if (rows, columns) == sides else x[:, :rows, :columns]

    def _until_weights(self, name: str, place: int) -> tuple[Step, ...]:
        """The steps from a place on up to the next one with weights, included."""
        plan = self.plans[name]
        ends = (n for n in range(place, len(plan)) if plan[n].layer)
        return tuple(plan[place : next(ends, len(plan) - 1) + 1])

    def _side_by_side(self, x: Any, members: list[tuple[str, int]], place: int) -> None:
        """Go on from a tensor with the channels of several students, so many each."""
        widths = dict(members)
        groups = self._groups(list(widths), place)
        shares = [sum(widths[name] for name in group) for _, group in groups]
        parts = tf.split(x, shares, axis=-1) if len(groups) > 1 else [x]
        for part, (step, group) in zip(parts, groups, strict=True):
            kernels = [self._weight(n, place, "kernel") for n in group] if step.layer else []
            if len(group) > 1 and not _together(step, part.shape[1:3], kernels):
                alone = tf.split(part, [widths[name] for name in group], axis=-1)
                for own, name in zip(alone, group, strict=True):
                    self._share(own, [name], place)
            elif step.layer:
                self._affine(part, group, place, [_diagonal(kernels)])
            else:
                after = plain(step, part, self.quantize)
                self._side_by_side(after, [(name, widths[name]) for name in group], place + 1)

    def _affine(self, x: Any, group: list[str], place: int, kernels: list[Any]) -> None:
        """Apply a layer with weights; kernels lie side by side along their last axis."""
        step = self.plans[group[0]][place]
        kernel, *_ = kernels if len(kernels) == 1 else [tf.concat(kernels, -1)]
        if step.kind == "dense":
            after = tf.matmul(x, kernel)
        else:
            after = tf.nn.conv2d(x, kernel, step.options[1], step.options[2])
        if step.options[-1]:
            biases = [self._weight(name, place, "bias") for name in group]
            after = tf.nn.bias_add(after, tf.concat(biases, 0))
        members = [(name, self._weight(name, place, "kernel").shape[-1]) for name in group]
        if place + 1 < len(self.plans[group[0]]):
            self._side_by_side(after, members, place + 1)
            return
        for number, name in enumerate(group):
            self.scores[name] = after[:, number]
            self.features[name] = x

    def _weight(self, name: str, place: int, part: str) -> Any:
        return self.weights[name, self.plans[name][place].layer, part]

    def _groups(self, names: list[str], place: int) -> list[tuple[Step, list[str]]]:
        """Neighbours whose steps are equal."""
        groups = groupby(names, lambda name: self.plans[name][place])
        return [(step, list(group)) for step, group in groups]


def _together(step: Step, sides: Sequence[int], kernels: list[Any]) -> bool:
    """True if students with different inputs, of these rows and columns, take this step at once."""
    if step.kind in ("dense", "flatten", "reshape") or (step.kind == "sum" and 3 in step.options):
        return False
    if step.kind != "conv":
        return True
    (rows, columns), (down, across) = step.options[0], step.options[1]
    positions = (sides[0] // down) * (sides[1] // across)
    channels = sum(k.shape[2] for k in kernels) * sum(k.shape[3] for k in kernels)
    return bool(positions * channels * rows * columns <= _WORTH_MERGING)


def _diagonal(kernels: list[Any]) -> Any:
    """Kernels (rows, columns, in, out) as one that keeps their channels apart."""
    if len(kernels) == 1:
        return kernels[0]
    *starts, total = accumulate((k.shape[3] for k in kernels), initial=0)
    pads = [
        [before, total - before - k.shape[3]] for before, k in zip(starts, kernels, strict=True)
    ]
    rows = [tf.pad(k, [[0, 0]] * 3 + [own]) for k, own in zip(kernels, pads, strict=True)]
    return tf.concat(rows, 2)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _straight_round(counts: Any, low: Any, high: Any) -> Any:
    """Rounded half to even and clipped; the gradient passes everywhere."""
    return tf.clip_by_value(tf.round(counts), low, high), lambda upstream: (upstream, None, None)
