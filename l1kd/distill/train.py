"""The stage `train`: from events to a teacher, its students and the target transform between them.

`colearning` trains the teacher and all students on the same batches; `sequential` trains the
teacher first. Both end with a phase in which the teacher is frozen at its best epoch, the target
transform is final, and each student's best epoch is chosen on that fixed target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.config import Config, Distillation
from l1kd.context import Context
from l1kd.data.dataset import Dataset
from l1kd.distill.callbacks import Bookkeeper, Cosine, Pruning, Ticker, write_history
from l1kd.distill.distiller import Distiller
from l1kd.distill.exposure import measure_facts, mixer
from l1kd.distill.feed import Feed
from l1kd.distill.learners import Learners, start_students
from l1kd.distill.state import Arrays, Progress, load_state
from l1kd.distill.targets import MEDIAN_AT, TARGETS, log_quantiles, save_target
from l1kd.files import content_hash
from l1kd.models.exact import call_back
from l1kd.models.load import save_model
from l1kd.models.runtime import prepare_tensorflow
from l1kd.models.students import build_student
from l1kd.models.teachers import build_teacher, measure_spread

__all__ = ["Phase", "build", "phases", "raw_scores", "train"]


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same networks learn.

    Parameters
    ----------
    name
        For the history.
    first, last
        Epochs, all phases counted; `last` is the next phase's first.
    teacher, students
        Who learns.
    """

    name: str
    first: int
    last: int
    teacher: bool
    students: bool


def phases(config: Distillation) -> list[Phase]:
    """What happens when."""
    epochs, final = config.epochs, config.final_epochs
    if config.mode == "sequential":
        return [
            Phase("teacher", 0, epochs, teacher=True, students=False),
            Phase("students", epochs, 2 * epochs, teacher=False, students=True),
        ]
    steps = [Phase("together", 0, epochs, teacher=True, students=True)]
    # Without a last phase of its own the students still need a fixed target to be chosen on.
    return [*steps, Phase("frozen", epochs, epochs + max(final, 1), teacher=False, students=True)]


def build(config: Config, dataset: Dataset) -> Distiller:
    """Untrained networks of a configuration, seeded, with the data's own spread and grid.

    Raises
    ------
    UserError
        If an architecture cannot read the events.
    """
    keras.utils.set_random_seed(config.seed)
    spread = measure_spread(dataset.train, dataset.standardise_axes, config.teacher.square_root)
    teacher = build_teacher(config.teacher, dataset.shape, spread)
    score = config.distillation.score
    transform = TARGETS[config.distillation.target](score.type)
    students = {}
    for student in config.students:
        students[student.name] = build_student(student, dataset.shape, dataset.grid, score)
    distiller = Distiller(
        teacher,
        Learners(students, score.type, config.students),
        transform,
        follow=config.distillation.target == "fitted",
        exposed=bool(config.distillation.exposure),
    )
    distiller.compile(
        keras.optimizers.Adam(config.distillation.learning_rate),
        keras.optimizers.Adam(config.distillation.student_learning_rate),
    )
    return distiller


def check(context: Context) -> None:
    """Open the events and build everything once, to find what is wrong before a run is made."""
    prepare_tensorflow(context.threads)
    _feed(context)
    build(context.config, context.dataset)


def _feed(context: Context) -> Feed:
    config, dataset = context.config.distillation, context.dataset
    mix = mixer(list(config.exposure), config.exposure_ratio, dataset, measure_facts(dataset))
    return Feed(dataset, mix, config.batch, context.config.seed)


def train(context: Context) -> None:
    """Run or resume the training; leave `teacher.keras`, `students/` and `target.json`."""
    prepare_tensorflow(context.threads)
    config, dataset = context.config, context.dataset
    distiller, feed = build(config, dataset), _feed(context)
    _start(distiller, feed, config)

    checkpoint = context.directory / "checkpoint.npz"
    relevant = config.model_dump(
        mode="json", include={"seed", "data", "teacher", "students", "distillation"}
    )
    progress, best = Progress(content_hash(relevant)), {}
    if (found := load_state(checkpoint, progress.configuration)) is not None:
        progress, arrays = found
        distiller.restore(arrays)
        best = {k.removeprefix("best/"): v for k, v in arrays.items() if k.startswith("best/")}
        context.say(f"resuming after epoch {progress.epoch}")

    for phase in phases(config.distillation):
        if progress.epoch < phase.first:
            continue
        if not phase.teacher:
            _freeze_teacher(distiller, best, dataset)
        if progress.epoch < phase.last:
            _fit(context, distiller, feed, phase, progress, best, checkpoint)

    for name, student in distiller.students.items():
        _set_best(student, name, best)
        call_back(student)
        save_model(student, context.student_file(name))
    save_model(distiller.teacher, context.teacher_file)
    save_target(distiller.transform, context.directory)
    write_history(progress.history, context.directory / "history.csv")
    checkpoint.unlink(missing_ok=True)


