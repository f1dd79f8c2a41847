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
from l1kd.networks.to_exact import call_back
from l1kd.training.checkpoint import Progress, TrainingLog, load_state, write_history
from l1kd.training.co_distillation import Distiller, StreamedEpochs
from l1kd.training.exposure import Batches, measure_inputs, mixer
from l1kd.training.frozen_teacher import FrozenEpochs, LabelledEvents, raw_scores
from l1kd.training.restarts import all_starts, best_starts, build_all, only_best
from l1kd.training.schedules import Cosine, Pruning
from l1kd.training.student_losses import StudentTrainer, start_students
from l1kd.training.target_transform import MEDIAN_AT, log_quantiles, save_target

# Values of events and exposure that are kept for a frozen teacher, at most: 1 GB of 16-bit counts.
_MOST_KEPT = 500_000_000


def build(config: Config, dataset: Dataset) -> Distiller:
    """Untrained networks of a configuration; a `UserError` if one cannot read the events."""
    keras.utils.set_random_seed(config.seed)
    spread = measure_spread(dataset.train, dataset.standardise_axes, config.teacher.square_root)
    teacher = build_teacher(config.teacher, dataset.shape, spread)
    recipe = config.distillation
    settings = all_starts(config.students)
    students = build_all(settings, dataset.shape, dataset.grid, recipe.score)
    latent = int(teacher.get_layer("latent").output.shape[-1])
    return Distiller(teacher, StudentTrainer(students, recipe, settings, latent=latent))


def check(context: Context) -> None:
    """Open the events and build everything once, to find errors before a run is made."""
    prepare_tensorflow(context.threads)
    _batches(context)
    build(context.config, context.dataset)


def _batches(context: Context) -> Batches:
    recipe, dataset = context.config.distillation, context.dataset
    mix = mixer(recipe.exposure, recipe.exposure_ratio, dataset, measure_inputs(dataset))
    return Batches(dataset, mix, recipe.batch, context.config.seed)


def train(context: Context) -> None:
    """Run or resume the training; leave `teacher.keras`, `students/` and `target.json`."""
    prepare_tensorflow(context.threads)
    config, dataset = context.config, context.dataset
    distiller, batches = build(config, dataset), _batches(context)
    trainer, transform = distiller.trainer, distiller.transform
    events = next(iter(dataset.train.chunks(1024, 1024)))
    middle = transform.score.high * MEDIAN_AT
    if not distiller.follow:
        middle = float(np.median(transform.forward(raw_scores(distiller.teacher, iter([events])))))
    start_students(trainer.students, all_starts(config.students), events, middle)
    trainer.load()

    checkpoint = context.directory / "checkpoint.npz"
    keys = {"seed", "data", "teacher", "students", "distillation"}
    relevant = config.model_dump(mode="json", include=keys)
    progress, best = Progress(content_hash(relevant)), {}
    if (found := load_state(checkpoint, progress.configuration)) is not None:
        progress, arrays = found
        distiller.restore(arrays)
        best = {k.removeprefix("best/"): v for k, v in arrays.items() if k.startswith("best/")}
        context.say(f"resuming after epoch {progress.epoch}")
    directory, tensorboard = context.directory, config.distillation.tensorboard
    log = TrainingLog(progress, best, distiller.arrays, directory, tensorboard)

    for phase in config.distillation.phases:
        if progress.epoch < phase.first:
            continue
        if not phase.teacher:  # frozen at its best epoch, with the transform that fits it exactly
            own = distiller.teacher
            own.set_weights([best[f"teacher/{number}"] for number in range(len(own.weights))])
            if distiller.follow:
                raw = raw_scores(own, dataset.train.chunks())
                distiller.set_transform(distiller.transform.fitted(*log_quantiles(raw)))
        if progress.epoch < phase.last:
            _run(context, distiller, batches, phase, log)

    trainer.store({name: best[f"{name}/0"] for name in trainer.names})
    kept = best_starts(progress.best)
    for name in (student.name for student in config.students):
        call_back(trainer.students[kept[name]])
        save_model(trainer.students[kept[name]], context.student_file(name))
    save_model(distiller.teacher, context.teacher_file)
    save_target(distiller.transform, context.directory)
    write_history([only_best(row, kept) for row in progress.history], directory / "history.csv")
    checkpoint.unlink(missing_ok=True)


