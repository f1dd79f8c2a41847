"""Results that were brought back from a machine with the vendor's tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from l1kd.context import Context
from l1kd.errors import CheckFailed, UserError
from l1kd.firmware.project import FILE, Description, Project
from l1kd.firmware.vendor import contents, reports, store
from l1kd.firmware.vendor.costs import check
from l1kd.firmware.vendor.folder import Folder
from l1kd.firmware.vendor.sections import Reports
from l1kd.firmware.vendor.tables import word
from l1kd.firmware.vendor.tools import Step

__all__ = ["collect"]

_STEPS: dict[str, Step] = {
    "csim_results": "csim",
    "csynth": "csynth",
    "cosim": "cosim",
    "vsynth": "vsynth",
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")


def collect(context: Context, projects: Sequence[Project], directory: Path) -> list[str]:
    """Read the results in a project's directory, or in those in a directory, into the run.

    Each belongs to the project that its `l1kd.json` names. Nothing in it is run, links in it are
    not followed.

    Parameters
    ----------
    context
        The run.
    projects
        Its HLS projects.
    directory
        What was brought back.

    Returns
    -------
    list
        Names of the projects that results were read of.

    Raises
    ------
    UserError
        If there are none, or some are of other networks than the run's: the others are kept.
    CheckFailed
        If a simulation of the vendor's differs from the network; its results are kept.
    """
    found: list[str] = []
    refused: list[str] = []
    faults: list[str] = []
    for folder in _folders(directory):
        try:
            project, results = _read(context, projects, folder)
        except UserError as error:
            refused.append(str(error))
            continue
        name = project.directory.name
        record = store.add(store.load(context, project), results)
        for section, step in _STEPS.items():
            if getattr(results, section) is None:
                continue
            state = "failed" if _failed(results, step) else "done"
            done = store.Done.model_validate({"state": state, "origin": "brought back"})
            record = record.with_step(step, done)
        store.save(context, project, record)
        found.append(name)
        context.say(f"{name}: {', '.join(results.sections)} from {folder.root}")
        faults += [f"{name}: {step}" for step in _STEPS.values() if _failed(results, step)]
    if refused:
        kept = f" ({', '.join(found)}: read)" if found else ""
        raise UserError("; ".join(refused) + kept)
    if faults:
        raise CheckFailed(
            f"the vendor's simulation differs from the network or failed: {', '.join(faults)}; "
            "the report says in how many events"
        )
    return found


def _folders(directory: Path) -> list[Folder]:
    if directory.is_file() and directory.suffix.lower() in _ARCHIVES:
        raise UserError(
            f"{directory} is an archive; unpack it (tar -xf, unzip) and name the directory"
        )
    if not directory.is_dir():
        raise UserError(
            f"{directory} is no directory; name the project's directory as it was brought back, or "
            "one that holds several"
        )
    folder = Folder(directory)
    if folder.data(FILE) is not None:
        return [folder]
    inside = [each for each in folder.folders() if each.data(FILE) is not None]
    if not inside:
        raise UserError(
            f"{directory} is no HLS project of l1kd and holds none: there is no {FILE}; bring "
            "back the project's whole directory (links are not followed)"
        )
    return inside


def _read(context: Context, projects: Sequence[Project], folder: Folder) -> tuple[Project, Reports]:
    """The project of the run that a directory is a copy of, and the reports in it."""
    project = _project(context, projects, folder)
    if changed := contents.differing(project, folder):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{folder.root}: {changed[0]}{more} differs from {project.directory}: these are "
            "results of another version of the project; run the tool on the run's own"
        )
    vectors = contents.expected(project) if contents.same_vectors(project, folder) else None
    results = reports.read(folder, project.record.top, vectors)
    if not results.sections:
        links = f" ({folder.links[0]} is a link: not followed)" if folder.links else ""
        where = reports.files(project.record.top)["csynth"]
        raise UserError(
            f"{folder.root} has no report of a vendor's tool, as {where}{links}; run the tool "
            "there first, or bring the whole directory back"
        )
    check(project, results, str(folder.root))
    if vectors is None:
        context.say(f"{folder.root}: other vectors than the project's: no simulation compared")
    return project, results


def _project(context: Context, projects: Sequence[Project], folder: Folder) -> Project:
    given = _description(folder)
    theirs = given.record
    kind = (theirs.student, theirs.backend, theirs.io_type, theirs.strategy)
    for project in projects:
        own = project.description.record
        if (own.student, own.backend, own.io_type, own.strategy) != kind:
            continue
        if project.description.model != given.model:
            raise UserError(
                f"{folder.root}: results of another network than the run's student "
                f"{own.student!r} is now; run the tool on {project.directory}"
            )
        if project.description.namespace != given.namespace:
            options = [
                f"{name} {word(str(getattr(theirs, name)))}, the run has {getattr(own, name)}"
                for name in ("part", "clock_ns", "reuse", "input_type")
                if getattr(theirs, name) != getattr(own, name)
            ]
            if given.versions.get("hls4ml") != project.description.versions.get("hls4ml"):
                options.append("another version of hls4ml")
            raise UserError(
                f"{folder.root}: results of the same network with other options "
                f"({'; '.join(options) or 'other layers unrolled'}); run the tool on "
                f"{project.directory}"
            )
        return project
    have = ", ".join(project.directory.name for project in projects)
    raise UserError(
        f"{folder.root}: results of {word('-'.join(kind))}, no project of {context.directory} "
        f"(it has {have})"
    )


def _description(folder: Folder) -> Description:
    data = folder.data(FILE) or b""
    try:
        # Not `open_project`: it would follow a link.
        return Description.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError) as error:
        raise UserError(
            f"{folder.root}/{FILE}: not as l1kd writes it ({str(error).splitlines()[0]}); bring "
            "back the project as the run has it"
        ) from error


def _failed(results: Reports, step: Step) -> bool:
    compared = getattr(results, f"{step}_results", None)
    failed = step == "cosim" and results.cosim is not None and not results.cosim.passed
    return failed or (compared is not None and compared.mismatches > 0)
