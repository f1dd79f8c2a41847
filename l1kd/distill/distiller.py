"""The co-distillation step: the teacher and all students of a run in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.distill.learners import Learners
from l1kd.distill.targets import MIN_SPREAD, TINY, TargetTransform

__all__ = ["Distiller"]


class Distiller(keras.Model):
    """Teacher and students as one model for `fit`.

    A batch is (normal events, exposure events, step); the teacher minimises its own score's mean
    square on the normal ones, every student its loss (see `Learners`) against the transformed
    teacher score on both. No gradient flows from a student to the teacher.

    Parameters
    ----------
    teacher
        Event -> raw score.
    learners
        The students.
    transform
        Where the target transform starts.
    follow
        Whether its median and spread follow the teacher (target `fitted`).
    exposed
        Whether batches hold exposure. Without it nothing is computed on its empty part:
        TensorFlow's convolutions do not take one.
    """

    def __init__(
        self,
        teacher: keras.Model,
        learners: Learners,
        transform: TargetTransform,
        *,
        follow: bool,
        exposed: bool = True,
    ) -> None:
        super().__init__(name="distiller")
        self.teacher = teacher
        self.reconstruct = keras.Model(
            teacher.input,
            [teacher.get_layer("standardised").output, teacher.get_layer("reconstruction").output],
        )
        self.score_layer = teacher.get_layer("raw_score")
        self.learners = learners
        self.students = learners.students
        self.transform = transform
        self.follow = follow
        self.exposed = exposed
        # gain, offset; and median, spread, steps seen of the moving fit
        self.affine = tf.Variable([transform.gain, transform.offset], trainable=False)
        self.moving = tf.Variable([0.0, 1.0, 0.0], trainable=False)
        self.train_teacher = True
        self.train_students = True
        self._means = {
            name: keras.metrics.Mean(f"{name}_loss") for name in ("teacher", *learners.students)
        }

    @property
    def metrics(self) -> list[Any]:
        """Means over an epoch; `fit` resets them."""
        return list(self._means.values())

    def _report(self, losses: Mapping[str, Any]) -> dict[str, Any]:
        for name, loss in losses.items():
            self._means[name].update_state(loss)
        return {f"{name}_loss": self._means[name].result() for name in losses}

    def compile(self, teacher_optimizer: Any, student_optimizer: Any, **kwargs: Any) -> None:
        """Two optimizers: Adam works per variable, so one serves all students alike."""
        super().compile(**kwargs)
        self.teacher_optimizer = teacher_optimizer
        self.student_optimizer = student_optimizer
        teacher_optimizer.build(self.teacher.trainable_variables)
        student_optimizer.build(self.learners.variables)

    def set_transform(self, transform: TargetTransform) -> None:
        """Fix the target transform from outside."""
        self.transform = transform
        self.affine.assign([transform.gain, transform.offset])

    def target(self, raw: Any) -> Any:
        """Raw scores (batch,) to targets (batch,), inside the output type's range."""
        log1p = self.transform.base == "log1p"
        log = tf.math.log1p(raw) if log1p else tf.math.log(tf.maximum(raw, TINY))
        score = self.transform.score
        return tf.clip_by_value(self.affine[1] + self.affine[0] * log, score.low, score.high)

    def _teacher_loss(self, events: Any, training: bool) -> tuple[Any, Any]:
        """Loss, and raw scores (batch,)."""
        standardised, reconstruction = self.reconstruct(events, training=training)
        raw = self.score_layer([standardised, reconstruction])
        # Training minimises the mean square in the score's own weights, whatever its power:
        # higher powers follow single outliers and learn slowly.
        square = tf.square(standardised - reconstruction)
        if self.score_layer._factor is not None:
            square *= self.score_layer._factor
        return tf.reduce_mean(square), raw

    def _follow(self, raw: Any) -> None:
        """Let the fitted transform move with the teacher: running quantiles of log(raw)."""
        log = tf.sort(tf.math.log(tf.maximum(raw, TINY)))
        size = tf.cast(tf.shape(log)[0] - 1, tf.float32)
        low, median, high = (
            tf.gather(log, tf.cast(tf.round(q * size), tf.int32)) for q in (0.16, 0.5, 0.84)
        )
        seen = self.moving[2]
        # A plain mean over the first steps, then a memory of 50.
        rate = tf.maximum(1.0 / (seen + 1.0), 0.02)
        middle = self.moving[0] + rate * (median - self.moving[0])
        spread = self.moving[1] + rate * ((high - low) / 2 - self.moving[1])
        self.moving.assign([middle, spread, seen + 1.0])
        fit = self.transform.fitted
        unit, unit_offset = fit(0.0, 1.0).gain, fit(0.0, 1.0).offset
        gain = unit / tf.maximum(spread, MIN_SPREAD)
        self.affine.assign([gain, unit_offset - gain * middle])

    def _shown(self, events: Any, raw: Any, exposure: Any) -> tuple[Any, Any]:
        """What students are shown, normal events and exposure, and their targets."""
        if self.exposed:
            _, raw_exposure = self._teacher_loss(exposure, training=False)
            events, raw = tf.concat([events, exposure], 0), tf.concat([raw, raw_exposure], 0)
        return events, tf.stop_gradient(self.target(raw))

    def train_step(self, data: Any) -> dict[str, Any]:
        """One batch: the teacher's step (unless frozen), then every student's."""
        events, exposure = data
        if self.train_teacher:
            with tf.GradientTape() as tape:
                loss, raw = self._teacher_loss(events, training=True)
            variables = self.teacher.trainable_variables
            self.teacher_optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            if self.follow:
                self._follow(raw)
        else:
            loss, raw = self._teacher_loss(events, training=False)
        reported = {"teacher": loss}
        if self.train_students:
            shown, target = self._shown(events, raw, exposure)
            reported.update(self.learners.step(self.student_optimizer, shown, target))
        return self._report(reported)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The same losses on validation events, nothing changed."""
        events, exposure = data
        loss, raw = self._teacher_loss(events, training=False)
        reported = {"teacher": loss}
        if self.train_students:
            shown, target = self._shown(events, raw, exposure)
            reported.update(self.learners.losses(shown, target, training=False))
        return self._report(reported)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The teacher's raw scores: `fit` and `summary` want a forward pass."""
        return self.teacher(inputs, training=training)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that training changes, by name: what a checkpoint holds."""
        named = {"affine": self.affine, "moving": self.moving}
        for number, variable in enumerate(self.teacher.variables):
            named[f"teacher/{number}"] = variable
        for name, student in self.students.items():
            for number, variable in enumerate(student.variables):
                named[f"students/{name}/{number}"] = variable
        for name, masks in self.learners.masks.items():
            for layer, mask in masks.items():
                named[f"masks/{name}/{layer}"] = mask
        for name in ("teacher_optimizer", "student_optimizer"):
            for number, variable in enumerate(getattr(self, name).variables):
                named[f"{name}/{number}"] = variable
        self._named = named
        return {key: variable.numpy() for key, variable in named.items()}

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Put back what `arrays` gave."""
        self.arrays()
        for key, variable in self._named.items():
            variable.assign(arrays[key])
