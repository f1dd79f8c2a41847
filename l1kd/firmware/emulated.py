"""A run's emulators against the exact network."""

from __future__ import annotations

from collections.abc import Sequence

from l1kd import schemas
from l1kd.context import Context
from l1kd.errors import CheckFailed, UserError
from l1kd.firmware.comparison import Comparison, Inputs
from l1kd.firmware.emulator import Emulator, load
from l1kd.firmware.project import Project
from l1kd.firmware.student import compare_on, open_student, projects_of, samples_of
from l1kd.schemas import AgreementRecord

__all__ = ["compare_emulator", "emulated", "emulators"]


def compare_emulator(context: Context, name: str, emulator: Emulator) -> None:
    """Hold a student's emulator against the exact network, and note the pair in `agreement.json`.

    Parameters
    ----------
    context
        The run.
    name
        The student.
    emulator
        Built from one of its projects.

    Raises
    ------
    UserError
        If it was built from no project of the student that is there.
    CheckFailed
        If a single bit differs.
    """
    projects = projects_of(context).get(name, [])
    comparisons = emulated([emulator], projects)
    if not comparisons["test"]:
        raise UserError(
            f"{emulator.directory} was built from another project of {name!r} than the run has; "
            f"run `l1kd emulator {context.directory}` again"
        )
    student = open_student(context, name, projects)
    compare_on(context, student, comparisons, samples_of(context))
    done = [each for kind in comparisons.values() for each in kind if each.result.events]
    for comparison in done:
        comparison.explain(student.exact, context.directory, name)
    if (context.directory / "agreement.json").is_file():
        records: list[AgreementRecord] = schemas.read(context.directory, "agreement.json")
        for record in records:
            if record.student == name:
                others = [pair for pair in record.pairs if pair.candidate != "emulator"]
                record.pairs = [*others, *(each.pair for each in done)]
        schemas.write(context.directory, "agreement.json", records)
    for comparison in done:
        context.say(f"{name} {comparison.told}")
    if faults := [comparison.fault for comparison in done if comparison.fault]:
        raise CheckFailed(f"emulator and network differ: student {name!r}, {faults[0]}")


def emulators(context: Context) -> list[Emulator]:
    """The emulators that were built into the run; of broken ones it is said."""
    found = []
    for directory in sorted((context.directory / "emulator").glob("*/")):
        try:
            found.append(load(directory))
        except UserError as error:
            context.say(f"not compared: {error}")
    return found


def emulated(
    emulators: Sequence[Emulator], projects: Sequence[Project]
) -> dict[Inputs, list[Comparison]]:
    """Comparisons of emulators that were built from these projects, as they are now."""
    records = {project.description.namespace: project.record for project in projects}
    kept = [each for each in emulators if each.manifest.namespace in records]
    found: dict[Inputs, list[Comparison]] = {}
    for inputs in ("corner", "test"):
        found[inputs] = [
            Comparison(
                "emulator",
                inputs,
                emulator.predict,
                project=records[emulator.manifest.namespace],
            )
            for emulator in kept
        ]
    return found
