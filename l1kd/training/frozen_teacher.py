"""Students against a frozen teacher: its targets are computed once and kept.

The last phase of every training, and what `l1kd search` trains its candidates with. Events and
targets are arrays in memory, so an epoch costs the students' steps and nothing else.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.config import Config, Student
from l1kd.core.errors import UserError
from l1kd.core.files import write_arrays
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset
from l1kd.networks.to_exact import call_back
from l1kd.training.exposure import AT_ONCE, Feed, measure_facts, mixer
from l1kd.training.restarts import best_starts, built, started
from l1kd.training.schedules import Cosine, Pruning
from l1kd.training.student_losses import Learners, start_students
from l1kd.training.target_transform import TargetTransform

Counts = NDArray[Any]
Targets = NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """Events as counts of the input's LSB, (N, \\*shape), and their targets, (N,)."""

    normal: Counts  # training events
    normal_targets: Targets
    exposure: Counts  # several draws of the exposure, one after the other
    exposure_targets: Targets
    val: Counts  # validation normals and their exposure
    val_targets: Targets
    # the teacher's latents, (N, numbers), in units of their spread over the normals; no numbers unless `feature_weight` asks for them
    normal_latents: Targets
    exposure_latents: Targets
    gain: Targets  # of the target transform, ()

    @classmethod
    def of(
        cls,
        config: Config,
        dataset: Dataset,
        teacher: keras.Model,
        transform: TargetTransform,
        *,
        draws: int,
        limit: int,
    ) -> Lessons:
        """What a frozen teacher says of a data set."""
        own = config.distillation
        mix = mixer(list(own.exposure), own.exposure_ratio, dataset, measure_facts(dataset))
        grid = dataset.grid
        kind = np.int16 if grid.word <= 15 else np.int32

        def counts(parts: Iterable[NDArray[Any]]) -> Counts:
            empty = np.empty((0, *dataset.shape), kind)
            return np.concatenate([empty, *(grid.integers(part).astype(kind) for part in parts)])

        told = bool(own.feature_weight)

        def says(events: Counts) -> tuple[Targets, Targets]:
            chunks = (events[i : i + AT_ONCE] for i in range(0, len(events), AT_ONCE))
            values = ((chunk * grid.lsb).astype(np.float32) for chunk in chunks)
            raw, latents = teacher_says(teacher, values, latents=told)
            return transform.forward(raw).astype(np.float32), latents

        chunks = list(dataset.train.chunks(own.batch, limit))
        normal = counts(chunks)
        made = (
            mix(events, np.random.default_rng([config.seed, draw, step]))
            for draw in range(draws)
            for step, events in enumerate(chunks)
        )
        parts = Feed(dataset, mix, own.batch, config.seed).validation()
        exposure, val = counts(made), counts([part for pair in parts for part in pair])
        normal_targets, latents = says(normal)
        exposure_targets, further = says(exposure)
        mean, spread = latents.mean(0), np.maximum(latents.std(0), 1e-3)
        return cls(
            normal,
            normal_targets,
            exposure,
            exposure_targets,
            val,
            says(val)[0],
            (latents - mean) / spread,
            (further - mean) / spread,
            np.asarray(transform.gain, np.float32),
        )

    def save(self, path: Path) -> None:
        """Write the arrays, whole or not at all."""
        write_arrays(path, {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Lessons:
        """Read the arrays."""
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                return cls(**{each.name: file[each.name] for each in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not as l1kd writes it ({error}); delete it") from error

    def epoch(
        self, number: int, draws: int, seed: int, batch: int
    ) -> Iterator[tuple[Counts, Targets, Targets]]:
        """Batches of one epoch: every normal event once, with one draw's exposure."""
        random = np.random.default_rng([seed, number])
        order = random.permutation(len(self.normal))
        size = len(self.exposure) // draws
        shown = (number % draws) * size + random.permutation(size)
        steps = self.steps(batch)
        for step in range(steps):
            mine = order[step * batch : (step + 1) * batch]
            theirs = shown[step * size // steps : (step + 1) * size // steps]
            yield (
                np.concatenate([self.normal[mine], self.exposure[theirs]]),
                np.concatenate([self.normal_targets[mine], self.exposure_targets[theirs]]),
                np.concatenate([self.normal_latents[mine], self.exposure_latents[theirs]]),
            )

    def steps(self, batch: int) -> int:
        """Batches in an epoch."""
        return -(-len(self.normal) // batch)


def raw_scores(teacher: keras.Model, chunks: Iterator[NDArray[Any]]) -> NDArray[np.float32]:
    """The teacher's scores (events,) of chunks of events."""
    return teacher_says(teacher, chunks, latents=False)[0]


def teacher_says(
    teacher: keras.Model, chunks: Iterator[NDArray[Any]], *, latents: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The teacher's scores (events,) of chunks of events, and its latents (events, numbers).

    Without `latents` there are no numbers.
    """
    wanted = [teacher.output, *([teacher.get_layer("latent").output] if latents else [])]
    model = keras.Model(teacher.input, wanted)
    forward: Callable[[Any], Any] = tf.function(
        lambda events: model(events, training=False), reduce_retracing=True
    )
    width = int(wanted[1].shape[-1]) if latents else 0
    raw, told = [np.empty(0, np.float32)], [np.empty((0, width), np.float32)]
    for chunk in chunks:
        scores, *rest = tf.nest.flatten(forward(tf.constant(chunk)))
        raw.append(scores.numpy().ravel())
        told.append(rest[0].numpy() if latents else np.empty((len(chunk), 0), np.float32))
    return np.concatenate(raw), np.concatenate(told)


class Course:
    """An epoch after the other of students' steps against a frozen teacher."""

    def __init__(
        self,
        learners: Learners,
        optimizer: Any,
        lessons: Lessons,
        grid: FixedPoint,
        *,
        draws: int,
        seed: int,
        batch: int,
        float_until: int = 0,
    ) -> None:
        self.float_until = float_until
        self.learners, self.lessons, self.grid = learners, lessons, grid
        self.draws, self.seed, self.batch = draws, seed, batch
        self.steps = lessons.steps(batch)
        shape = lessons.normal.shape[1:]
        spec = [tf.TensorSpec((None, *shape), tf.float32), tf.TensorSpec((None,), tf.float32)]
        latents = tf.TensorSpec((None, lessons.normal_latents.shape[1]), tf.float32)
        told = learners.heads is not None

        def step(quantize: bool) -> Callable[..., Any]:
            found: Callable[..., Any] = tf.function(
                lambda events, targets, latents: learners.step(
                    optimizer,
                    events,
                    targets,
                    latents if told else None,
                    gain=lessons.gain,
                    quantize=quantize,
                ),
                input_signature=[*spec, latents],
            )
            return found

        self._steps = {quantize: step(quantize) for quantize in (False, True)}
        self._losses = tf.function(learners.losses, input_signature=spec)

    def epoch(
        self, number: int, schedules: Sequence[Cosine | Pruning], advance: Callable[[int], None]
    ) -> dict[str, float]:
        """Make the steps of an epoch; mean losses by student."""
        total, make = 0.0, self._steps[number >= self.float_until]
        batches = self.lessons.epoch(number, self.draws, self.seed, self.batch)
        for step, (counts, targets, latents) in enumerate(batches):
            for schedule in schedules:
                schedule.before(number, step)
            total += make(self._values(counts), targets, latents)
            for schedule in schedules:
                schedule.after(number, step)
            advance(1)
        return self._named(total / self.steps)

    def validate(self) -> dict[str, float]:
        """Mean losses over the validation events, by student."""
        total, lessons = 0.0, self.lessons
        for start in range(0, len(lessons.val), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            counts, targets = lessons.val[part], lessons.val_targets[part]
            found = self._losses(self._values(counts), targets)
            total += found.numpy().astype(np.float64) * (len(counts) / len(lessons.val))
        return self._named(total)

    def _values(self, counts: Counts) -> NDArray[np.float32]:
        return np.multiply(counts, self.grid.lsb, dtype=np.float32)

    def _named(self, losses: Any) -> dict[str, float]:
        return dict(zip(self.learners.names, map(float, losses), strict=True))


def learn(
    settings: Sequence[Student],
    lessons: Lessons,
    config: Config,
    grid: FixedPoint,
    *,
    epochs: int,
    draws: int,
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, keras.Model]:
    """Train students; each ends as it was after its best epoch."""
    own = config.distillation
    keras.utils.set_random_seed(seed)
    shape = lessons.normal.shape[1:]
    drawn = started(settings)
    students = built(drawn, shape, grid, own.score)
    first = (lessons.normal[:1024] * grid.lsb).astype(np.float32)
    start_students(students, drawn, first, float(np.median(lessons.normal_targets)))
    learners = Learners(students, own, drawn, latent=lessons.normal_latents.shape[1])
    optimizer = keras.optimizers.Adam(own.student_learning_rate)
    optimizer.build([learners.vector])
    course = Course(
        learners,
        optimizer,
        lessons,
        grid,
        draws=draws,
        seed=seed,
        batch=own.batch,
        float_until=min(own.float_epochs, epochs - 1),
    )
    rate = Cosine(optimizer, own.student_learning_rate, 0, epochs, course.steps, own.warm_up)
    pruning = Pruning(learners.prune, own.pruning, 0, epochs, course.steps)
    best: dict[str, tuple[float, NDArray[np.float32]]] = {}
    for epoch in range(epochs):
        course.epoch(epoch, [rate, pruning], advance)
        for name, loss in course.validate().items():
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of {name} is {loss} in epoch {epoch + 1}")
            counts_as_best = epoch >= course.float_until and (
                pruning.settled(epoch) or not learners.is_pruned(name)
            )
            if counts_as_best and loss < best.get(name, (math.inf,))[0]:
                best[name] = (loss, learners.part(name))
    learners.store({name: part for name, (_, part) in best.items()})
    kept = best_starts({name: loss for name, (loss, _) in best.items()})
    found = {own.name: students[kept[own.name]] for own in settings}
    for student in found.values():
        call_back(student)
    return found
