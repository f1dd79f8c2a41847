"""Events and layers of networks that the page draws: `display.json`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.run_files import MOST_DRAWN, Display, DrawnEvent, DrawnLayer
from l1kd.data.dataset import Sample
from l1kd.evaluation.scores import Scores
from l1kd.networks.inspect import drawn_layers

if TYPE_CHECKING:
    from tensorflow import keras


def write_display(
    context: Context, models: Mapping[str, keras.Model], scores: Scores, best: str
) -> None:
    """Write the most and the least normal test event, each signal's median, and the layers."""
    dataset, events = context.dataset, []
    for sample, own in dataset.judged.items() if prod(dataset.shape) <= MOST_DRAWN else ():
        values = scores.student(best, sample)
        keys = [scores.teacher(sample), values] if "teacher" in models else [values]
        order = np.lexsort(keys)  # by the student's score, ties by the teacher's
        places: dict[Literal["lowest", "median", "highest"], int] = {"median": len(order) // 2}
        if sample == "test":
            places = {"lowest": 0, "highest": len(order) - 1}
        for place, rank in places.items():
            index = int(order[rank])
            shown = event_of(own, index).reshape(-1).tolist()
            score = float(values[index])
            events.append(DrawnEvent(sample=sample, place=place, score=score, values=shown))
    networks: dict[str, list[DrawnLayer]] = {
        name.removeprefix("student_"): drawn_layers(model) for name, model in models.items()
    }
    shown = Display(shape=list(dataset.shape) if events else [], events=events, networks=networks)
    run_files.write(context.directory, "display.json", shown)


def event_of(sample: Sample, index: int) -> NDArray[np.float64]:
    """One event of a sample; only its block is read."""
    for block in sample.blocks:
        if index < block.events:
            return np.asarray(block.load()[index], np.float64)
        index -= block.events
    raise IndexError(f"{sample.name} has fewer events")
