"""A finished run as an object: its best student, thresholds for a rate, scores of new events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core import run_files
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.run_files import Metrics
from l1kd.evaluation import rates
from l1kd.evaluation.scores import Scores
from l1kd.exact.network import Network, load_network
from l1kd.runs.run import open_context


@dataclass(frozen=True)
class Run:
    """A run that `convert` has finished; nothing here needs TensorFlow."""

    directory: Path
    config: Config  # resolved

    @cached_property
    def metrics(self) -> Metrics:
        """Contents of `metrics.json`: teacher, baselines and students on test halves."""
        metrics: Metrics = run_files.read(self.directory, "metrics.json")
        return metrics

    @property
    def best(self) -> str:
        """Name of the student that was chosen."""
        return self.metrics.best

    @property
    def students(self) -> tuple[str, ...]:
        """Names of all students."""
        return tuple(self.metrics.students)

    def network(self, student: str | None = None) -> Network:
        """The exact network of a student, of the best one by default; UserError if it has none."""
        name = student or self.best
        if name not in self.metrics.students:
            raise UserError(
                f"{self.directory} has no student {name!r}; it has {', '.join(self.students)}"
            )
        path = self.directory / "firmware" / name / "network.json"
        if not path.is_file():
            raise UserError(f"{path} is missing; `l1kd convert {self.directory}` writes it")
        return load_network(path)

    def score(self, events: ArrayLike, student: str | None = None) -> NDArray[np.int64]:
        """Anomaly scores of events, as the firmware gives them.

        Parameters
        ----------
        events
            (N, *shape), values on the input port's grid.
        student
            Its name; by default the best one.

        Returns
        -------
        ndarray
            (N,) int64, in LSBs of the output type: what thresholds are compared with.

        Raises
        ------
        UserError
            If events have another shape or values that the port cannot carry.
        """
        return self.network(student).counts(events).reshape(-1)

    def threshold(
        self, rate_khz: float, student: str | None = None, *, crossings_mhz: float | None = None
    ) -> int:
        """The lowest threshold at which at most this rate of normal crossings is accepted.

        An event is accepted when its score is `>=` the threshold. The rate is the false-positive
        rate on the run's test normals times the crossing frequency.

        Parameters
        ----------
        rate_khz
            In kHz.
        student
            Its name; by default the best one.
        crossings_mhz
            Filled crossings per second, in MHz; by default the LHC's 28.61.

        Returns
        -------
        int
            In LSBs of the output type.

        Raises
        ------
        UserError
            If the test sample is too small to speak of so low a rate.
        """
        frequency = rates.CROSSING_RATE_KHZ if crossings_mhz is None else 1000 * crossings_mhz
        if not 0 < rate_khz < frequency:
            raise UserError(
                f"a rate of {rate_khz:g} kHz is not between 0 and {frequency:g} kHz, the crossings'"
            )
        name = student or self.best
        lsb = self.network(name).output_types[0].lsb
        scores = Scores.load(self.directory / "scores.npz").student(name, "test")
        normal = np.rint(scores / lsb).astype(np.int64)
        if rate_khz / frequency * len(normal) < 1:
            raise UserError(
                f"{len(normal)} test normals say nothing of {rate_khz:g} kHz: one event of them is "
                f"{frequency / len(normal):.3g} kHz; ask for a higher rate, or test on more events"
            )
        level: int = rates.threshold(normal, rate_khz / frequency)
        return level


def open_run(directory: Path | str) -> Run:
    """Open a run that is on disk, wherever it was copied to.

    Parameters
    ----------
    directory
        The run.

    Raises
    ------
    UserError
        If it is no run, or one of another version of the format.

    Examples
    --------
    >>> run = l1kd.open_run("runs/demo")
    >>> accepted = run.score(events) >= run.threshold(rate_khz=10)
    """
    context = open_context(Path(directory))
    return Run(context.directory, context.config)
