"""What happens around an epoch: learning rate, the best so far, checkpoint, history, progress."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorflow import keras

from l1kd.distill.state import Arrays, Progress, save_state
from l1kd.files import atomic

__all__ = ["Bookkeeper", "Cosine", "Pruning", "Ticker", "write_history"]


class Cosine(keras.callbacks.Callback):
    """Learning rates that fall along half a cosine, set at every step from its number alone.

    Parameters
    ----------
    optimizer
        Whose rate it sets.
    rate
        At the first step.
    first, last
        Epochs (all phases counted) between which it falls; 1 % of `rate` is left at the end.
    steps
        Steps in an epoch.
    warm_up
        Epochs over which it rises from 0 first, in a straight line.
    """

    def __init__(
        self,
        optimizer: Any,
        rate: float,
        first: int,
        last: int,
        steps: int,
        warm_up: float = 0.0,
    ) -> None:
        super().__init__()
        self.warm_up = warm_up
        self.optimizer, self.rate = optimizer, rate
        self.first, self.last, self.steps = first, last, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch's number."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate."""
        passed = self._epoch + batch / self.steps - self.first
        done = passed / max(self.last - self.first, 1)
        share = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        risen = min((passed + 1 / self.steps) / self.warm_up, 1.0) if self.warm_up else 1.0
        self.optimizer.learning_rate.assign(self.rate * risen * (0.01 + 0.99 * share))


class Pruning(keras.callbacks.Callback):
    """Sparsity that rises by a cubic law, fast at first (Zhu and Gupta, arXiv 1710.01878).

    Parameters
    ----------
    prune
        Given the share of the final sparsity that is to be reached.
    between
        Shares of the epochs `first` to `last` at which it begins and ends.
    first, last
        Epochs (all phases counted) in which students learn.
    steps
        Steps in an epoch.
    """

    def __init__(
        self,
        prune: Callable[[float], None],
        between: tuple[float, float],
        first: int,
        last: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.prune, self.steps = prune, steps
        self.begin, self.end = (first + share * (last - first) for share in between)
        self._epoch = 0

    def settled(self, epoch: int) -> bool:
        """Whether all sparsity is there at the end of an epoch, by its number from 0."""
        return epoch + 1 >= self.end

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch's number."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Prune to what this step's number says."""
        passed = self._epoch + (batch + 1) / self.steps
        if passed >= self.end:
            self.prune(1.0)
        elif passed > self.begin:
            self.prune(1 - (1 - (passed - self.begin) / (self.end - self.begin)) ** 3)


class Bookkeeper(keras.callbacks.Callback):
    """After every epoch: history row, the best weights of each network, the checkpoint.

    Parameters
    ----------
    progress
        Updated in place.
    best
        Best weights so far, `<name>/<number>` -> array; updated in place.
    watched
        Networks by name whose best epoch counts in this phase.
    arrays
        Gives everything else that a checkpoint holds.
    file
        The checkpoint.
    phase
        Name of the phase for the history.
    counts
        Whether a network's epoch, counted from 0, may be its best.
    """

    def __init__(
        self,
        progress: Progress,
        best: Arrays,
        watched: dict[str, keras.Model],
        arrays: Callable[[], Arrays],
        file: Path,
        phase: str,
        counts: Callable[[str, int], bool] = lambda name, epoch: True,
    ) -> None:
        super().__init__()
        self.counts = counts
        self.progress, self.best, self.watched = progress, best, watched
        self.arrays, self.file, self.phase = arrays, file, phase

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the books."""
        logs = logs or {}
        row: dict[str, Any] = {"epoch": epoch + 1, "phase": self.phase}
        for key, value in logs.items():
            # Keras says val_<name>_loss; a column belongs to its network first.
            name = f"{key[4:-5]}_val_loss" if key.startswith("val_") else key
            row[name] = float(value)
            if not math.isfinite(float(value)):
                raise FloatingPointError(f"{name} is {value} in epoch {epoch + 1}")
        self.progress.history.append(row)
        self.progress.epoch = epoch + 1
        for name, model in self.watched.items():
            loss = row[f"{name}_val_loss"]
            if self.counts(name, epoch) and loss < self.progress.best.get(name, math.inf):
                self.progress.best[name] = loss
                for number, weight in enumerate(model.get_weights()):
                    self.best[f"{name}/{number}"] = weight
        best = {f"best/{key}": value for key, value in self.best.items()}
        save_state(self.file, self.progress, {**self.arrays(), **best})
        write_history(self.progress.history, self.file.parent / "history.csv")


class Ticker(keras.callbacks.Callback):
    """Advances a progress bar, one tick a batch."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.advance = advance

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """One more."""
        self.advance(1)


def write_history(history: list[dict[str, Any]], path: Path) -> None:
    """`history.csv`: a row per epoch, a column per loss; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(history)
