"""Many students against one frozen teacher: its targets are computed once and kept.

What `l1kd search` trains its candidates with. Events and targets are arrays in memory, so a
candidate costs its own steps and nothing else.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.config import Config, Student
from l1kd.data.dataset import Dataset
from l1kd.distill.callbacks import Cosine, Pruning
from l1kd.distill.exposure import measure_facts, mixer
from l1kd.distill.feed import Feed
from l1kd.distill.learners import Learners, start_students
from l1kd.distill.targets import TargetTransform
from l1kd.distill.train import raw_scores
from l1kd.errors import UserError
from l1kd.files import write_arrays
from l1kd.fixedpoint import FixedPoint
from l1kd.models.exact import call_back
from l1kd.models.students import build_student

__all__ = ["Lessons", "learn"]

Counts = NDArray[Any]
Targets = NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """Events as counts of the input's LSB, (N, \\*shape), and their targets, (N,).

    Parameters
    ----------
    normal, normal_targets
        Training events.
    exposure, exposure_targets
        Several draws of the exposure, one after the other.
    val, val_targets
        Validation normals and their exposure.
    """

    normal: Counts
    normal_targets: Targets
    exposure: Counts
    exposure_targets: Targets
    val: Counts
    val_targets: Targets

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
        """What a frozen teacher says of a data set.

        Parameters
        ----------
        config, dataset
            Exposure, seed and events.
        teacher, transform
            Event -> raw score, raw score -> target.
        draws
            How often exposure is drawn for the training events.
        limit
            Training events at most.
        """
        own = config.distillation
        mix = mixer(list(own.exposure), own.exposure_ratio, dataset, measure_facts(dataset))
        grid = dataset.grid
        kind = np.int16 if grid.word <= 15 else np.int32

        def counts(parts: Sequence[NDArray[Any]]) -> Counts:
            empty = np.empty((0, *dataset.shape))
            return grid.integers(np.concatenate([empty, *parts])).astype(kind)

        def targets(events: Counts) -> Targets:
            if not len(events):
                return np.empty(0, np.float32)
            chunks = (events[i : i + 4096] for i in range(0, len(events), 4096))
            values = ((chunk * grid.lsb).astype(np.float32) for chunk in chunks)
            return transform.forward(raw_scores(teacher, values)).astype(np.float32)

        chunks = list(dataset.train.chunks(own.batch, limit))
        normal = counts(chunks)
        made = [
            mix(events, np.random.default_rng([config.seed, draw, step]))
            for draw in range(draws)
            for step, events in enumerate(chunks)
        ]
        parts = Feed(dataset, mix, own.batch, config.seed).validation_parts()
        exposure, val = counts(made), counts([part for pair in parts for part in pair])
        return cls(normal, targets(normal), exposure, targets(exposure), val, targets(val))

    def save(self, path: Path) -> None:
        """Write the arrays, whole or not at all."""
        write_arrays(path, {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Lessons:
        """Read the arrays.

        Raises
        ------
        UserError
            If the file is missing or damaged.
        """
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                return cls(**{each.name: file[each.name] for each in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not as l1kd writes it ({error}); delete it") from error

    def epoch(self, number: int, draws: int, seed: int, batch: int) -> Iterator[tuple[Any, Any]]:
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
            )

    def steps(self, batch: int) -> int:
        """Batches in an epoch."""
        return -(-len(self.normal) // batch)


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
    """Train students; each ends as it was after its best epoch.

    Parameters
    ----------
    settings
        The students.
    lessons
        What they learn.
    config
        Batch, rates and pruning.
    grid
        The events' type.
    epochs, draws
        How long; how many draws of exposure there are.
    seed
        Of weights and order.
    advance
        Called with 1 after every step.

    Returns
    -------
    dict
        Networks by name, ready to be stored.

    Raises
    ------
    UserError
        If a student cannot read such events.
    FloatingPointError
        If a loss is no longer finite.
    """
    own = config.distillation
    keras.utils.set_random_seed(seed)
    shape = lessons.normal.shape[1:]
    students = {s.name: build_student(s, shape, grid, own.score) for s in settings}
    first = (lessons.normal[:1024] * grid.lsb).astype(np.float32)
    start_students(students, settings, first, float(np.median(lessons.normal_targets)))
    learners = Learners(students, own.score.type, settings)
    optimizer = keras.optimizers.Adam(own.student_learning_rate)
    optimizer.build(learners.variables)
    steps = lessons.steps(own.batch)
    rate = Cosine(optimizer, own.student_learning_rate, 0, epochs, steps, own.warm_up)
    pruning = Pruning(learners.prune, own.pruning, 0, epochs, steps)
    signature = [tf.TensorSpec((None, *shape), tf.float32), tf.TensorSpec((None,), tf.float32)]

    step = tf.function(
        lambda events, targets: learners.step(optimizer, events, targets),
        input_signature=signature,
    )
    losses = tf.function(
        lambda events, targets: learners.losses(events, targets, training=False),
        input_signature=signature,
    )

    best: dict[str, tuple[float, list[NDArray[Any]]]] = {}
    for epoch in range(epochs):
        rate.on_epoch_begin(epoch)
        pruning.on_epoch_begin(epoch)
        for number, (counts, targets) in enumerate(lessons.epoch(epoch, draws, seed, own.batch)):
            rate.on_train_batch_begin(number)
            step((counts * grid.lsb).astype(np.float32), targets)
            pruning.on_train_batch_end(number)
            advance(1)
        for name, loss in _validation(losses, lessons, grid).items():
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of {name} is {loss} in epoch {epoch + 1}")
            counts_as_best = name not in learners.masks or pruning.settled(epoch)
            if counts_as_best and loss < best.get(name, (math.inf,))[0]:
                best[name] = (loss, students[name].get_weights())
    for name, student in students.items():
        student.set_weights(best[name][1])
        call_back(student)
    return students


def _validation(losses: Callable[..., Any], lessons: Lessons, grid: FixedPoint) -> dict[str, float]:
    """Mean loss of every student over the validation events."""
    total: dict[str, float] = {}
    for start in range(0, len(lessons.val), 4096):
        counts, targets = (
            lessons.val[start : start + 4096],
            lessons.val_targets[start : start + 4096],
        )
        for name, loss in losses((counts * grid.lsb).astype(np.float32), targets).items():
            total[name] = total.get(name, 0.0) + float(loss) * len(counts) / len(lessons.val)
    return total
