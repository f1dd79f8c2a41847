"""`scores.npz`: every score of a run, event by event, in the order of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import read_arrays, reading, write_arrays
from l1kd.data.dataset import Events, Sample

CHUNK = 4096  # events at a time

Values = NDArray[np.float64]
Scorer = Callable[[Events], Values]  # events (N, *shape) to scores (N,)


@dataclass(frozen=True)
class Scores:
    """The arrays of `scores.npz`, (events,) float64 each."""

    # By `teacher_<sample>` (raw score), `target_<sample>` and `student_<name>_<sample>` (in the
    # output type's unit), `baseline_<name>_<sample>`. Samples are `train`, `val`, `test`, each
    # signal's name (its test half) and `val_<signal>`; baselines have the test halves only.
    arrays: Mapping[str, Values]

    def teacher(self, sample: str) -> Values:
        """Raw scores of the teacher."""
        return self._get(f"teacher_{sample}")

    def target(self, sample: str) -> Values:
        """The teacher's scores as students are to give them."""
        return self._get(f"target_{sample}")

    def student(self, name: str, sample: str) -> Values:
        """Scores of the student `name`."""
        return self._get(f"student_{name}_{sample}")

    def baseline(self, name: str, sample: str) -> Values:
        """Scores of a baseline."""
        return self._get(f"baseline_{name}_{sample}")

    def _get(self, key: str) -> Values:
        try:
            return self.arrays[key]
        except KeyError:
            message = f"scores.npz has no {key!r}; run the evaluate stage of this run again"
            raise UserError(message) from None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; equal arrays give equal bytes."""
        write_arrays(path, self.arrays)

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read the file."""
        if not path.exists():
            raise UserError(f"no {path}: the evaluate stage has not run")
        with reading(path, "delete it and run evaluate again"):
            arrays = read_arrays(path)
        for key, array in arrays.items():
            if array.dtype.kind != "f" or array.ndim != 1:
                raise UserError(f"{path}: {key!r} is no list of scores; run evaluate again")
        return cls(arrays)


def check_names(signals: Iterable[str], students: Iterable[str]) -> None:
    """Refuse names that would give two arrays of `scores.npz` one key."""
    signals = list(signals)
    reserved = ["all", "mean", "train", "val", "test"]
    samples = [*reserved, *signals, *(f"val_{name}" for name in signals)]
    for name in signals:
        if samples.count(name) > 1:
            raise UserError(
                f"data.signals: {name!r} is also the name of another sample; give it another name"
            )
    seen: dict[str, str] = {}
    for student, sample in product(students, samples):
        pair = f"student {student!r} with sample {sample!r}"
        other = seen.setdefault(f"{student}_{sample}", pair)
        if other != pair:
            raise UserError(f"{pair} reads like {other} in scores.npz; rename one of them")


def score_samples(
    scorers: Mapping[str, Scorer],
    samples: Mapping[str, Sample],
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Values]:
    """Score every event by every scorer, chunk by chunk: memory holds scores, never a sample."""
    arrays: dict[str, Values] = {}
    for name, sample in samples.items():
        filled = {scorer: np.empty(len(sample), np.float64) for scorer in scorers}
        start = 0
        for chunk in sample.chunks(CHUNK):
            for scorer, function in scorers.items():
                values = np.asarray(function(chunk), np.float64).reshape(-1)
                if len(values) != len(chunk):
                    found = f"{scorer}: {len(values)} scores for {len(chunk)} events"
                    raise UserError(f"{found}; a model has one output per event")
                filled[scorer][start : start + len(chunk)] = values
            start += len(chunk)
            advance(len(chunk))
        for scorer, scores in filled.items():
            if bad := int(np.sum(~np.isfinite(scores))):
                raise UserError(
                    f"{scorer}: {bad} of {len(scores)} scores on {name!r} are NaN or infinite: "
                    "its training diverged; train again with a lower learning rate"
                )
            arrays[f"{scorer}_{name}"] = scores
    return arrays
