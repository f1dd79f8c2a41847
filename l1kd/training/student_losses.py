"""The students' side of a training: their restarts, losses, pruning, one step of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.config import Distillation, Student
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.students import STUDENTS, build_student
from l1kd.networks.to_exact import call_back
from l1kd.training.student_stack import Slot, Stack
from l1kd.training.target_transform import SPREAD_AS

Vector = NDArray[np.float32]
_BEYOND = 8  # terms of the surrogate above a weight's own bits; the rest is below 1e-4
_FEWEST = -3.0  # logarithm of the share of windows that pass the highest first threshold
_MARK = "/"  # between a student's name and the number of its start; in no name of a configuration


def all_starts(settings: Sequence[Student]) -> list[Student]:
    """Every student as often as it starts: `s7`, `s7/2`, `s7/3`."""
    return [
        own if number == 1 else own.model_copy(update={"name": f"{own.name}{_MARK}{number}"})
        for own in settings
        for number in range(1, own.starts + 1)
    ]


def best_starts(losses: Mapping[str, float]) -> dict[str, str]:
    """By student the start with the lowest loss, the first of equal ones."""
    found: dict[str, str] = {}
    for name, loss in losses.items():
        student = name.partition(_MARK)[0]
        if student not in found or loss < losses[found[student]]:
            found[student] = name
    return found


def only_best(row: Mapping[str, Any], losses: Mapping[str, float]) -> dict[str, Any]:
    """A row of the history with the best start of every student, under the student's name."""
    found, best = {}, best_starts(losses)
    for column, value in row.items():
        ending = next((e for e in ("_val_loss", "_loss") if column.endswith(e)), "")
        name = column.removesuffix(ending)
        student = name.partition(_MARK)[0]
        if not ending or best.get(student, student) == name:
            found[student + ending] = value
    return found


class FeatureHeads:
    r"""Linear float heads from students' features f to the teacher's standardised latent z.

    In the spirit of FitNets (arXiv 1412.6550) a head adds :math:`w \, \frac{1}{n} \sum_j |z_j -
    (A f + b)_j|` to a student's loss. It is not stored. Features have a number and an LSB.
    """

    def __init__(
        self, features: Mapping[str, tuple[int, float]], latent: int, weight: float
    ) -> None:
        self.features, self.latent, self.weight = dict(features), latent, weight
        sizes = [(units + 1) * latent for units, _ in self.features.values()]
        self.size = sum(sizes)
        self._starts = dict(zip(self.features, accumulate(sizes, initial=0), strict=False))

    def loss(self, vector: Any, name: str, features: Any, latent: Any) -> Any:
        """A scalar, for features (batch, units) in counts and latents (batch, latent)."""
        units, lsb = self.features[name]
        start = self._starts[name]
        kernel = tf.reshape(vector[start : start + units * self.latent], (units, self.latent))
        bias = vector[start + units * self.latent : start + (units + 1) * self.latent]
        told = tf.matmul(features * lsb, kernel) + bias
        return self.weight * tf.reduce_mean(tf.abs(told - latent))


def standardise(latent: Any, normals: int) -> Any:
    """Latents (batch, numbers) in units of their spread over the first `normals` of the batch."""
    mean, variance = tf.nn.moments(latent[:normals], axes=[0])
    # A number that is the same for all events tells nothing.
    return (latent - mean) / tf.sqrt(tf.maximum(variance, 1e-6))


def clip_below(entering: Any, target: Any, low: float) -> Any:
    """Scores before the last quantizer; any score below a target clipped at `low` is right."""
    return tf.where(target <= low, tf.maximum(entering, low), entering)


def _exact(counts: Any) -> Any:
    """`signed_digits` of a tensor of whole floats of at most 28 bits."""
    magnitude = tf.cast(tf.abs(counts), tf.int32)
    changed = tf.bitwise.bitwise_xor(magnitude, 3 * magnitude)
    return tf.cast(tf.raw_ops.PopulationCount(x=changed), tf.float32)


def _surrogate(x: Any, word: int) -> Any:
    """Close to the number of non-zero digits of a tensor (correlation 0.97 for 8 bits), smooth."""
    scales = [2.0**j for j in range(1, word + _BEYOND + 1)]
    unit = sum(np.sin(np.pi / scale) ** 2 for scale in scales)
    return tf.add_n([tf.square(tf.sin(np.pi / scale * x)) for scale in scales]) / unit


def _digits(weights: Any, kind: FixedPoint) -> Any:
    """Non-zero digits of weights of a type in all, with the surrogate's gradient."""
    low, high = kind.low / kind.lsb, kind.high / kind.lsb
    inside = tf.clip_by_value(weights / kind.lsb, low, high)
    smooth = tf.reduce_sum(_surrogate(inside, kind.word))
    exact = tf.reduce_sum(_exact(tf.round(inside)))
    return smooth + tf.stop_gradient(exact - smooth)


