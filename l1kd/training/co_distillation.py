"""The co-distillation step: the teacher and all students of a run in one graph.

Its epochs read events as they come: while the teacher learns, and where memory does not hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.training.exposure import AT_ONCE, Batches
from l1kd.training.schedules import Epochs
from l1kd.training.student_losses import StudentTrainer, standardise
from l1kd.training.target_transform import MIN_SPREAD, TARGETS, TINY, TargetTransform

# Nothing here needs AutoGraph, which would take longer than the tracing itself.
_graph = partial(tf.function, reduce_retracing=True, autograph=False)


class Distiller:
    """A teacher and its students; with `follow`, the target transform follows the teacher."""

    def __init__(self, teacher: keras.Model, trainer: StudentTrainer) -> None:
        self.teacher, self.trainer, recipe = teacher, trainer, trainer.config
        self.follow = recipe.target == "fitted"
        # TensorFlow's convolutions refuse an empty exposure: nothing is computed on it.
        self.exposed = bool(recipe.exposure)
        self.transform = transform = TARGETS[recipe.target](recipe.score.type)
        names = ("standardised", "reconstruction", "latent")
        self.reconstruct = keras.Model(
            teacher.input, [teacher.get_layer(name).output for name in names]
        )
        self.score_layer = teacher.get_layer("raw_score")
        # gain, offset; and median, spread, steps seen of the moving fit
        self.affine = tf.Variable([transform.gain, transform.offset], trainable=False)
        self.moving = tf.Variable([0.0, 1.0, 0.0], trainable=False)
        # Adam works per element: one optimizer serves all students alike.
        rates = (recipe.learning_rate, recipe.student_learning_rate)
        self.teacher_optimizer, self.student_optimizer = map(keras.optimizers.Adam, rates)
        self.teacher_optimizer.build(teacher.trainable_variables)
        self.student_optimizer.build([trainer.vector])

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

    def _teach(self, events: Any, training: bool) -> tuple[Any, Any, Any]:
        """The teacher's loss, raw scores (batch,) and latents (batch, numbers)."""
        standardised, reconstruction, latent = self.reconstruct(events, training=training)
        raw = self.score_layer([standardised, reconstruction])
        # Training minimises the mean square in the score's own weights, whatever its power:
        # higher powers follow single outliers and learn slowly.
        square = tf.square(standardised - reconstruction)
        if self.score_layer._factor is not None:
            square *= self.score_layer._factor
        return tf.reduce_mean(square), raw, latent

    def _move_fit(self, raw: Any) -> None:
        """Let the fitted transform move with the teacher: running quantiles of log(raw)."""
        log = tf.sort(tf.math.log(tf.maximum(raw, TINY)))
        size = tf.cast(tf.shape(log)[0] - 1, tf.float32)
        low, median, high = (
            tf.gather(log, tf.cast(tf.round(q * size), tf.int32)) for q in (0.16, 0.5, 0.84)
        )
        middle, spread, seen = self.moving[0], self.moving[1], self.moving[2]
        # A plain mean over the first steps, then a memory of 50.
        rate = tf.maximum(1.0 / (seen + 1.0), 0.02)
        middle += rate * (median - middle)
        spread += rate * ((high - low) / 2 - spread)
        self.moving.assign([middle, spread, seen + 1.0])
        unit = self.transform.fitted(0.0, 1.0)
        gain = unit.gain / tf.maximum(spread, MIN_SPREAD)
        self.affine.assign([gain, unit.offset - gain * middle])

    def _teacher_step(self, events: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            loss, raw, latent = self._teach(events, training=True)
        variables = self.teacher.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.teacher_optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.follow:
            self._move_fit(raw)
        return loss, raw, latent

    def _label(self, events: Any, seen: tuple[Any, Any, Any], exposure: Any) -> tuple[Any, ...]:
        """The students' batch, normal events and exposure, with targets and latents."""
        _, raw, latent = seen
        if self.exposed:
            _, further, beyond = self._teach(exposure, training=False)
            normals = tf.shape(events)[0]
            events, raw = tf.concat([events, exposure], 0), tf.concat([raw, further], 0)
            latent = standardise(tf.concat([latent, beyond], 0), normals)
        elif self.trainer.heads:
            latent = standardise(latent, tf.shape(events)[0])
        told = tf.stop_gradient(latent) if self.trainer.heads else None
        return events, tf.stop_gradient(self.target(raw)), told

    def _student_step(self, batch: tuple[Any, ...], quantize: bool) -> Any:
        options = {"gain": self.affine[0], "quantize": quantize}
        return self.trainer.step(self.student_optimizer, *batch, **options)

    @_graph
    def teacher_step(self, events: Any, exposure: Any, quantize: bool = True) -> Any:
        """One step of the teacher alone, without exposure. Returns its loss, (1,)."""
        return self._teacher_step(events)[0][None]

    @_graph
    def step(self, events: Any, exposure: Any, quantize: bool = True) -> Any:
        """The teacher's step, then every student's. Returns the losses, (1 + students,)."""
        seen = self._teacher_step(events)
        losses = self._student_step(self._label(events, seen, exposure), quantize)
        return tf.concat([seen[0][None], losses], 0)

    @_graph
    def student_step(self, events: Any, exposure: Any, quantize: bool = True) -> Any:
        """Every student's step against the teacher as it is. Returns the losses, (students,)."""
        batch = self._label(events, self._teach(events, training=False), exposure)
        return self._student_step(batch, quantize)

    @_graph
    def teacher_losses(self, events: Any, exposure: Any) -> Any:
        """The teacher's loss (1,) on validation events, nothing changed."""
        return self._teach(events, training=False)[0][None]

    @_graph
    def losses(self, events: Any, exposure: Any) -> Any:
        """The losses (1 + students,) on validation events, nothing changed."""
        seen = self._teach(events, training=False)
        shown, target, _ = self._label(events, seen, exposure)
        return tf.concat([seen[0][None], self.trainer.losses(shown, target)], 0)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that training changes, by name, for a checkpoint."""
        return {key: variable.numpy() for key, variable in self._variables().items()}

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Put back the arrays of a checkpoint."""
        for key, variable in self._variables().items():
            variable.assign(arrays[key])

    def _variables(self) -> dict[str, Any]:
        trainer, fit = self.trainer, {"affine": self.affine, "moving": self.moving}
        named = {"learners": trainer.vector, "averaged": trainer.averaged, "mask": trainer.mask}
        for name in ("teacher", "teacher_optimizer", "student_optimizer"):
            variables = enumerate(getattr(self, name).variables)
            named |= {f"{name}/{number}": variable for number, variable in variables}
        return fit | named


class StreamedEpochs(Epochs):
    """Epochs in which the teacher scores every event; `teacher` and `students` learn or not."""

    def __init__(
        self,
        distiller: Distiller,
        batches: Batches,
        *,
        teacher: bool = True,
        students: bool = True,
        float_until: int = 0,
    ) -> None:
        batches = batches if students else batches.without_exposure()
        self.batches, self.steps, self.float_until = batches.training, batches.steps, float_until
        self._held_out = batches.validation
        self.names = ["teacher"] * teacher + distiller.trainer.names * students
        step = distiller.step
        if not (teacher and students):
            step = distiller.teacher_step if teacher else distiller.student_step
        self.make = lambda quantize, *batch: step(*map(tf.constant, batch), quantize)
        self._losses = distiller.losses if students else distiller.teacher_losses

    def validate(self) -> dict[str, float]:
        """Mean losses over the validation events, by network."""
        total: Any = 0.0
        events = 0
        for normal, exposure in self._validation:
            found = self._losses(normal, exposure).numpy().astype(np.float64)
            total, events = total + len(normal) * found, events + len(normal)
        return self.named((total / events)[-len(self.names) :])

    @cached_property
    def _validation(self) -> list[tuple[Any, Any]]:
        """The validation events and their exposure, in parts."""
        parts = []
        for normal, exposure in self._held_out():
            # No part without exposure, if there is any.
            pieces = min(-(-len(normal) // AT_ONCE), len(exposure) or len(normal))
            both = (np.array_split(own, pieces) for own in (normal, exposure))
            parts += [(tf.constant(a), tf.constant(b)) for a, b in zip(*both, strict=True)]
        return parts
