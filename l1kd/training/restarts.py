"""Restarts: a student trained from several random initialisations, of which the best is kept.

Half of a network's two filters may never wake up. While training lasts, restarts are ordinary
students; the lowest validation loss decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow import keras

from l1kd.core.config import Score, Student
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.students import build_student

_MARK = "/"  # in no name of a configuration


def all_starts(settings: Sequence[Student]) -> list[Student]:
    """Every student as often as it starts: `s7`, `s7/2`, `s7/3`."""
    return [
        own if number == 1 else own.model_copy(update={"name": f"{own.name}{_MARK}{number}"})
        for own in settings
        for number in range(1, own.starts + 1)
    ]


def build_all(
    settings: Sequence[Student], shape: tuple[int, ...], grid: FixedPoint, score: Score
) -> dict[str, keras.Model]:
    """Untrained networks by the names of `all_starts`; a network's own name has no number."""
    return {
        own.name: build_student(
            own.model_copy(update={"name": own.name.partition(_MARK)[0]}), shape, grid, score
        )
        for own in settings
    }


def best_starts(losses: Mapping[str, float]) -> dict[str, str]:
    """By student the start with the lowest loss, the first of equal ones."""
    found: dict[str, str] = {}
    for name, loss in losses.items():
        student = name.partition(_MARK)[0]
        if student not in found or loss < losses[found[student]]:
            found[student] = name
    return found


def only_best(row: Mapping[str, Any], best: Mapping[str, str]) -> dict[str, Any]:
    """A row of the history with one start of every student, under the student's name."""
    found = {}
    for column, value in row.items():
        ending = next((e for e in ("_val_loss", "_loss") if column.endswith(e)), "")
        name = column.removesuffix(ending)
        student = name.partition(_MARK)[0]
        if not ending or best.get(student, student) == name:
            found[student + ending] = value
    return found
