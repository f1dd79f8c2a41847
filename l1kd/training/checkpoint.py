"""What is kept after every epoch: the history, each network's best weights, the checkpoint.

The checkpoint of a training: one file, replaced whole after every epoch.
"""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.files import atomic, write_arrays

Arrays = dict[str, "np.ndarray[Any, Any]"]


@dataclass
class Progress:
    """How far a training got, besides its arrays."""

    # hash of what the training depends on; a checkpoint of something else is not resumed
    configuration: str
    epoch: int = 0  # epochs done, all phases together
    # lowest validation loss so far of `teacher` and each student
    best: dict[str, float] = field(default_factory=dict)
    improved: dict[str, int] = field(default_factory=dict)  # the epoch of that loss, counted from 1
    # A row per epoch: what `history.csv` shows
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(path: Path, progress: Progress, arrays: Arrays) -> None:
    """Write the checkpoint, atomically."""
    text = json.dumps(vars(progress))
    write_arrays(path, {"__progress__": np.array(text), **arrays})


def load_state(path: Path, configuration: str) -> tuple[Progress, Arrays] | None:
    """The checkpoint, or None if there is none that belongs to this configuration."""
    try:
        with np.load(path, allow_pickle=False) as file:
            progress = Progress(**json.loads(str(file["__progress__"])))
            if progress.configuration != configuration:
                return None
            return progress, {key: file[key] for key in file.files if key != "__progress__"}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        # Written whole or not at all: a file that cannot be read is not ours to interpret.
        return None


Losses = Mapping[str, float]


class Books:
    """The books of a training."""

    def __init__(
        self,
        progress: Progress,
        best: Arrays,
        arrays: Callable[[], Arrays],
        directory: Path,
        *,
        tensorboard: bool = False,
    ) -> None:
        self.progress, self.best, self.arrays = progress, best, arrays
        self.checkpoint, self.history = directory / "checkpoint.npz", directory / "history.csv"
        self._writer: Any = None
        if tensorboard:
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(directory / "tensorboard"))

    def close(
        self,
        epoch: int,
        phase: str,
        losses: Losses,
        validation: Losses,
        candidates: Mapping[str, Callable[[], list[Any]]],
    ) -> None:
        """Close an epoch, by its number from 0."""
        row: dict[str, Any] = {"epoch": epoch + 1, "phase": phase}
        row |= {f"{name}_loss": value for name, value in losses.items()}
        row |= {f"{name}_val_loss": value for name, value in validation.items()}
        for column, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FloatingPointError(f"{column} is {value} in epoch {epoch + 1}")
        progress = self.progress
        progress.history.append(row)
        progress.epoch = epoch + 1
        for name, weights in candidates.items():
            if validation[name] < progress.best.get(name, math.inf):
                progress.best[name], progress.improved[name] = validation[name], epoch + 1
                for number, weight in enumerate(weights()):
                    self.best[f"{name}/{number}"] = weight
        best = {f"best/{key}": value for key, value in self.best.items()}
        save_state(self.checkpoint, progress, {**self.arrays(), **best})
        write_history(progress.history, self.history)
        self._show(row, epoch)

    def _show(self, row: Mapping[str, Any], epoch: int) -> None:
        if self._writer is not None:
            import tensorflow as tf

            with self._writer.as_default(step=epoch + 1):
                for column, value in row.items():
                    if isinstance(value, float):
                        tf.summary.scalar(column, value)
            self._writer.flush()

    def stale(self, names: list[str], patience: int | None) -> bool:
        """Whether none of some networks has become better for `patience` epochs."""
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
