"""The students' side of a training: their losses, one step of all of them, what is pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.config import Student
from l1kd.distill.targets import SPREAD_AS
from l1kd.fixedpoint import FixedPoint
from l1kd.models.logic_cost import logic_cost
from l1kd.models.students import AWAKE

__all__ = ["Learners", "start_students"]


class Learners:
    """Students that learn the same targets in one graph.

    Every student minimises the mean absolute error to the targets, and its logic penalty times its
    logic cost (`l1kd.models.logic_cost`) in units of one spread of the normals' scores, which the
    `fitted` target makes a 16th of the output's range.

    A student is trained on what enters its last quantizer: the output type's clip at 0 has no
    gradient, and targets lie inside the range.

    Parameters
    ----------
    students
        By name; the last layer is the output quantizer.
    score
        The output type.
    settings
        Penalties and sparsities, by the students' names; a student that is not there has none.
    """

    def __init__(
        self,
        students: Mapping[str, keras.Model],
        score: FixedPoint,
        settings: Sequence[Student] = (),
    ) -> None:
        self.students = dict(students)
        self.score = score
        self.heads = {
            name: keras.Model(student.input, student.layers[-1].input)
            for name, student in students.items()
        }
        self._penalties: dict[str, tuple[float, Any]] = {}
        self.sparsities: dict[str, dict[str, float]] = {}
        self.masks: dict[str, dict[str, Any]] = {}
        for own in settings:
            student = self.students[own.name]
            if own.logic_penalty:
                unit = SPREAD_AS * (score.high + score.lsb)
                self._penalties[own.name] = (own.logic_penalty * unit, logic_cost(student))
            if shares := _sparsities(own, student):
                self.sparsities[own.name] = shares
                self.masks[own.name] = {
                    layer: tf.Variable(tf.ones(student.get_layer(layer).kernel.shape), False)
                    for layer in shares
                }

    @property
    def variables(self) -> list[Any]:
        """What learns, of all students in their order."""
        return [v for student in self.students.values() for v in student.trainable_variables]

    def losses(self, events: Any, target: Any, training: bool) -> dict[str, Any]:
        """Loss of every student on events (batch, \\*shape) with targets (batch,)."""
        low = self.score.low
        losses = {}
        for name, head in self.heads.items():
            entering = head(events, training=training)[:, 0]
            # Where the target is clipped at the bottom, whatever lies below is right.
            reached = tf.where(target <= low, tf.maximum(entering, low), entering)
            losses[name] = tf.reduce_mean(tf.abs(reached - target))
            if name in self._penalties:
                weight, cost = self._penalties[name]
                losses[name] += weight * cost()
        return losses

    def step(self, optimizer: Any, events: Any, target: Any) -> dict[str, Any]:
        """One step of every student; pruned weights stay 0."""
        with tf.GradientTape() as tape:
            losses = self.losses(events, target, training=True)
            total = tf.add_n(list(losses.values()))
        variables = self.variables
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        self.hold()
        return losses

    def hold(self) -> None:
        """Set what is pruned to 0."""
        for _, kernel, mask in self._masked():
            kernel.assign(kernel * mask)

    def prune(self, progress: float) -> None:
        """Prune every kernel to a share `progress` of its sparsity, the smallest weights first."""
        for (name, layer), kernel, mask in self._masked():
            count = int(self.sparsities[name][layer] * progress * mask.shape.num_elements() + 1e-9)
            if count > np.sum(mask.numpy() == 0):
                values = np.abs(kernel.numpy()).ravel()
                kept = np.ones(values.size, np.float32)
                # What is pruned is 0, so it is among the smallest again; ties go by position.
                kept[np.argsort(values, kind="stable")[:count]] = 0
                mask.assign(kept.reshape(mask.shape))
                kernel.assign(kernel * mask)

    def _masked(self) -> Iterator[tuple[tuple[str, str], Any, Any]]:
        for name, masks in self.masks.items():
            for layer, mask in masks.items():
                yield (name, layer), self.students[name].get_layer(layer).kernel, mask


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
    not lift the scores to where the targets are.

    Parameters
    ----------
    students, settings
        Untrained networks by name, and what they are.
    events
        Normal ones, (N, \\*shape).
    middle
        The usual target.
    """
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
