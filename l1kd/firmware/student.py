"""A student of a run in all its forms, and the events that they are held against each other on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd import schemas
from l1kd.context import Context
from l1kd.data.dataset import Sample
from l1kd.errors import UserError
from l1kd.exact.graph import Network
from l1kd.firmware.comparison import Comparison, Inputs
from l1kd.firmware.convert import project_name, rtl_name
from l1kd.firmware.corners import corners
from l1kd.firmware.network import model_hash
from l1kd.firmware.project import Project, open_project
from l1kd.firmware.verilog import Logic, open_logic
from l1kd.fixedpoint import FixedPoint

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = [
    "Student",
    "compare_on",
    "logic_of",
    "open_student",
    "projects_of",
    "samples_of",
]

_CHUNK = 8192  # events at a time
Values = NDArray[np.float64]
Predictor = Callable[[NDArray[Any]], Values]


@dataclass(frozen=True)
class Student:
    """A student in all its forms.

    Parameters
    ----------
    name
        Its name.
    model
        The QKeras network.
    exact
        The exact network, on the projects' port.
    projects
        Its HLS projects.
    doubts
        Layers that QKeras may not compute exactly, with reasons.
    logic
        Its Verilog, if it was written.
    """

    name: str
    model: keras.Model
    exact: Network
    projects: list[Project]
    doubts: dict[str, str]
    logic: Logic | None = None

    @property
    def lsb(self) -> float:
        """The step of its output."""
        return self.projects[0].output_type.lsb


def samples_of(context: Context) -> dict[str, Sample]:
    """What a run's firmware is tried on: the test split and the signals' test halves."""
    samples = {"test": context.dataset.test}
    return samples | {name: signal.test for name, signal in context.dataset.signals.items()}


def open_student(context: Context, name: str, projects: list[Project]) -> Student:
    """A student of a run with its exact network.

    Raises
    ------
    UserError
        If a project was written from another network: its difference would be no fault of its.
    """
    import l1kd
    from l1kd.models.exact import doubts, read

    path = context.student_file(name)
    model = l1kd.load_model(path)
    own = model_hash(model)
    logic = logic_of(context, name)
    written: list[Project | Logic] = [*projects, *([logic] if logic else [])]
    for project in written:
        if project.description.model != own:
            raise UserError(
                f"{project.directory} was written from another network than {path}; run "
                f"`l1kd convert {context.directory}` first"
            )
    port = projects[0].input_type
    exact = read(model).at_port(FixedPoint(port.word, port.integer, port.signed))
    return Student(name, model, exact, projects, doubts(model, exact), logic)


def compare_on(
    context: Context,
    student: Student,
    comparisons: Mapping[Inputs, Sequence[Comparison]],
    samples: Mapping[str, Sample],
    others: Mapping[str, Predictor] | None = None,
) -> dict[str, dict[str, Values]]:
    """Compare on the corners, then on a run's samples.

    Parameters
    ----------
    context
        The run.
    student
        Whose.
    comparisons
        What is compared, by kind of inputs; they keep their results.
    samples
        The samples of the kind `test`.
    others
        Further functions of events whose scores are wanted.

    Returns
    -------
    dict
        Scores (N,) of the comparisons of the kind `test` and of `others`, by implementation and
        sample; of several projects' C simulations the first's: where they differ the gate fails.
    """
    network, config = student.exact, context.config
    if config.verify.corners:
        events, report = corners(network.port, context.dataset.shape, network, seed=config.seed)
        context.say(f"{student.name}: {report.summary}")
        expected = network.predict(events)
        for comparison in comparisons["corner"]:
            comparison.add(events, expected, student.lsb)
    scores: dict[str, dict[str, list[Values]]] = {}
    limit = config.verify.events
    sizes = {name: min(len(sample), limit or len(sample)) for name, sample in samples.items()}
    total = sum(sizes.values())
    with context.progress(f"{student.name}: events", total) as advance:
        for name, sample in samples.items():
            for comparison in comparisons["test"]:
                comparison.share(sizes[name] / total)
            for chunk in sample.chunks(_CHUNK, limit):
                expected = network.predict(chunk)
                given = {stage: predict(chunk) for stage, predict in (others or {}).items()}
                for comparison in comparisons["test"]:
                    found = comparison.add(chunk, expected, student.lsb)
                    given.setdefault(comparison.candidate, found)
                for stage, values in given.items():
                    scores.setdefault(stage, {}).setdefault(name, []).append(values.reshape(-1))
                advance(len(chunk))
    return {
        stage: {name: np.concatenate(parts) for name, parts in by_sample.items()}
        for stage, by_sample in scores.items()
    }


def projects_of(context: Context) -> dict[str, list[Project]]:
    """The run's projects by student."""
    groups: dict[str, list[Project]] = {}
    for record in schemas.read(context.directory, "firmware.json"):
        name = project_name(record.student, record.backend, record.io_type, record.strategy)
        groups.setdefault(record.student, []).append(open_project(context.projects / name))
    return groups


def logic_of(context: Context, name: str) -> Logic | None:
    """A student's Verilog, if it was written."""
    if not (context.directory / "rtl.json").exists():
        return None
    records: list[schemas.RtlRecord] = schemas.read(context.directory, "rtl.json")
    written = any(record.student == name and record.directory for record in records)
    return open_logic(context.projects / rtl_name(name)) if written else None
