"""The stage `train`: a teacher, its students and the target transform between them.

Both modes end with a phase in which the teacher is frozen at its best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.core.config import Config, Phase
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.files import content_hash
from l1kd.data.dataset import Dataset
from l1kd.data.moments import measure_spread
from l1kd.networks.from_file import read_student, read_teacher
from l1kd.networks.load import save_model
from l1kd.networks.students import build_student
from l1kd.networks.teachers import build_teacher, fit_teacher
from l1kd.networks.tensorflow_setup import prepare_tensorflow
from l1kd.training import epochs
from l1kd.training import target_transform as targets
from l1kd.training.distill import KerasTrainer
from l1kd.training.epochs import Epochs, StudentSchedule, TrainingLog
from l1kd.training.exposure import AT_ONCE, Batches
from l1kd.training.frozen_teacher import LabelledEvents, frozen_epochs, raw_scores
from l1kd.training.student_losses import StudentTrainer, only_best, standardise

# Values of events and exposure that are kept for a frozen teacher, at most: 1 GB of 16-bit counts.
_MOST_KEPT = 500_000_000
# Nothing here needs AutoGraph, which would take longer than the tracing itself.
_graph = partial(tf.function, reduce_retracing=True, autograph=False)


class Distiller:
    """A teacher and its students; with `follow`, the target transform follows the teacher."""

    def __init__(self, teacher: keras.Model, trainer: StudentTrainer | KerasTrainer) -> None:
        self.teacher, self.trainer, recipe = teacher, trainer, trainer.config
        self.follow = recipe.target == "fitted"
        # TensorFlow's convolutions refuse an empty exposure: nothing is computed on it.
        self.exposed = bool(recipe.exposure)
        self.transform = transform = targets.TARGETS[recipe.target](recipe.score.type)
        names = ("standardised", "reconstruction")
        ends = [teacher.get_layer(name).output for name in names]
        self.reconstruct = keras.Model(teacher.input, [*ends, latent_of(teacher)])
        self.score_layer = teacher.get_layer("raw_score")
        # gain, offset; and median, spread, steps seen of the moving fit
        self.affine = tf.Variable([transform.gain, transform.offset], trainable=False)
        self.moving = tf.Variable([0.0, 1.0, 0.0], trainable=False)
        self.optimizer = keras.optimizers.Adam(recipe.learning_rate)
        self.optimizer.build(teacher.trainable_variables)

    def set_transform(self, transform: targets.TargetTransform) -> None:
        """Fix the target transform from outside."""
        self.transform = transform
        self.affine.assign([transform.gain, transform.offset])

    def target(self, raw: Any) -> Any:
        """Raw scores (batch,) to targets (batch,), inside the output type's range."""
        log1p = self.transform.base == "log1p"
        log = tf.math.log1p(raw) if log1p else tf.math.log(tf.maximum(raw, targets.TINY))
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
        log = tf.sort(tf.math.log(tf.maximum(raw, targets.TINY)))
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
        gain = unit.gain / tf.maximum(spread, targets.MIN_SPREAD)
        self.affine.assign([gain, unit.offset - gain * middle])

    def _label(self, events: Any, raw: Any, latent: Any, exposure: Any) -> tuple[Any, ...]:
        """The students' batch, normal events and exposure, with targets and latents."""
        normals = tf.shape(events)[0]
        if self.exposed:
            _, further, beyond = self._teach(exposure, training=False)
            events, raw = tf.concat([events, exposure], 0), tf.concat([raw, further], 0)
            latent = tf.concat([latent, beyond], 0)
        told = None
        if self.trainer.heads:
            told = tf.stop_gradient(standardise(latent, normals))
        return events, tf.stop_gradient(self.target(raw)), told

    @_graph
    def step(
        self,
        events: Any,
        exposure: Any,
        quantize: bool = True,
        *,
        teacher: bool = True,
        students: bool = True,
    ) -> Any:
        """A step of the teacher, who sees no exposure, then one of every student; of those asked.

        Returns the losses (teacher + students,).
        """
        with tf.GradientTape() as tape:
            loss, raw, latent = self._teach(events, training=teacher)
        losses = []
        if teacher:
            variables = self.teacher.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            if self.follow:
                self._move_fit(raw)
            losses.append(loss[None])
        if students:
            batch = self._label(events, raw, latent, exposure)
            losses.append(self.trainer.step(*batch, gain=self.affine[0], quantize=quantize))
        return tf.concat(losses, 0)

    @_graph
    def losses(self, events: Any, exposure: Any, *, students: bool = True) -> Any:
        """The losses (1 + students,) on validation events, nothing changed."""
        loss, raw, latent = self._teach(events, training=False)
        if not students:
            return loss[None]
        shown, target, _ = self._label(events, raw, latent, exposure)
        return tf.concat([loss[None], self.trainer.losses(shown, target)], 0)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that training changes, by name, for a checkpoint."""
        return {key: variable.numpy() for key, variable in self._variables().items()}

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Put back the arrays of a checkpoint."""
        for key, variable in self._variables().items():
            variable.assign(arrays[key])

    def _variables(self) -> dict[str, Any]:
        own = self.trainer
        named = {"affine": self.affine, "moving": self.moving}
        named |= own.state
        several = {"teacher": self.teacher, "teacher_optimizer": self.optimizer}
        for name, owner in {**several, "student_optimizer": own.optimizer}.items():
            named |= {f"{name}/{n}": variable for n, variable in enumerate(owner.variables)}
        return named


