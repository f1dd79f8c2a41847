"""Vendors' results as a run keeps them: `vendor/<project>.json`, of one version of a project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from l1kd.context import Context
from l1kd.errors import UserError
from l1kd.files import read_json, write_json
from l1kd.firmware.project import Project
from l1kd.firmware.vendor import contents
from l1kd.firmware.vendor.costs import costs
from l1kd.firmware.vendor.sections import Reports
from l1kd.firmware.vendor.tools import Step
from l1kd.schemas import Resources

__all__ = ["Done", "Record", "add", "collected", "load", "save"]

_FORMAT = 1
# What follows from the test bench too.
_SIMULATED = ("cosim", "csim_results", "cosim_results")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Done(_Record):
    """A step that a tool has finished."""

    state: Literal["done", "failed"]
    origin: Literal["here", "brought back"]
    program: str | None = None
    seconds: float | None = None


class Record(_Record):
    """What is known of one version of a project.

    `content` is the hash of its sources and scripts (`contents.content`), `bench` that of test
    bench and vectors.
    """

    format_version: int = _FORMAT
    project: str
    content: str
    bench: str
    steps: dict[Step, Done] = {}
    reports: Reports = Reports()

    def with_step(self, step: Step, done: Done) -> Record:
        """The same, and a step."""
        return self.model_copy(update={"steps": {**self.steps, step: done}})

    def without(self, *names: str) -> Record:
        """The same, without some sections of its reports."""
        kept = self.reports.model_copy(update=dict.fromkeys(names))
        return self.model_copy(update={"reports": kept})


def load(context: Context, project: Project) -> Record:
    """What the run has of a project as it is now; of what it has of an earlier one it is said.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    content, bench = contents.content(project), contents.bench(project)
    name = project.directory.name
    record = _read(_path(context, project))
    if record is not None and record.content != content:
        context.say(
            f"{name} was written anew since the vendor's tool ran: its old numbers are left out"
        )
        record = None
    if record is None:
        return Record(project=name, content=content, bench=bench)
    if record.bench != bench:
        record = record.without(*_SIMULATED)
        steps = {step: done for step, done in record.steps.items() if step in ("csynth", "vsynth")}
        record = record.model_copy(update={"bench": bench, "steps": steps})
    return record


def add(record: Record, reports: Reports) -> Record:
    """A record with the sections of these reports in place of its own."""
    new = {name: getattr(reports, name) for name in reports.sections}
    return record.model_copy(update={"reports": record.reports.model_copy(update=new)})


def save(context: Context, project: Project, record: Record) -> None:
    """Keep a record."""
    write_json(_path(context, project), record.model_dump(mode="json"))


def collected(context: Context, projects: Sequence[Project]) -> list[Resources]:
    """What vendors' tools say of a run's projects, as they are now, for `resources.json`.

    Parameters
    ----------
    context
        The run.
    projects
        Its HLS projects.

    Returns
    -------
    list
        Entries of the sources csynth, vsynth and impl; none of a project that was written anew
        since: of those it is said.

    Raises
    ------
    UserError
        If a file of results is damaged.
    """
    found: list[Resources] = []
    for project in projects:
        if _path(context, project).is_file():
            found += costs(project, load(context, project).reports)
    return found


def _path(context: Context, project: Project) -> Path:
    return context.directory / "vendor" / f"{project.directory.name}.json"


def _read(path: Path) -> Record | None:
    try:
        return Record.model_validate(read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"{path}: not as l1kd writes it ({str(error).splitlines()[0]}); delete it, and run the "
            "tool or `l1kd synth --collect` again"
        ) from error