def adder_cost(weights: Sequence[Any], slots: Sequence[Slot]) -> Any:
    r"""The adders that kernels need, over those if a third of all digits were non-zero.

    A kernel w with the LSB :math:`2^{-f}`, applied at P positions to values of b bits, adds
    :math:`P \, b \sum_i D(2^f q(w_i))` bits; D counts non-zero signed digits (CSD), q quantizes.
    Its gradient is that of :math:`S(x) = \sum_j \sin^2(\pi x / 2^j) / S_1`, D at 0 and powers of 2.
    """
    shares = [
        _digits(values, slot.type) * slot.bits * slot.positions
        for values, slot in zip(weights, slots, strict=True)
    ]
    full = sum(slot.size * slot.type.word / 3 * slot.bits * slot.positions for slot in slots)
    return tf.add_n(shares) / full


class StudentTrainer:
    """Students that learn the same targets in one graph, their trained weights one vector.

    A loss is the mean absolute error to the targets before the last quantizer, whose clip at 0 has
    no gradient, plus adder cost and head's loss in units of the normals' spread, and `_raw_error`.
    """

    def __init__(
        self,
        students: Mapping[str, keras.Model],
        config: Distillation,
        settings: Sequence[Student],
        *,
        latent: int = 0,  # numbers in the teacher's latent, for `feature_weight`
    ) -> None:
        self.students, self.names, self.settings = dict(students), list(students), settings
        self.config, self.score = config, config.score.type
        self.stack = stack = Stack(self.students)
        unit = SPREAD_AS * (self.score.high + self.score.lsb)
        self.heads = None
        if config.feature_weight:
            self.heads = FeatureHeads(stack.features(), latent, unit * config.feature_weight)
        self._beyond = 0, self.heads.size if self.heads else 0  # the heads' weights, for `np.pad`
        self._low = np.pad(stack.low, self._beyond, constant_values=-np.inf)
        self._high = np.pad(stack.high, self._beyond, constant_values=np.inf)
        self.vector = tf.Variable(np.pad(stack.gather(), self._beyond), name="learners")
        self.averaged = tf.Variable(self.vector, trainable=False, name="averaged")
        self.mask = tf.Variable(tf.ones_like(self.vector), trainable=False, name="mask")
        # Adam works per element: one optimizer serves all students alike.
        self.optimizer = keras.optimizers.Adam(config.student_learning_rate)
        self.optimizer.build([self.vector])
        # Adam's steps are as long as its rate: a student's own rate is a factor of its steps.
        rates = {own.name: own.learning_rate for own in settings if own.learning_rate}
        self._paces = np.ones(self.vector.shape, np.float32)
        for name, rate in rates.items():
            own_part = stack.slice_of(name)
            self._paces[own_part] = rate / config.student_learning_rate
        self._penalties = {own.name: own.logic_penalty * unit for own in settings}
        self.sparsities: dict[tuple[str, str], float] = {}  # by student and layer
        for own in settings:
            for slot in stack.kernels(own.name):
                layer = own.layers.get(slot.layer)
                share = own.sparsity if layer is None or layer.sparsity is None else layer.sparsity
                if share:
                    self.sparsities[own.name, slot.layer] = share

    @classmethod
    def build(
        cls,
        settings: Sequence[Student],
        config: Distillation,
        shape: tuple[int, ...],
        grid: FixedPoint,
        *,
        latent: int,
    ) -> StudentTrainer:
        """Untrained students, every one as often as it starts."""
        starts, students = all_starts(settings), {}
        for own in starts:
            named = own.model_copy(update={"name": own.name.partition(_MARK)[0]})
            students[own.name] = build_student(named, shape, grid, config.score)
        return cls(students, config, starts, latent=latent)

    def start(self, events: Any, middle: float) -> None:
        """Give the students units that fire on normal `events`, and scores at `middle`."""
        for own in self.settings:
            student, quantile = self.students[own.name], STUDENTS[own.architecture][1].awake
            for layer in student.layers[:-2]:
                if getattr(layer, "use_bias", False):
                    # Raised until every unit fires at this quantile of its inputs.
                    entering = keras.Model(student.input, layer.output)(events).numpy()
                    usual = np.quantile(entering.reshape(-1, entering.shape[-1]), quantile, axis=0)
                    kernel, bias = layer.get_weights()
                    layer.set_weights([kernel, bias + np.maximum(-usual, 0)])
            if own.pointwise:
                _set_thresholds(student, events)
            output = student.layers[-2]
            kernel, bias = output.get_weights()
            output.set_weights([kernel, np.full_like(bias, middle)])
        self.load()

    def load(self) -> None:
        """Begin with the weights that the students have, and with heads that return 0."""
        start = np.pad(self.stack.gather(), self._beyond)
        self.vector.assign(start)
        self.averaged.assign(start)

    def store(self, best: Mapping[str, Sequence[Vector]]) -> None:
        """Give the students the trained weights, those in `best` by student."""
        whole = self.judged.numpy()[: self.stack.size]
        for name in self.names:
            if name in best:
                (whole[self.stack.slice_of(name)],) = best[name]
        self.stack.scatter(whole)

    def best_students(self, losses: Mapping[str, float]) -> dict[str, keras.Model]:
        """Every student's best start by validation losses, ready to be stored."""
        kept = best_starts(losses)
        found = {n: self.students[kept[n]] for n in self.names if _MARK not in n}
        for student in found.values():
            call_back(student)
        return found

    @property
    def state(self) -> dict[str, Any]:
        """Variables that training changes, besides the optimizer's, for a checkpoint."""
        return {"learners": self.vector, "averaged": self.averaged, "mask": self.mask}

    @property
    def judged(self) -> Any:
        """The vector that validation sees: the moving average where there is one."""
        return self.averaged if self.config.average else self.vector

    def part(self, name: str) -> list[Vector]:
        """A student's weights as validation sees them, one vector."""
        return [np.asarray(self.judged.numpy()[self.stack.slice_of(name)])]

    def losses(
        self,
        events: Any,
        target: Any,
        latent: Any = None,
        *,
        gain: Any = 1.0,
        training: bool = False,
        quantize: bool = True,
    ) -> Any:
        """Losses (students,) of events with targets (batch,); `training` adds those of learning."""
        vector = self.vector if training else self.judged
        weights = self.stack.weights(vector[: self.stack.size], quantize=quantize)
        seen = self.stack.forward(weights, events, quantize=quantize)
        entering = tf.stack([seen.scores[name] for name in self.names])
        reached = clip_below(entering, target, self.score.low)
        missed = tf.abs(reached - target)
        if training and self.config.raw_weight:
            missed += self.config.raw_weight * _raw_error(reached, target, gain)
        found = tf.unstack(tf.reduce_mean(missed, axis=1), len(self.names))
        for number, name in enumerate(self.names):
            if penalty := self._penalties[name]:
                own = self.stack.kernels(name)
                found[number] += penalty * adder_cost([vector[slot.span] for slot in own], own)
            if training and self.heads and latent is not None:
                head = vector[self.stack.size :]
                found[number] += self.heads.loss(head, name, seen.features[name], latent)
        return tf.stack(found)

    def step(self, events: Any, target: Any, latent: Any = None, **options: Any) -> Any:
        """One step of every student; pruned weights stay 0. Returns the losses, (students,)."""
        with tf.GradientTape() as tape:
            losses = self.losses(events, target, latent, training=True, **options)
        gradient = tape.gradient(losses, self.vector)
        before = tf.identity(self.vector)
        self.optimizer.apply_gradients([(gradient, self.vector)])
        if (self._paces != 1).any():
            self.vector.assign(before + self._paces * (self.vector - before))
        self.hold()
        if self.config.average:
            self.averaged.assign_sub((1 - self.config.average) * (self.averaged - self.vector))
        return losses

    def hold(self) -> None:
        """Keep weights in their types' ranges, and pruned ones at 0."""
        inside = tf.clip_by_value(self.vector, self._low, self._high)
        self.vector.assign(inside * self.mask if self.sparsities else inside)

    def prune(self, progress: float) -> None:
        """Prune every kernel to a share `progress` of its sparsity, the smallest weights first."""
        vector, mask = self.vector.numpy(), self.mask.numpy()
        for slot in self.stack.slots:
            asked = self.sparsities.get((slot.student, slot.layer), 0) * (slot.part == "kernel")
            count = int(asked * progress * slot.size + 1e-9)
            if count > np.sum(mask[slot.span] == 0):
                kept = np.ones(slot.size, np.float32)
                # Pruned weights are 0, so they are among the smallest again; ties go by position.
                kept[np.argsort(np.abs(vector[slot.span]), kind="stable")[:count]] = 0
                mask[slot.span] = kept
        if (mask != self.mask.numpy()).any():
            self.mask.assign(mask)
            self.vector.assign(vector * mask)
            self.averaged.assign(self.averaged * mask)


def _set_thresholds(student: keras.Model, events: Any) -> None:
    """Let the second convolution's filters begin at thresholds: that all windows pass, to few."""
    for name in ("conv1", "conv2"):
        kernel, bias = student.get_layer(name).get_weights()
        student.get_layer(name).set_weights([np.abs(kernel), bias * 0])
    layer = student.get_layer("conv2")
    entering = keras.Model(student.input, layer.output)(events).numpy()
    shares = np.logspace(0, _FEWEST, entering.shape[-1])
    levels = [
        np.quantile(values, 1 - share)
        for values, share in zip(entering.reshape(-1, len(shares)).T, shares, strict=True)
    ]
    layer.set_weights([layer.get_weights()[0], -np.array(levels)])


def _raw_error(reached: Any, target: Any, gain: Any) -> Any:
    """Errors of raw scores (students, batch), as large as those of targets at their mean."""
    top = tf.reduce_max(target)
    # Relative to the largest: nothing overflows, whatever the range.
    mean = tf.reduce_mean(tf.exp((target - top) / gain))

    def raw(values: Any) -> Any:
        return gain / mean * tf.exp((tf.minimum(values, top + gain) - top) / gain)

    return tf.abs(raw(reached) - raw(target))
