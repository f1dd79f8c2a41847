"""The stage `train`: a teacher, its students and the target transform between them.

Both modes end with a phase in which the teacher is frozen at its best epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from l1kd.networks.allowed_layers import LogEnsemble
from l1kd.networks.from_file import read_student, read_teacher
from l1kd.networks.load import save_model
from l1kd.networks.students import build_student
from l1kd.networks.teachers import build_teacher, latents_of
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
# Quantiles of normals that give an ensemble's units, and the second one's place in them.
_TAIL, _TAIL_AT = (0.5, 0.99), 2.326
# Layers of a teacher that its loss and its score are computed of.
_PARTS = ("standardised", "reconstruction", "logit", "raw_score")
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
        score = teacher.get_layer("raw_score")
        self.ensemble = score if isinstance(score, LogEnsemble) else None
        self.members = [""]
        if self.ensemble is not None:
            self.members = [f"{number}_" for number, _ in enumerate(score.input, 1)]
        named = {layer.name: layer for layer in teacher.layers}
        latents = {member: named.get(f"{member}latent") for member in self.members}
        # Neither members in closed form nor networks of files.
        self.learning = [member for member, own in latents.items() if own and own.trainable]
        parts = [m + part for part in _PARTS for m in self.members if m + part in named]
        inner = {name: named[name].output for name in dict.fromkeys([*parts, "raw_score"])}
        self.inner = keras.Model(teacher.input, [inner, latents_of(teacher)])
        logits = [named[name].output for name in parts if name.endswith("logit")]
        # They compute what no other member reads: made events are for classifiers alone.
        self.logits = keras.Model(teacher.input, logits) if logits else None
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

    def _teach(self, events: Any, made: Any, training: bool) -> tuple[Any, Any, Any]:
        """The teacher's loss, its members' layers (batch, ...) and latents (batch, numbers).

        With `made` events, which classifiers tell from normal ones; without, their loss is missing.
        """
        found, latents = self.inner(events, training=training)
        losses = [tf.zeros(())]
        for member in self.learning:
            if (reconstruction := found.get(f"{member}reconstruction")) is not None:
                # Training minimises the mean square in the score's own weights, whatever its
                # power: higher powers follow single outliers and learn slowly.
                square = tf.square(found[f"{member}standardised"] - reconstruction)
                factor = self.teacher.get_layer(f"{member}raw_score")._factor
                losses.append(tf.reduce_mean(square if factor is None else square * factor))
            elif made is not None:
                losses.append(tf.reduce_mean(tf.math.softplus(found[f"{member}logit"])) / 2)
        if self.logits is not None and made is not None:
            logits = tf.nest.flatten(self.logits(made, training=training))
            losses += [tf.reduce_mean(tf.math.softplus(-logit)) / 2 for logit in logits]
        return tf.add_n(losses), found, tf.concat(latents, 1)

    def _follow(self, found: Mapping[str, Any]) -> Any:
        """Let what is fitted to the normals move with the teacher; raw scores (batch,)."""
        raw, seen = found["raw_score"], self.moving[2]
        # A plain mean over the first steps, then a memory of 50.
        rate = tf.maximum(1.0 / (seen + 1.0), 0.02)
        if self.ensemble is not None:
            scores = [found[f"{member}raw_score"] for member in self.members]
            median, tail = _quantiles(self.ensemble.logs(scores), _TAIL)
            self.ensemble.median.assign_add(rate * (median - self.ensemble.median))
            unit = tf.maximum((tail - median) / _TAIL_AT, targets.MIN_SPREAD)
            self.ensemble.unit.assign_add(rate * (unit - self.ensemble.unit))
            raw = self.ensemble(scores)
        middle, spread = self.moving[0], self.moving[1]
        if self.follow:
            log = tf.math.log(tf.maximum(raw, targets.TINY))
            low, median, high = _quantiles(log, targets.QUANTILES)
            middle += rate * (median - middle)
            spread += rate * ((high - low) / 2 - spread)
            unit = self.transform.fitted(0.0, 1.0)
            gain = unit.gain / tf.maximum(spread, targets.MIN_SPREAD)
            self.affine.assign([gain, unit.offset - gain * middle])
        self.moving.assign([middle, spread, seen + 1.0])
        return raw

    def settle(self, chunks: Callable[[], Iterator[Any]]) -> None:
        """Fit to the normals, exactly, what followed the teacher while it learned."""
        if self.ensemble is not None:
            scores = keras.Model(self.teacher.input, self.ensemble.input)
            logs = np.concatenate([self.ensemble.logs(scores(own)).numpy() for own in chunks()])
            median, tail = np.quantile(logs, _TAIL, axis=0)
            unit = np.maximum((tail - median) / _TAIL_AT, targets.MIN_SPREAD)
            self.ensemble.set_weights([median, unit])
        if self.follow:
            raw = raw_scores(self.teacher, chunks())
            self.set_transform(self.transform.fitted(*targets.log_quantiles(raw)))

    def _label(self, events: Any, raw: Any, latent: Any, exposure: Any) -> tuple[Any, ...]:
        """The students' batch, normal events and exposure, with targets and latents."""
        normals = tf.shape(events)[0]
        if self.exposed:
            _, further, beyond = self._teach(exposure, None, training=False)
            events = tf.concat([events, exposure], 0)
            raw = tf.concat([raw, further["raw_score"]], 0)
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
        made: Any = None,
        quantize: bool = True,
        *,
        teacher: bool = True,
        students: bool = True,
    ) -> Any:
        """A step of the teacher, who sees no exposure, then one of every student; of those asked.

        Returns the losses (teacher + students,).
        """
        with tf.GradientTape() as tape:
            loss, found, latent = self._teach(events, made if teacher else None, training=teacher)
        losses, raw = [], found["raw_score"]
        if teacher:
            variables = self.teacher.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            raw = self._follow(found)
            losses.append(loss[None])
        if students:
            batch = self._label(events, raw, latent, exposure)
            losses.append(self.trainer.step(*batch, gain=self.affine[0], quantize=quantize))
        return tf.concat(losses, 0)

    @_graph
    def losses(self, events: Any, exposure: Any, made: Any = None, *, students: bool = True) -> Any:
        """The losses (1 + students,) on validation events, nothing changed."""
        loss, found, latent = self._teach(events, made, training=False)
        if not students:
            return loss[None]
        shown, target, _ = self._label(events, found["raw_score"], latent, exposure)
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


