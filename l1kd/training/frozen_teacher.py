"""Training of students against a frozen teacher, whose targets are computed once and kept.

The last phase of every training, and all of it in `l1kd search` and `l1kd.distill`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.config import Config, Distillation, Student
from l1kd.core.files import read_arrays, reading, write_arrays
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset
from l1kd.networks.teachers import latents_of
from l1kd.training.epochs import Epochs, StudentSchedule, Trainer, TrainingLog
from l1kd.training.exposure import AT_ONCE, Batches
from l1kd.training.student_losses import StudentTrainer
from l1kd.training.target_transform import TargetTransform

Counts = NDArray[Any]
Targets = NDArray[np.float32]
Advance = Callable[[int], None]
# Event -> raw score: a Keras model, or a function of (N, *shape) that returns (N,).
Teacher = Any


@dataclass(frozen=True)
class LabelledEvents:
    """Events (N, *shape) as counts of the input's LSB, their targets (N,) and teacher latents."""

    normal: Counts  # training events
    normal_targets: Targets
    exposure: Counts  # several draws, one after the other
    exposure_targets: Targets
    val: Counts  # validation normals and their exposure
    val_targets: Targets
    # (N, numbers) in units of their spread over the normals; (N, 0) without `feature_weight`
    normal_latents: Targets
    exposure_latents: Targets
    gain: Targets  # of the target transform, ()
    draws: NDArray[np.int64]  # of exposure, ()
    lsb: NDArray[np.float64]  # of the counts, ()

    @classmethod
    def label(
        cls,
        recipe: Distillation,
        seed: int,
        dataset: Dataset,
        teacher: Teacher,
        transform: TargetTransform,
        *,
        draws: int,
        limit: int | None = None,
    ) -> LabelledEvents:
        """Label training events, at most `limit`, and `draws` draws of exposure for them."""
        grid, batches = dataset.grid, Batches(dataset, recipe, seed)
        kind = np.int16 if grid.word <= 15 else np.int32

        def counts(parts: Iterable[NDArray[Any]]) -> Counts:
            empty = np.empty((0, *dataset.shape), kind)
            return np.concatenate([empty, *(grid.integers(part).astype(kind) for part in parts)])

        def label(events: Counts) -> tuple[Targets, Targets]:
            chunks = (events[i : i + AT_ONCE] for i in range(0, len(events), AT_ONCE))
            values = ((chunk * grid.lsb).astype(np.float32) for chunk in chunks)
            raw, found = scores_and_latents(teacher, values, latents=bool(recipe.feature_weight))
            return transform.forward(raw).astype(np.float32), found

        chunks = list(dataset.train.chunks(recipe.batch, limit))
        normal = counts(chunks)
        exposure = counts(own for d in range(draws) for _, own, _ in batches.exposed(chunks, d))
        val = counts(chain.from_iterable(batches.validation()))
        normal_targets, own = label(normal)
        exposure_targets, further = label(exposure)
        mean, spread = own.mean(0), np.maximum(own.std(0), 1e-3)
        return cls(
            normal,
            normal_targets,
            exposure,
            exposure_targets,
            val,
            label(val)[0],
            (own - mean) / spread,
            (further - mean) / spread,
            np.asarray(transform.gain, np.float32),
            np.asarray(draws),
            np.asarray(grid.lsb),
        )

    def save(self, path: Path) -> None:
        """Write the arrays, whole or not at all."""
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> LabelledEvents:
        """Read the arrays; a missing or damaged file is a `UserError`."""
        with reading(path, "delete it"):
            return cls(**read_arrays(path))

    def epoch(self, number: int, *, seed: int, batch: int) -> Iterator[tuple[Any, ...]]:
        """Batches of events, targets and latents: every normal event once, with one draw."""
        random = np.random.default_rng([seed, number])
        order = random.permutation(len(self.normal))
        size = len(self.exposure) // int(self.draws)
        shown = (number % int(self.draws)) * size + random.permutation(size)
        steps = self.steps(batch)
        pairs = (
            (self.normal, self.exposure),
            (self.normal_targets, self.exposure_targets),
            (self.normal_latents, self.exposure_latents),
        )
        for step in range(steps):
            mine = order[step * batch : (step + 1) * batch]
            theirs = shown[step * size // steps : (step + 1) * size // steps]
            yield tuple(np.concatenate([a[mine], b[theirs]]) for a, b in pairs)

    def steps(self, batch: int) -> int:
        """Batches in an epoch."""
        return -(-len(self.normal) // batch)


def scores_and_latents(
    teacher: Teacher, chunks: Iterator[NDArray[Any]], *, latents: bool = False
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The teacher's scores (events,) and latents (events, numbers), of no number unless asked."""
    forward, width = teacher, 0
    if isinstance(teacher, keras.Model):
        told = latents_of(teacher) if latents else []
        model = keras.Model(teacher.input, [teacher.output, *told])
        width = sum(int(each.shape[-1]) for each in told)
        forward = tf.function(
            lambda events: model(events, training=False), reduce_retracing=True, autograph=False
        )
    raw, found = [np.empty(0, np.float32)], [np.empty((0, width), np.float32)]
    for chunk in chunks:
        given = tf.constant(chunk) if forward is not teacher else chunk
        scores, *rest = tf.nest.flatten(forward(given))
        raw.append(np.asarray(scores).ravel())
        found.append(np.concatenate([np.empty((len(chunk), 0), np.float32), *rest], axis=1))
    return np.concatenate(raw), np.concatenate(found)


def raw_scores(teacher: Teacher, chunks: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """The teacher's scores (events,) of chunks of events."""
    return scores_and_latents(teacher, chunks)[0]


def frozen_epochs(trainer: Trainer, labelled: LabelledEvents, *, seed: int, batch: int) -> Epochs:
    """Epochs of students' steps against a frozen teacher."""
    spec = [
        tf.TensorSpec((None, *own.shape[1:]), tf.float32)
        for own in (labelled.normal, labelled.normal_targets, labelled.normal_latents)
    ]
    graph = partial(tf.function, autograph=False)
    judge = graph(trainer.losses, input_signature=spec[:2])

    @cache
    def traced(quantize: bool) -> Any:
        def step(events: Any, targets: Any, latents: Any) -> Any:
            told = None if trainer.heads is None else latents
            return trainer.step(events, targets, told, gain=labelled.gain, quantize=quantize)

        return graph(step, input_signature=spec)

    def values(counts: Counts) -> NDArray[np.float32]:
        return np.multiply(counts, labelled.lsb, dtype=np.float32)

    def validation() -> Any:
        total: Any = 0.0
        for start in range(0, len(labelled.val), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            counts, targets = labelled.val[part], labelled.val_targets[part]
            found = judge(values(counts), targets)
            total += found.numpy().astype(np.float64) * (len(counts) / len(labelled.val))
        return total

    return Epochs(
        trainer.names,
        labelled.steps(batch),
        partial(labelled.epoch, seed=seed, batch=batch),
        lambda quantize, counts, *rest: traced(quantize)(values(counts), *rest),
        validation,
    )


def train_frozen(
    trainer: Trainer,
    labelled: LabelledEvents,
    recipe: Distillation,
    *,
    epochs: int,
    seed: int,
    advance: Advance = lambda steps: None,
) -> TrainingLog:
    """Train students; every one ends as it was after its best epoch."""
    work = frozen_epochs(trainer, labelled, seed=seed, batch=recipe.batch)
    schedule, log = StudentSchedule(trainer, recipe, 0, epochs), TrainingLog()
    for epoch in range(epochs):
        losses = work.train(epoch, [schedule.rate], schedule, advance)
        log.end_epoch(epoch, "", losses, work.validate(), schedule.candidates(epoch))
    trainer.store(log.best)
    return log


def train_students(
    settings: Sequence[Student],
    labelled: LabelledEvents,
    config: Config,
    grid: FixedPoint,
    *,
    epochs: int,
    seed: int,
    advance: Advance = lambda steps: None,
) -> dict[str, keras.Model]:
    """Build and train students of a configuration; by name, ready to be stored."""
    recipe, latent = config.distillation, labelled.normal_latents.shape[1]
    keras.utils.set_random_seed(seed)
    shape = labelled.normal.shape[1:]
    trainer = StudentTrainer.build(settings, recipe, shape, grid, latent=latent)
    first = (labelled.normal[:1024] * grid.lsb).astype(np.float32)
    trainer.start(first, float(np.median(labelled.normal_targets)))
    log = train_frozen(trainer, labelled, recipe, epochs=epochs, seed=seed, advance=advance)
    return trainer.best_students(log.progress.best)