def streamed_epochs(
    distiller: Distiller, batches: Batches, *, teacher: bool, students: bool
) -> Epochs:
    """Epochs in which the teacher scores every event; `teacher` and `students` learn or not."""
    names = ["teacher"] * teacher + distiller.trainer.names * students
    parts = []
    for normal, exposure in batches.validation():
        # No part without exposure, if there is any.
        pieces = min(-(-len(normal) // AT_ONCE), len(exposure) or len(normal))
        both = (np.array_split(own, pieces) for own in (normal, exposure))
        parts += [(tf.constant(a), tf.constant(b)) for a, b in zip(*both, strict=True)]

    def step(quantize: bool, *batch: Any) -> Any:
        given = map(tf.constant, batch)
        return distiller.step(*given, quantize, teacher=teacher, students=students)

    def validation() -> Any:
        total: Any = 0.0
        for normal, exposure in parts:
            found = distiller.losses(normal, exposure, students=students)
            total += len(normal) * found.numpy().astype(np.float64)
        return (total / sum(len(normal) for normal, _ in parts))[-len(names) :]

    return Epochs(names, batches.steps, batches.training, step, validation)


def latent_of(teacher: keras.Model) -> Any:
    """The teacher's latent, (batch, numbers); of a file's network without one, its score."""
    found = [layer for layer in teacher.layers if layer.name == "latent"]
    return found[0].output if found else teacher.output[:, None]


def build(config: Config, dataset: Dataset, run: Path = Path()) -> Distiller:
    """Untrained networks of a configuration; a `UserError` if one cannot read the events.

    Networks that are named as files are found relative to the run.
    """
    keras.utils.set_random_seed(config.seed)
    own, shape, grid = config.teacher, dataset.shape, dataset.grid
    if own.closed_form:
        teacher = fit_teacher(own, dataset.train)
    else:
        spread = measure_spread(dataset.train, dataset.standardise_axes, own.square_root)
        if own.file:
            teacher = read_teacher(own, run / own.file, dataset.train, spread)
        else:
            teacher = build_teacher(own, shape, spread)
    latent, recipe = latent_of(teacher), config.distillation
    named = {layer.name for layer in teacher.layers}
    if recipe.feature_weight and "latent" not in named:
        raise UserError(
            f"{own.file}: distillation.feature_weight needs the teacher's latent; name that layer "
            "'latent', or leave it out"
        )
    if not any(student.file for student in config.students):
        numbers = int(latent.shape[-1])
        return Distiller(
            teacher, StudentTrainer.build(config.students, recipe, shape, grid, latent=numbers)
        )
    students = {
        each.name: read_student(each.name, run / each.file, shape, grid, recipe.score)
        if each.file
        else build_student(each, shape, grid, recipe.score)
        for each in config.students
    }
    return Distiller(teacher, KerasTrainer(students, recipe.score.type, recipe))


def check(context: Context) -> None:
    """Open the events and build everything once, to find errors before a run is made."""
    prepare_tensorflow(context.threads)
    Batches(context.dataset, context.config.distillation, context.config.seed)
    build(context.config, context.dataset, context.directory)


def train(context: Context) -> None:
    """Run or resume the training; leave `teacher.keras`, `students/` and `target.json`."""
    prepare_tensorflow(context.threads)
    config, dataset, directory = context.config, context.dataset, context.directory
    distiller, recipe = build(config, dataset, directory), config.distillation
    trainer, teacher, transform = distiller.trainer, distiller.teacher, distiller.transform
    events = next(iter(dataset.train.chunks(1024, 1024)))
    middle = transform.score.high * targets.MEDIAN_AT
    if not distiller.follow:
        middle = float(np.median(transform.forward(raw_scores(teacher, iter([events])))))
    trainer.start(events, middle)

    keys = {"seed", "data", "teacher", "students", "distillation"}
    progress = epochs.Progress(content_hash(config.model_dump(mode="json", include=keys)))
    log = TrainingLog(progress, {}, distiller.arrays, directory, recipe.tensorboard)
    if (arrays := log.resume()) is not None:
        distiller.restore(arrays)
        context.say(f"resuming after epoch {log.progress.epoch}")

    if config.teacher.finished:
        last, kind = config.phases[-1].last, config.teacher.architecture
        how = "comes trained" if config.teacher.file else "is fitted, not trained"
        context.say(f"the teacher {kind!r} {how}: students learn {last} epochs")
    for phase in config.phases:
        if log.progress.epoch < phase.first:
            continue
        if not phase.teacher:  # frozen at its best epoch, with the transform that fits it exactly
            if not config.teacher.finished:
                teacher.set_weights(log.best["teacher"])
            if distiller.follow:
                raw = raw_scores(teacher, dataset.train.chunks())
                distiller.set_transform(distiller.transform.fitted(*targets.log_quantiles(raw)))
        if log.progress.epoch < phase.last:
            _run(context, distiller, phase, log)

    trainer.store(log.best)
    best = log.progress.best
    for name, student in trainer.best_students(best).items():
        save_model(student, context.student_file(name))
    save_model(teacher, context.teacher_file)
    targets.save_target(distiller.transform, directory)
    rows = [only_best(row, best) for row in log.progress.history]
    epochs.write_history(rows, directory / "history.csv")
    log.checkpoint.unlink(missing_ok=True)


def _run(context: Context, distiller: Distiller, phase: Phase, log: TrainingLog) -> None:
    """The epochs of a phase that are left."""
    recipe, trainer, progress = context.config.distillation, distiller.trainer, log.progress
    # One fall of the rate, one rise of the sparsity over all the epochs in which somebody learns.
    phases = context.config.phases
    learning = [p for p in phases if p.students]
    students = StudentSchedule(trainer, recipe, learning[0].first, learning[-1].last)
    rates = [students.rate] * phase.students
    if taught := [p for p in phases if p.teacher]:
        first, last = taught[0].first, taught[-1].last
        own = epochs.Rate(distiller.optimizer, recipe.learning_rate, first, last)
        rates = [own] * phase.teacher + rates
    work = _epochs(context, distiller, phase)
    left = (phase.last - progress.epoch) * work.steps
    with context.progress(f"{phase.name} (epochs {progress.epoch + 1}-{phase.last})", left) as tick:
        for epoch in range(progress.epoch, phase.last):
            if not phase.teacher and log.out_of_patience(trainer.names, recipe.patience):
                context.say(f"no student has become better for {recipe.patience} epochs")
                break
            losses = work.train(epoch, rates, students if phase.students else None, tick)
            judged: epochs.Candidates = {"teacher": distiller.teacher.get_weights}
            if not phase.teacher:
                judged = students.candidates(epoch)
            log.end_epoch(epoch, phase.name, losses, work.validate(), judged)
            tick(0, f"after epoch {progress.epoch}, {_losses(progress)}")
    said = f"validation losses after epoch {progress.epoch}: {_losses(progress)}"
    context.say(f"{phase.name}: {said}")


def _losses(progress: epochs.Progress) -> str:
    """The last validation losses in words."""
    row = only_best(progress.history[-1], progress.best).items()
    return ", ".join(f"{k.removesuffix('_val_loss')} {v:.4g}" for k, v in row if "_val_" in k)


def _epochs(context: Context, distiller: Distiller, phase: Phase) -> epochs.Epochs:
    """A phase's epochs: on kept targets if the teacher is frozen and memory holds them."""
    config, dataset = context.config, context.dataset
    recipe, seed = config.distillation, config.seed
    draws = min(recipe.draws, phase.last - phase.first) if recipe.exposure else 1
    events = len(dataset.train) * (1 + draws * recipe.exposure_ratio * bool(recipe.exposure))
    if phase.teacher or events * int(np.prod(dataset.shape)) > _MOST_KEPT:
        shown = recipe if phase.students else recipe.model_copy(update={"exposure": []})
        return streamed_epochs(
            distiller, Batches(dataset, shown, seed), teacher=phase.teacher, students=phase.students
        )
    teacher, transform = distiller.teacher, distiller.transform
    labelled = LabelledEvents.label(recipe, seed, dataset, teacher, transform, draws=draws)
    return frozen_epochs(distiller.trainer, labelled, seed=seed, batch=recipe.batch)
