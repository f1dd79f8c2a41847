"""Epochs of a training: schedules, which depend on the step alone, steps, and records on disk.

An epoch's number counts over all phases, a step's inside its epoch, both from 0.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.config import Distillation
from l1kd.core.files import atomic, read_arrays, write_arrays

Arrays = dict[str, "np.ndarray[Any, Any]"]
Losses = Mapping[str, float]  # by network
Candidates = Mapping[str, Callable[[], list[Any]]]  # weights by network
# Students that take steps together: `StudentTrainer`, or `KerasTrainer` of `distill`.
Trainer = Any


@dataclass(frozen=True)
class Rate:
    """A learning rate: up from 0 over `warm_up` epochs, down along half a cosine to 1 %."""

    optimizer: Any
    highest: float
    first: int  # epochs over which it falls
    last: int
    warm_up: float = 0.0

    def set(self, epoch: int, step: int, steps: int) -> None:
        """Set the rate of a step of `steps` in an epoch."""
        passed = epoch + step / steps - self.first
        done = passed / max(self.last - self.first, 1)
        share = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        risen = min((passed + 1 / steps) / self.warm_up, 1.0) if self.warm_up else 1.0
        self.optimizer.learning_rate.assign(self.highest * risen * (0.01 + 0.99 * share))


class StudentSchedule:
    """Rate, float epochs, sparsity (cubic, arXiv 1710.01878) of the epochs `first` to `last`."""

    def __init__(self, trainer: Trainer, recipe: Distillation, first: int, last: int) -> None:
        self.trainer = trainer
        highest = recipe.student_learning_rate
        self.rate = Rate(trainer.optimizer, highest, first, last, recipe.warm_up)
        self.float_until = first + min(recipe.float_epochs, last - first - 1)
        self._begin, self._end = (first + share * (last - first) for share in recipe.pruning)

    def prune(self, epoch: int, step: int, steps: int) -> None:
        """Prune to the sparsity after a step."""
        passed, begin, end = epoch + (step + 1) / steps, self._begin, self._end
        if self.trainer.sparsities and (passed > begin or passed >= end):
            left = 0.0 if passed >= end else 1 - (passed - begin) / (end - begin)
            self.trainer.prune(1 - left**3)

    def candidates(self, epoch: int) -> Candidates:
        """Students that are quantized and as sparse as they will be at the end of an epoch."""
        pruned = {student for student, _ in self.trainer.sparsities}
        return {
            name: partial(self.trainer.part, name)
            for name in self.trainer.names
            if epoch >= self.float_until and (epoch + 1 >= self._end or name not in pruned)
        }


@dataclass(frozen=True)
class Epochs:
    """Steps and validation of the networks `names` over an epoch."""

    names: list[str]
    steps: int
    batches: Callable[[int], Iterable[tuple[Any, ...]]]  # by the epoch's number
    step: Callable[..., Any]  # (quantize, *batch) -> losses (names,)
    validation: Callable[[], Any]  # losses (names,)

    def train(
        self,
        epoch: int,
        rates: Sequence[Rate],
        students: StudentSchedule | None,
        advance: Callable[[int], None],
    ) -> dict[str, float]:
        """Make the steps of an epoch; mean losses by network."""
        total: Any = 0.0
        quantize = students is not None and epoch >= students.float_until
        for step, batch in enumerate(self.batches(epoch)):
            for rate in rates:
                rate.set(epoch, step, self.steps)
            total += self.step(quantize, *batch)
            if students is not None:
                students.prune(epoch, step, self.steps)
            advance(1)
        return self._named(total / self.steps)

    def validate(self) -> dict[str, float]:
        """Mean losses over the validation events, by network."""
        return self._named(self.validation())

    def _named(self, losses: Any) -> dict[str, float]:
        return dict(zip(self.names, map(float, losses), strict=True))


@dataclass
class Progress:
    """Progress of a training, besides its arrays."""

    configuration: str = ""  # hash; a checkpoint of another configuration is not resumed
    epoch: int = 0  # epochs done, all phases together
    best: dict[str, float] = field(default_factory=dict)  # lowest validation loss by network
    improved: dict[str, int] = field(default_factory=dict)  # the epoch of that loss, from 1
    history: list[dict[str, Any]] = field(default_factory=list)  # rows of `history.csv`


@dataclass
class TrainingLog:
    """Progress and best weights of a training; with a directory also on disk, after every epoch."""

    progress: Progress = field(default_factory=Progress)
    best: dict[str, list[Any]] = field(default_factory=dict)  # weights by network
    arrays: Callable[[], Arrays] = dict  # all else that a checkpoint holds
    directory: Path | None = None
    tensorboard: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file."""
        assert self.directory is not None
        return self.directory / "checkpoint.npz"

    def resume(self) -> Arrays | None:
        """Load the checkpoint; None if there is none that belongs to this configuration."""
        try:
            arrays = read_arrays(self.checkpoint)
            progress = Progress(**json.loads(str(arrays.pop("__progress__"))))
        except Exception:
            # Missing; or, as it is written whole or not at all, not our file to interpret.
            return None
        if progress.configuration != self.progress.configuration:
            return None
        self.progress = progress
        for key in [key for key in arrays if key.startswith("best/")]:
            name, _, _ = key.removeprefix("best/").rpartition("/")
            self.best.setdefault(name, []).append(arrays.pop(key))
        return arrays

    def end_epoch(
        self, epoch: int, phase: str, losses: Losses, validation: Losses, candidates: Candidates
    ) -> None:
        """Record an epoch; keep the weights of `candidates` that are better than before."""
        progress = self.progress
        row: dict[str, Any] = {"epoch": epoch + 1} | ({"phase": phase} if phase else {})
        row |= {f"{name}_loss": value for name, value in losses.items()}
        row |= {f"{name}_val_loss": value for name, value in validation.items()}
        for column, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FloatingPointError(f"{column} is {value} in epoch {epoch + 1}")
        progress.history.append(row)
        progress.epoch = epoch + 1
        for name, weights in candidates.items():
            if validation[name] < progress.best.get(name, math.inf):
                progress.best[name], progress.improved[name] = validation[name], epoch + 1
                self.best[name] = weights()
        if self.directory is None:
            return
        state = {"__progress__": np.array(json.dumps(vars(progress))), **self.arrays()}
        for name, arrays in self.best.items():
            state |= {f"best/{name}/{number}": weight for number, weight in enumerate(arrays)}
        write_arrays(self.checkpoint, state)
        write_history(progress.history, self.directory / "history.csv")
        if self.tensorboard:
            import tensorflow as tf

            with self._writer.as_default(step=progress.epoch):
                for column, value in progress.history[-1].items():
                    if isinstance(value, float):
                        tf.summary.scalar(column, value)
            self._writer.flush()

    @cached_property
    def _writer(self) -> Any:
        import tensorflow as tf

        return tf.summary.create_file_writer(f"{self.directory}/tensorboard")

    def out_of_patience(self, names: list[str], patience: int | None) -> bool:
        """True if no network of `names` has become better for `patience` epochs."""
        improved = self.progress.improved
        if patience is None or not all(name in improved for name in names):
            return False
        return self.progress.epoch - max(improved[name] for name in names) >= patience


def write_history(history: list[dict[str, Any]], path: Path) -> None:
    """`history.csv`: a row per epoch, a column per loss; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(history)
