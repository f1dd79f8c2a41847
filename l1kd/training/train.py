"""The stage `train`: from events to a teacher, its students and the target transform between them.

`colearning` trains the teacher and all students on the same batches; `sequential` trains the
teacher first. Both end with a phase in which the teacher is frozen at its best epoch, the target
transform is final, and each student's best epoch is chosen on that fixed target.
"""

from __future__ import annotations

import numpy as np
from tensorflow import keras

from l1kd.core.config import Config, Phase
from l1kd.core.context import Context
from l1kd.core.files import content_hash
from l1kd.data.dataset import Dataset
from l1kd.networks.load import save_model
from l1kd.networks.teachers import build_teacher, measure_spread
from l1kd.networks.tensorflow_setup import prepare_tensorflow
from l1kd.training import epochs
from l1kd.training.co_distillation import Distiller, streamed_epochs
from l1kd.training.epochs import StudentSchedule, TrainingLog
from l1kd.training.exposure import Batches
from l1kd.training.frozen_teacher import LabelledEvents, frozen_epochs, raw_scores
from l1kd.training.student_losses import StudentTrainer, only_best
from l1kd.training.target_transform import MEDIAN_AT, log_quantiles, save_target

# Values of events and exposure that are kept for a frozen teacher, at most: 1 GB of 16-bit counts.
_MOST_KEPT = 500_000_000


def build(config: Config, dataset: Dataset) -> Distiller:
    """Untrained networks of a configuration; a `UserError` if one cannot read the events."""
    keras.utils.set_random_seed(config.seed)
    spread = measure_spread(dataset.train, dataset.standardise_axes, config.teacher.square_root)
    teacher = build_teacher(config.teacher, dataset.shape, spread)
    latent, recipe = int(teacher.get_layer("latent").output.shape[-1]), config.distillation
    students, grid = config.students, dataset.grid
    return Distiller(
        teacher, StudentTrainer.build(students, recipe, dataset.shape, grid, latent=latent)
    )


def check(context: Context) -> None:
    """Open the events and build everything once, to find errors before a run is made."""
    prepare_tensorflow(context.threads)
    Batches(context.dataset, context.config.distillation, context.config.seed)
    build(context.config, context.dataset)


def train(context: Context) -> None:
    """Run or resume the training; leave `teacher.keras`, `students/` and `target.json`."""
    prepare_tensorflow(context.threads)
    config, dataset, directory = context.config, context.dataset, context.directory
    distiller, recipe = build(config, dataset), config.distillation
    trainer, teacher, transform = distiller.trainer, distiller.teacher, distiller.transform
    events = next(iter(dataset.train.chunks(1024, 1024)))
    middle = transform.score.high * MEDIAN_AT
    if not distiller.follow:
        middle = float(np.median(transform.forward(raw_scores(teacher, iter([events])))))
    trainer.start(events, middle)

    keys = {"seed", "data", "teacher", "students", "distillation"}
    progress = epochs.Progress(content_hash(config.model_dump(mode="json", include=keys)))
    log = TrainingLog(progress, {}, distiller.arrays, directory, recipe.tensorboard)
    if (arrays := log.resume()) is not None:
        distiller.restore(arrays)
        context.say(f"resuming after epoch {log.progress.epoch}")

    for phase in recipe.phases:
        if log.progress.epoch < phase.first:
            continue
        if not phase.teacher:  # frozen at its best epoch, with the transform that fits it exactly
            teacher.set_weights(log.best["teacher"])
            if distiller.follow:
                raw = raw_scores(teacher, dataset.train.chunks())
                distiller.set_transform(distiller.transform.fitted(*log_quantiles(raw)))
        if log.progress.epoch < phase.last:
            _run(context, distiller, phase, log)

    trainer.store(log.best)
    best = log.progress.best
    for name, student in trainer.best_students(best).items():
        save_model(student, context.student_file(name))
    save_model(teacher, context.teacher_file)
    save_target(distiller.transform, directory)
    rows = [only_best(row, best) for row in log.progress.history]
    epochs.write_history(rows, directory / "history.csv")
    log.checkpoint.unlink(missing_ok=True)


def _run(context: Context, distiller: Distiller, phase: Phase, log: TrainingLog) -> None:
    """The epochs of a phase that are left."""
    recipe, trainer, progress = context.config.distillation, distiller.trainer, log.progress
    # One fall of the rate, one rise of the sparsity over all the epochs in which somebody learns.
    taught = [p for p in recipe.phases if p.teacher]
    learning = [p for p in recipe.phases if p.students]
    students = StudentSchedule(trainer, recipe, learning[0].first, learning[-1].last)
    own = epochs.Rate(distiller.optimizer, recipe.learning_rate, taught[0].first, taught[-1].last)
    rates = [own] * phase.teacher + [students.rate] * phase.students
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
    row = only_best(progress.history[-1], progress.best).items()
    said = ", ".join(f"{k.removesuffix('_val_loss')} {v:.4g}" for k, v in row if "_val_" in k)
    context.say(f"{phase.name}: validation losses after epoch {progress.epoch}: {said}")


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
            Batches(dataset, shown, seed),
            teacher=phase.teacher,
            students=phase.students,
        )
    teacher, transform = distiller.teacher, distiller.transform
    labelled = LabelledEvents.label(recipe, seed, dataset, teacher, transform, draws=draws)
    return frozen_epochs(distiller.trainer, labelled, seed=seed, batch=recipe.batch)
