"""A finished run as an object: its best student, thresholds for a rate, scores of new events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core import run_files
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.run_files import Metrics
from l1kd.evaluation import rates
from l1kd.evaluation.rates import Rate, Threshold
from l1kd.evaluation.score_events import score_array
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
            (N, *shape), values on the input port's grid; axes of one cell may be missing, and an
            array may be mapped from a file (`numpy.memmap`): it goes in pieces through memory.
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
        return score_array(self.network(student), events)

    def threshold(
        self,
        rate_khz: float,
        student: str | None = None,
        *,
        crossings_mhz: float | None = None,
        normal: Any = None,
    ) -> Threshold:
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
            Crossings per second, in MHz; by default the configuration's `rates.crossings_mhz`, or
            what the source of the events has: 28.61, the filled crossings of the LHC.
        normal
            `hist.Hist` of the scores of other normal events, as `normals` has those of the run.

        Returns
        -------
        Threshold
            An integer, in LSBs of the output type. It is compared with integer scores, as `score`
            gives them; comparison with floats is a TypeError.

        Raises
        ------
        UserError
            If the normal events are too few to speak of so low a rate, or are no crossings.
        """
        frequency = self._crossings_khz(crossings_mhz)
        if not 0 < rate_khz < frequency:
            raise UserError(
                f"a rate of {rate_khz:g} kHz is not between 0 and {frequency:g} kHz, the crossings'"
            )
        which = "test normals" if normal is None else "normal events"
        normal = self.normals(student) if normal is None else normal
        if rate_khz / frequency * (events := int(normal.sum())) < 1:
            raise UserError(
                f"{events} {which} say nothing of {rate_khz:g} kHz: one event of them is "
                f"{frequency / max(events, 1):.3g} kHz; ask for a higher rate, or give more events"
            )
        return rates.threshold_for(normal, rate_khz / frequency)

    def rate(
        self,
        threshold: SupportsIndex,
        student: str | None = None,
        *,
        crossings_mhz: float | None = None,
        normal: Any = None,
    ) -> Rate:
        """The rate of normal crossings at a threshold in LSBs, with its 68 % interval, in kHz.

        Arguments and errors are those of `threshold`. Where the run's sample knows how often
        collisions are repeated, the interval is that of the effective number of distinct ones.
        """
        frequency = self._crossings_khz(crossings_mhz)
        distinct = self.distinct if normal is None else {}
        normal = self.normals(student) if normal is None else normal
        accepted, events = rates.accepted(normal, threshold), int(normal.sum())
        if not events:
            raise UserError("there are no normal events, and so no rate; give some")
        share = rates.independent_share(accepted / events, events, distinct)
        low, high = rates.interval(accepted, events, share)
        return Rate(accepted / events * frequency, low * frequency, high * frequency)

    def normals(self, student: str | None = None) -> Any:
        """Scores of the test normals in LSBs, as a `hist.Hist`; histograms can be added."""
        kind = self.network(student).output_types[0]
        return rates.score_histogram(kind, self.test_scores(student)["test"])

    @property
    def distinct(self) -> dict[str, float]:
        """Effective distinct collisions in the test normals accepted at some rates, if known."""
        return self.metrics.distinct

    def test_scores(self, student: str | None = None) -> dict[str, NDArray[np.int64]]:
        """Scores in LSBs of the test normals, `test`, and of every signal's test half."""
        name = student or self.best
        score = self.network(name).output_types[0]
        scores = Scores.load(self.directory / "scores.npz")
        samples = ("test", *self.metrics.students[name].efficiency)
        return {sample: score.integers(scores.student(name, sample)) for sample in samples}

    def _crossings_khz(self, crossings_mhz: float | None) -> float:
        """Frequency of the crossings in kHz."""
        known = self.config.crossings_mhz if crossings_mhz is None else crossings_mhz
        if known is None:
            raise UserError(
                f"events of the source {self.config.data.source!r} are no bunch crossings, so that "
                "there is no rate; give a threshold, or say rates.crossings_mhz in config.yaml"
            )
        return 1000 * known


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
