r"""The students' side of a training: their losses, one step of all of them, what is pruned.

Feature distillation: what a student's last layer reads is to tell the teacher's latent, too.

Beside the score, an auxiliary head of each student, a linear map :math:`A f + b` from its features
:math:`f` (what its last layer reads) to the teacher's latent :math:`z`, standardised over the batch
or the normals, is trained with the student and adds

.. math:: w \, \frac{1}{n} \sum_j |z_j - (A f + b)_j|

to its loss (in the spirit of FitNets, arXiv 1412.6550). The head is float, belongs to the training
alone and is not in the student that is stored. Whether this helps is the open question of
arXiv 2310.06047; `tests/benchmarks/results/ablations.json` has what we saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.config import Distillation, Student
from l1kd.networks.students import AWAKE
from l1kd.training.adder_penalty import LogicCost, logic_cost
from l1kd.training.student_stack import Slot, Stack
from l1kd.training.target_transform import SPREAD_AS


class FeatureHeads:
    """The auxiliary heads of some students; their weights lie in a vector, one after the other."""

    def __init__(
        self, features: Mapping[str, tuple[int, float]], latent: int, weight: float
    ) -> None:
        self.features, self.latent, self.weight = dict(features), latent, weight
        self._starts: dict[str, int] = {}
        self.size = 0
        for name, (units, _) in self.features.items():
            self._starts[name] = self.size
            self.size += (units + 1) * latent

    def start(self) -> NDArray[np.float32]:
        """Untrained weights: a head that says 0, the mean of a standardised latent."""
        return np.zeros(self.size, np.float32)

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


Vector = NDArray[np.float32]


class Learners:
    """Students that learn the same targets in one graph.

    Every student minimises the mean absolute error to the targets and its logic penalty times its
    logic cost (`adder_penalty`), in units of one spread of the normals' scores, which the
    `fitted` target makes a 16th of the output's range. With `feature_weight` it also minimises what
    its auxiliary head misses of the teacher's latent (`student_losses`), in the same units.

    Targets are logarithms: an error of one unit is a small one on a normal event's raw score and a
    large one on an anomaly's. With `raw_weight` students also minimise the mean absolute error on
    the raw scores, in units in which both errors are alike where the raw score is its mean over the
    batch. What a student says beyond e times the batch's largest raw score counts as that much.

    A student is trained on what enters its last quantizer: the output type's clip at 0 has no
    gradient, and targets lie inside the range.

    The weights that learn are one vector here; the students have them after `store`."""

    def __init__(
        self,
        students: Mapping[str, keras.Model],
        config: Distillation,
        settings: Sequence[Student] = (),
        *,
        latent: int = 0,
    ) -> None:
        self.students = dict(students)
        self.config, self.score = config, config.score.type
        self.stack = stack = Stack(self.students)
        unit = SPREAD_AS * (self.score.high + self.score.lsb)
        self.heads = None
        if config.feature_weight:
            self.heads = FeatureHeads(stack.features(), latent, unit * config.feature_weight)
        beyond = self.heads.size if self.heads else 0
        self._low = np.concatenate([stack.low, np.full(beyond, -np.inf, np.float32)])
        self._high = np.concatenate([stack.high, np.full(beyond, np.inf, np.float32)])
        self.vector = tf.Variable(np.zeros(stack.size + beyond, np.float32), name="learners")
        self.averaged = tf.Variable(self.vector, trainable=False, name="averaged")
        self.mask = tf.Variable(tf.ones_like(self.vector), trainable=False, name="mask")
        self._penalties: dict[str, tuple[float, LogicCost]] = {}
        self.sparsities: dict[tuple[str, str], float] = {}
        for own in settings:
            student = self.students[own.name]
            if own.logic_penalty:
                self._penalties[own.name] = (own.logic_penalty * unit, logic_cost(student))
            for layer, share in _sparsities(own, student).items():
                self.sparsities[own.name, layer] = share
        self.load()

    @property
    def names(self) -> list[str]:
        """The students, in the order of the losses."""
        return list(self.students)

    def load(self) -> None:
        """Begin with the weights that the students have."""
        start = self.stack.gather()
        if self.heads:
            start = np.concatenate([start, self.heads.start()])
        self.vector.assign(start)
        self.averaged.assign(start)

    def store(self, best: Mapping[str, Vector]) -> None:
        """Give every student its own part of a vector of weights."""
        whole = self.judged.numpy()[: self.stack.size]
        for name, part in best.items():
            whole[self.stack.whereabouts(name)] = part
        self.stack.scatter(whole)

    @property
    def judged(self) -> Any:
        """The vector that validation looks at: the moving average where there is one."""
        return self.averaged if self.config.average else self.vector

    def part(self, name: str) -> Vector:
        """A student's weights as validation sees them."""
        own: Vector = self.judged.numpy()[self.stack.whereabouts(name)]
        return own

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
        """Loss of every student, (students,)."""
        vector = self.vector if training else self.judged
        weights = self.stack.weights(vector[: self.stack.size], quantize=quantize)
        seen = self.stack.forward(weights, events, quantize=quantize)
        entering = tf.stack([seen.scores[name] for name in self.names])
        # Where the target is clipped at the bottom, whatever lies below is right.
        low = self.score.low
        reached = tf.where(target <= low, tf.maximum(entering, low), entering)
        missed = tf.abs(reached - target)
        if training and self.config.raw_weight:
            missed += self.config.raw_weight * _missed_of_raw(reached, target, gain)
        found = tf.unstack(tf.reduce_mean(missed, axis=1), len(self.names))
        for number, name in enumerate(self.names):
            if name in self._penalties:
                weight, cost = self._penalties[name]
                found[number] += weight * cost(self._kernels(name, vector))
            if training and self.heads and latent is not None:
                own = vector[self.stack.size :]
                found[number] += self.heads.loss(own, name, seen.features[name], latent)
        return tf.stack(found)

    def step(
        self,
        optimizer: Any,
        events: Any,
        target: Any,
        latent: Any = None,
        *,
        gain: Any = 1.0,
        quantize: bool = True,
    ) -> Any:
        """One step of every student; pruned weights stay 0. Returns the losses, (students,)."""
        with tf.GradientTape() as tape:
            losses = self.losses(
                events, target, latent, gain=gain, training=True, quantize=quantize
            )
        gradient = tape.gradient(losses, self.vector)
        optimizer.apply_gradients([(gradient, self.vector)])
        self.hold()
        if self.config.average:
            self.averaged.assign_sub((1 - self.config.average) * (self.averaged - self.vector))
        return losses

    def hold(self) -> None:
        """Keep weights in their types' ranges, and what is pruned at 0."""
        inside = tf.clip_by_value(self.vector, self._low, self._high)
        self.vector.assign(inside * self.mask if self.sparsities else inside)

    def prune(self, progress: float) -> None:
        """Prune every kernel to a share `progress` of its sparsity, the smallest weights first."""
        if not self.sparsities:
            return
        vector, mask = self.vector.numpy(), self.mask.numpy()
        for slot in self._pruned():
            count = int(self.sparsities[slot.student, slot.layer] * progress * slot.size + 1e-9)
            if count > np.sum(mask[slot.where] == 0):
                kept = np.ones(slot.size, np.float32)
                # What is pruned is 0, so it is among the smallest again; ties go by position.
                kept[np.argsort(np.abs(vector[slot.where]), kind="stable")[:count]] = 0
                mask[slot.where] = kept
        if (mask != self.mask.numpy()).any():
            self.mask.assign(mask)
            self.vector.assign(vector * mask)
            self.averaged.assign(self.averaged * mask)

    def is_pruned(self, name: str) -> bool:
        """Whether a student has sparsities."""
        return any(student == name for student, _ in self.sparsities)

    def _pruned(self) -> Iterator[Slot]:
        for slot in self.stack.slots:
            if slot.part == "kernel" and (slot.student, slot.layer) in self.sparsities:
                yield slot

    def _kernels(self, name: str, vector: Any) -> list[Any]:
        own = [s for s in self.stack.slots if s.student == name and s.part == "kernel"]
        return [vector[slot.where] for slot in own]