def _quantiles(values: Any, shares: Sequence[float]) -> list[Any]:
    """Quantiles over a batch, by column."""
    ordered = tf.sort(values, axis=0)
    size = tf.cast(tf.shape(ordered)[0] - 1, tf.float32)
    return [tf.gather(ordered, tf.cast(tf.round(q * size), tf.int32)) for q in shares]


def streamed_epochs(
    distiller: Distiller, batches: Batches, *, teacher: bool, students: bool
) -> Epochs:
    """Epochs in which the teacher scores every event; `teacher` and `students` learn or not."""
    names = ["teacher"] * teacher + distiller.trainer.names * students
    parts = []
    for batch in batches.validation():
        # No part without exposure, if there is any.
        normal, exposure, _ = batch
        pieces = min(-(-len(normal) // AT_ONCE), len(exposure) or len(normal))
        split = (map(tf.constant, np.array_split(own, pieces)) for own in batch)
        parts += list(zip(*split, strict=True))

    def step(quantize: bool, *batch: Any) -> Any:
        given = map(tf.constant, batch)
        return distiller.step(*given, quantize, teacher=teacher, students=students)

    def validation() -> Any:
        total: Any = 0.0
        for normal, exposure, made in parts:
            told = made if teacher else None
            found = distiller.losses(normal, exposure, told, students=students)
            total += len(normal) * found.numpy().astype(np.float64)
        return (total / sum(len(normal) for normal, *_ in parts))[-len(names) :]

    return Epochs(names, batches.steps, batches.training, step, validation)


def build(config: Config, dataset: Dataset, run: Path = Path()) -> Distiller:
    """Untrained networks of a configuration; a `UserError` if one cannot read the events.

    Networks that are named as files are found relative to the run.
    """
    keras.utils.set_random_seed(config.seed)
    own, shape, grid, recipe = config.teacher, dataset.shape, dataset.grid, config.distillation
    if own.file:
        spread = measure_spread(dataset.train, dataset.standardise_axes)
        teacher = read_teacher(own, run / own.file, dataset.train, spread)
    else:
        teacher = build_teacher(own, dataset)
    numbers = sum(int(each.shape[-1]) for each in latents_of(teacher))
    named = {layer.name.rpartition("_")[2] for layer in teacher.layers}
    if recipe.feature_weight and "latent" not in named:
        raise UserError(
            f"{own.file}: distillation.feature_weight needs the teacher's latent; name that layer "
            "'latent', or leave it out"
        )
    if not any(student.file for student in config.students):
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
            distiller.settle(dataset.train.chunks)
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
            distiller,
            Batches(dataset, shown, seed, config.teacher.kinds if phase.teacher else ()),
            teacher=phase.teacher,
            students=phase.students,
        )
    teacher, transform = distiller.teacher, distiller.transform
    labelled = LabelledEvents.label(recipe, seed, dataset, teacher, transform, draws=draws)
    return frozen_epochs(distiller.trainer, labelled, seed=seed, batch=recipe.batch)