def _fit(
    context: Context,
    distiller: Distiller,
    feed: Feed,
    phase: Phase,
    progress: Progress,
    best: Arrays,
    checkpoint: Path,
) -> None:
    distiller.train_teacher, distiller.train_students = phase.teacher, phase.students
    # The graph is traced anew: who learns is part of it.
    distiller.make_train_function(force=True)
    distiller.make_test_function(force=True)
    config = context.config.distillation
    watched: dict[str, keras.Model] = {}
    schedules: list[keras.callbacks.Callback] = []
    # One fall of the rate, one rise of the sparsity over all the epochs in which students learn.
    learning = [p for p in phases(config) if p.students]
    first, last = learning[0].first, learning[-1].last
    learners = distiller.learners
    pruning = Pruning(learners.prune, config.pruning, first, last, feed.steps)
    if phase.teacher:
        watched["teacher"] = distiller.teacher
        rate = config.learning_rate
        schedules.append(
            Cosine(distiller.teacher_optimizer, rate, phase.first, phase.last, feed.steps)
        )
    if phase.students:
        rate = config.student_learning_rate
        optimizer = distiller.student_optimizer
        schedules.append(Cosine(optimizer, rate, first, last, feed.steps, config.warm_up))
        if learners.masks:
            schedules.append(pruning)
    if phase.students and not phase.teacher:
        watched.update(distiller.students)
    left = (phase.last - progress.epoch) * feed.steps
    with context.progress(f"{phase.name} (epochs {progress.epoch + 1}-{phase.last})", left) as tick:
        distiller.fit(
            feed.training(progress.epoch),
            validation_data=feed.validation(),
            initial_epoch=progress.epoch,
            epochs=phase.last,
            verbose=0,
            callbacks=[
                *schedules,
                Bookkeeper(
                    progress,
                    best,
                    watched,
                    distiller.arrays,
                    checkpoint,
                    phase.name,
                    lambda name, epoch: name not in learners.masks or pruning.settled(epoch),
                ),
                Ticker(tick),
                *_tensorboard(context),
            ],
        )
    row = progress.history[-1]
    losses = ", ".join(
        f"{k.removesuffix('_val_loss')} {v:.4g}" for k, v in row.items() if "_val_" in k
    )
    context.say(f"{phase.name}: validation losses after epoch {phase.last}: {losses}")


def _tensorboard(context: Context) -> list[keras.callbacks.Callback]:
    if not context.config.distillation.tensorboard:
        return []
    return [keras.callbacks.TensorBoard(str(context.directory / "tensorboard"))]


def _set_best(model: keras.Model, name: str, best: Arrays) -> None:
    model.set_weights([best[f"{name}/{number}"] for number in range(len(model.weights))])


def _freeze_teacher(distiller: Distiller, best: Arrays, dataset: Dataset) -> None:
    """The best teacher from here on, and the transform that fits it exactly."""
    _set_best(distiller.teacher, "teacher", best)
    if distiller.follow:
        raw = raw_scores(distiller.teacher, dataset.train.chunks())
        distiller.set_transform(distiller.transform.fitted(*log_quantiles(raw)))


def raw_scores(teacher: keras.Model, chunks: Any) -> np.ndarray[Any, Any]:
    """The teacher's scores (events,) of chunks of events."""
    forward: Callable[[Any], Any] = tf.function(
        lambda events: teacher(events, training=False), reduce_retracing=True
    )
    return np.concatenate([forward(tf.constant(chunk)).numpy().ravel() for chunk in chunks])


def _start(distiller: Distiller, feed: Feed, config: Config) -> None:
    events = next(iter(feed.dataset.train.chunks(1024, 1024)))
    middle = distiller.transform.score.high * MEDIAN_AT
    if not distiller.follow:
        raw = raw_scores(distiller.teacher, [events])
        middle = float(np.median(distiller.transform.forward(raw)))
    start_students(distiller.students, config.students, events, middle)