def _missed_of_raw(reached: Any, target: Any, gain: Any) -> Any:
    """Absolute errors on the raw score, (students, batch), in output units: see `Learners`."""
    top = tf.reduce_max(target)
    # Relative to the largest: nothing overflows, whatever the range.
    mean = tf.reduce_mean(tf.exp((target - top) / gain))

    def raw(values: Any) -> Any:
        return gain / mean * tf.exp((tf.minimum(values, top + gain) - top) / gain)

    return tf.abs(raw(reached) - raw(target))


def _sparsities(own: Student, student: keras.Model) -> dict[str, float]:
    """Share of weights to prune by layer, where there is any."""
    shares = {}
    for layer in student.layers:
        if hasattr(layer, "kernel"):
            widths = own.layers.get(layer.name)
            share = own.sparsity if widths is None or widths.sparsity is None else widths.sparsity
            if share:
                shares[layer.name] = share
    return shares


def start_students(
    students: Mapping[str, keras.Model], settings: Sequence[Student], events: Any, middle: float
) -> None:
    """Start every student with units that are awake and scores in the middle of its targets.

    A ReLU whose input is negative for nearly every event never learns, and the smallest students
    have two filters. Adam moves a bias by about its rate a step: a few thousand steps of 1e-3 would
    not lift the scores to where the targets are."""
    for own in settings:
        student, awake = students[own.name], AWAKE[own.architecture]
        output = student.layers[-2]
        for layer in student.layers:
            if getattr(layer, "use_bias", False) and layer is not output:
                entering = keras.Model(student.input, layer.output)(events).numpy()
                usual = np.quantile(entering.reshape(-1, entering.shape[-1]), awake, axis=0)
                kernel, bias = layer.get_weights()
                layer.set_weights([kernel, bias + np.maximum(-usual, 0)])
        kernel, bias = output.get_weights()
        output.set_weights([kernel, np.full_like(bias, middle)])