def _run(
    context: Context, distiller: Distiller, batches: Batches, phase: Phase, log: TrainingLog
) -> None:
    """The epochs of a phase that are left."""
    recipe, trainer, progress = context.config.distillation, distiller.trainer, log.progress
    # One fall of the rate, one rise of the sparsity over all the epochs in which somebody learns.
    taught = [p for p in recipe.phases if p.teacher]
    learning = [p for p in recipe.phases if p.students]
    first, last = learning[0].first, learning[-1].last
    pruning = Pruning(trainer.prune, recipe.pruning, first, last, batches.steps)
    schedules: list[Cosine | Pruning] = []
    if phase.teacher:
        optimizer, rate = distiller.teacher_optimizer, recipe.learning_rate
        schedules.append(Cosine(optimizer, rate, taught[0].first, taught[-1].last, batches.steps))
    if phase.students:
        optimizer, rate = distiller.student_optimizer, recipe.student_learning_rate
        schedules.append(Cosine(optimizer, rate, first, last, batches.steps, recipe.warm_up))
        schedules.append(pruning)
    work = _epochs(context, distiller, batches, phase, float_until=first + recipe.float_epochs)
    left = (phase.last - progress.epoch) * batches.steps
    with context.progress(f"{phase.name} (epochs {progress.epoch + 1}-{phase.last})", left) as tick:
        for epoch in range(progress.epoch, phase.last):
            if not phase.teacher and log.out_of_patience(trainer.names, recipe.patience):
                context.say(f"no student has become better for {recipe.patience} epochs")
                break
            losses = work.epoch(epoch, schedules, tick)
            if phase.teacher:
                candidates = {"teacher": distiller.teacher.get_weights}
            else:
                candidates = {
                    name: lambda name=name: [trainer.part(name)]
                    for name in trainer.names
                    if epoch >= first + recipe.float_epochs
                    and (pruning.settled(epoch) or not trainer.is_pruned(name))
                }
            log.end_epoch(epoch, phase.name, losses, work.validate(), candidates)
    row = only_best(progress.history[-1], best_starts(progress.best)).items()
    said = ", ".join(f"{k.removesuffix('_val_loss')} {v:.4g}" for k, v in row if "_val_" in k)
    context.say(f"{phase.name}: validation losses after epoch {progress.epoch}: {said}")


def _epochs(
    context: Context, distiller: Distiller, batches: Batches, phase: Phase, float_until: int
) -> FrozenEpochs | StreamedEpochs:
    """A phase's epochs: on kept targets if the teacher is frozen and memory holds them."""
    config, dataset = context.config, context.dataset
    recipe = config.distillation
    if phase.teacher:
        return StreamedEpochs(distiller, batches, students=phase.students, float_until=float_until)
    draws = min(recipe.draws, phase.last - phase.first) if recipe.exposure else 1
    events = len(dataset.train) * (1 + draws * recipe.exposure_ratio * bool(recipe.exposure))
    if events * int(np.prod(dataset.shape)) > _MOST_KEPT:
        return StreamedEpochs(distiller, batches, teacher=False, float_until=float_until)
    teacher, transform = distiller.teacher, distiller.transform
    labelled = LabelledEvents.label(recipe, config.seed, dataset, teacher, transform, draws=draws)
    return FrozenEpochs(
        distiller.trainer,
        distiller.student_optimizer,
        labelled,
        seed=config.seed,
        batch=recipe.batch,
        float_until=float_until,
    )
