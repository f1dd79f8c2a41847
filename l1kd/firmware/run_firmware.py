"""The firmware of a run's students: where it lies in the run, and as objects. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l1kd.core import run_files
from l1kd.core.config import Which
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import file_hash, read_json, reading
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network, from_json
from l1kd.firmware.certificate.certify import calls_of
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.shipped_files import contents, fingerprint
from l1kd.firmware.hls.project import NETWORK, Project, open_project
from l1kd.firmware.verilog.project import Logic, open_logic

_CHANGED = "the project is not the one that was judged; run `l1kd verify` again"


@dataclass(frozen=True)
class Student:
    """A converted student: its exact network at the projects' port, and what was written of it."""

    name: str
    exact: Network
    projects: list[Project]  # HLS
    logic: Logic | None  # Verilog, if it was written
    float32: dict[str, str]  # layers that QKeras may not compute exactly, and why

    @property
    def lsb(self) -> float:
        """The step of its output."""
        return self.projects[0].output_type.lsb


def hls_design(record: run_files.FirmwareRecord) -> dict[str, Any]:
    """Fields of a `Resources` that say which HLS project it is of."""
    same = {"student", "part", "clock_ns", "backend", "io_type", "strategy"}
    return {"implementation": "hls4ml"} | record.model_dump(include=same)


def hls_path(student: str, backend: str, io_type: str, strategy: str) -> str:
    """An HLS project's directory, relative to the run."""
    return f"firmware/{student}/hls/{backend}-{io_type}-{strategy}"


def verilog_path(student: str, *_: str) -> str:
    """A Verilog project's directory, relative to the run."""
    return f"firmware/{student}/verilog"


def projects_of(run: Path) -> dict[str, list[Project]]:
    """The run's HLS projects by student."""
    groups: dict[str, list[Project]] = {}
    for record in run_files.read(run, "firmware.json"):
        project = open_project(_inside(run, record.directory), calls_of)
        groups.setdefault(record.student, []).append(project)
    return groups


def projects_of_student(run: Path, name: str | None = None) -> tuple[str, list[Project]]:
    """A student, by default the best or the only one, and its HLS projects."""
    groups = projects_of(run)
    if name is None:
        only = next(iter(groups)) if len(groups) == 1 else None
        name = only or run_files.read(run, "metrics.json").best
    if name not in groups:
        raise UserError(
            f"{run} has no project of a student {name!r}; it has those of {', '.join(groups)}"
        )
    return name, groups[name]


def open_student(context: Context, name: str, projects: list[Project]) -> Student:
    """A student as `convert` left it, with its projects."""
    run, directory = context.directory, context.firmware(name)
    again = f"run `l1kd convert {run}` first"
    record: run_files.StudentRecord = run_files.read(directory, "student.json")
    with reading(directory / NETWORK, again):
        exact = from_json(read_json(directory / NETWORK))
    logic: Logic | None = None
    for written in run_files.read(run, "rtl.json") if (run / "rtl.json").exists() else []:
        if written.student == name and written.directory:
            logic = open_logic(_inside(run, written.directory))
    model = context.student_file(name)
    changed = model.is_file() and file_hash(model) != record.file
    opened: list[Project | Logic] = [*projects, *([logic] if logic else [])]
    for each in opened:
        if changed or each.description.model != record.model:
            raise UserError(
                f"{each.directory} was written from another network than {model}; {again}"
            )
    return Student(name, exact, projects, logic, record.float32)


def open_students(context: Context) -> list[Student]:
    """All students as `convert` left them."""
    groups = projects_of(context.directory)
    return [open_student(context, name, projects) for name, projects in groups.items()]


def too_large(context: Context, logic: Logic) -> str | None:
    """Reason for giving a design to no simulator, synthesis or count of toggles; None: given."""
    lut, most = logic.record.lut or 0, context.config.rtl.tools_max_lut
    if lut <= most:
        return None
    return f"about {lut:,.0f} LUTs, and designs above {most:,.0f} are left out (rtl.tools_max_lut)"


def _inside(run: Path, stored: str) -> Path:
    if Path(stored).is_absolute() or ".." in Path(stored).parts:
        raise UserError(
            f"{run} was converted by an older l1kd, whose projects lie outside of the run "
            f"({stored}); run `l1kd convert {run}` again"
        )
    return run / stored


def chosen(context: Context, which: Which, names: Sequence[str]) -> list[str]:
    """Of some students those that `all`, `best` or `none` means; the best one first."""
    best = run_files.read(context.directory, "metrics.json").best
    ordered = sorted(names, key=lambda name: name != best)
    return [name for name in ordered if which == "all" or (which == "best" and name == best)]


def stated_port(context: Context, network: Network) -> FixedPoint | None:
    """The data's type as a port, where it says more than the network's own and fits into it."""
    own, grid = network.port, context.dataset.port or context.dataset.grid
    if grid.fraction > own.fraction or grid.low < own.low or grid.high > own.high:
        return None
    return None if (grid.bounds, grid.fraction) == (own.bounds, own.fraction) else grid


def agreement_now(run: Path) -> list[run_files.AgreementRecord]:
    """`agreement.json`; certificates are void if their project is not the one that was judged."""
    records: list[run_files.AgreementRecord] = run_files.read(run, "agreement.json")
    for record in records:
        for each in record.certificates:
            kind = each.backend or "", each.io_type or "", each.strategy or ""
            project = run / (hls_path if each.backend else verilog_path)(record.student, *kind)
            try:
                now = fingerprint(contents(project))
            except (OSError, Unreadable):
                now = "unreadable"
            if each.content not in (now, ""):  # of an older l1kd it is empty
                first = [*each.layers, *(found.layer for found in each.findings), "input"][0]
                state: run_files.State = "refused" if project.is_dir() else "open"
                void = run_files.Doubted(layer=first, step="code", state=state, reason=_CHANGED)
                each.certified, each.layers, each.findings = False, [], [void]
    return records


def certificate_of(run: Path, project: Project | Logic) -> run_files.CertificateRecord | None:
    """A project's certificate, if there is one; CheckFailed if its files are others since."""
    own, kind = project.record, ("", "", "")
    if isinstance(own, run_files.FirmwareRecord):
        kind = own.backend, own.io_type, own.strategy
    for record in agreement_now(run) if (run / "agreement.json").exists() else []:
        for each in record.certificates:
            found = each.backend or "", each.io_type or "", each.strategy or ""
            if (record.student, found) == (own.student, kind):
                if any(found.reason == _CHANGED for found in each.findings):
                    raise CheckFailed(f"{project.directory}: {_CHANGED}")
                return each
    return None
