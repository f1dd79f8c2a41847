"""Records of a training after every epoch: the history, each network's best weights, a checkpoint.

The checkpoint is one file, replaced whole.
"""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.files import atomic, write_arrays

Arrays = dict[str, "np.ndarray[Any, Any]"]
Losses = Mapping[str, float]  # by network


@dataclass
class Progress:
    """Progress of a training, besides its arrays."""

    configuration: str = ""  # hash; a checkpoint of another configuration is not resumed
    epoch: int = 0  # epochs done, all phases together
    best: dict[str, float] = field(default_factory=dict)  # lowest validation loss by network
    improved: dict[str, int] = field(default_factory=dict)  # the epoch of that loss, from 1
    history: list[dict[str, Any]] = field(default_factory=list)  # rows of `history.csv`

    def end_epoch(
        self, epoch: int, losses: Losses, validation: Losses, judged: Iterable[str], **more: Any
    ) -> list[str]:
        """Record an epoch, by its number from 0; those of `judged` that are better than before."""
        row: dict[str, Any] = {"epoch": epoch + 1, **more}
        row |= {f"{name}_loss": value for name, value in losses.items()}
        row |= {f"{name}_val_loss": value for name, value in validation.items()}
        for column, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FloatingPointError(f"{column} is {value} in epoch {epoch + 1}")
        self.history.append(row)
        self.epoch = epoch + 1
        better = [name for name in judged if validation[name] < self.best.get(name, math.inf)]
        for name in better:
            self.best[name], self.improved[name] = validation[name], epoch + 1
        return better


def load_state(path: Path, configuration: str) -> tuple[Progress, Arrays] | None:
    """The checkpoint, or None if there is none that belongs to this configuration."""
    try:
        with np.load(path, allow_pickle=False) as file:
            progress = Progress(**json.loads(str(file["__progress__"])))
            if progress.configuration != configuration:
                return None
            return progress, {key: file[key] for key in file.files if key != "__progress__"}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        # Missing; or, as it is written whole or not at all, not our file to interpret.
        return None


Candidates = Mapping[str, Callable[[], list[Any]]]


@dataclass
class TrainingLog:
    """Writes the checkpoint, `history.csv` and TensorBoard log; updates `progress` and `best`."""

    progress: Progress
    best: Arrays  # weights, `<network>/<number>`
    arrays: Callable[[], Arrays]  # all else that a checkpoint holds
    directory: Path
    tensorboard: bool = False

    @cached_property
    def _writer(self) -> Any:
        import tensorflow as tf

        return tf.summary.create_file_writer(str(self.directory / "tensorboard"))

    def end_epoch(
        self, epoch: int, phase: str, losses: Losses, validation: Losses, candidates: Candidates
    ) -> None:
        """Record an epoch, write the files; `candidates` give the weights of a best epoch."""
        progress = self.progress
        for name in progress.end_epoch(epoch, losses, validation, candidates, phase=phase):
            for number, weight in enumerate(candidates[name]()):
                self.best[f"{name}/{number}"] = weight
        best = {f"best/{key}": value for key, value in self.best.items()}
        state = {"__progress__": np.array(json.dumps(vars(progress))), **self.arrays(), **best}
        write_arrays(self.directory / "checkpoint.npz", state)
        write_history(progress.history, self.directory / "history.csv")
        if self.tensorboard:
            import tensorflow as tf

            with self._writer.as_default(step=epoch + 1):
                for column, value in progress.history[-1].items():
                    if isinstance(value, float):
                        tf.summary.scalar(column, value)
            self._writer.flush()

    def out_of_patience(self, names: list[str], patience: int | None) -> bool:
        """True if no network of `names` has become better for `patience` epochs."""
        improved = self.progress.improved
        if patience is None or not all(name in improved for name in names):
            return False
        return self.progress.epoch - max(improved[name] for name in names) >= patience


def write_history(history: list[dict[str, Any]], path: Path) -> None:
    """`history.csv`: a row per epoch, a column per loss; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(history)
