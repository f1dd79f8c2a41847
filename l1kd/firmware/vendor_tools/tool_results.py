"""Results that were brought back from a machine with the vendor's tools.

What of a project its vendor's results follow from, and the copy of it that tools work in.

A project's reports as entries of `resources.json`.

Vendors' results as a run keeps them: `vendor/<project>.json`, of one version of a project.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import atomic_directory, content_hash, file_hash, read_json, write_json
from l1kd.core.run_files import LayerCost, Resources
from l1kd.firmware import fpga_parts
from l1kd.firmware.hls.project import FILE, Description, Project
from l1kd.firmware.hls.testbench import INPUTS, OUTPUTS, read_vectors
from l1kd.firmware.vendor_tools import tool_reports
from l1kd.firmware.vendor_tools.tool_commands import Step
from l1kd.firmware.vendor_tools.tool_reports import Cosim, Csynth, Folder, Reports, word

_SCRIPTS = ("project.tcl", "build_prj.tcl", "vivado_synth.tcl")


def sources(directory: Path) -> dict[str, str]:
    """The files that are synthesised and the scripts, by path, each with its hash."""
    code = [path for path in sorted((directory / "firmware").rglob("*")) if path.is_file()]
    scripts = [directory / name for name in _SCRIPTS if (directory / name).is_file()]
    return {path.relative_to(directory).as_posix(): file_hash(path) for path in [*code, *scripts]}


def content(project: Project) -> str:
    """Hash of what a project's costs follow from."""
    return content_hash(sources(project.directory))


def bench(project: Project) -> str:
    """Hash of the test bench and its vectors, which simulations follow from beside the sources."""
    paths = [project.directory / name for name in _bench_files(project)]
    return content_hash([file_hash(path) if path.is_file() else None for path in paths])


def expected(project: Project) -> NDArray[np.int64]:
    """What the test bench expects, in counts of the output's LSB, (N, outputs)."""
    return read_vectors(project.directory)[1]


def differing(project: Project, folder: Folder, names: list[str] | None = None) -> list[str]:
    """Files of a directory that are not those of the project; what is missing does not differ."""
    own = sources(project.directory)
    if names is not None:
        own = {name: file_hash(project.directory / name) for name in names}
    found = []
    for name, digest in own.items():
        data = folder.data(name)
        if data is not None and hashlib.sha256(data).hexdigest() != digest:
            found.append(name)
    return found


def same_vectors(project: Project, folder: Folder) -> bool:
    """Whether a directory has the project's own vectors."""
    return all(folder.data(str(name)) is not None for name in (INPUTS, OUTPUTS)) and not differing(
        project, folder, [str(INPUTS), str(OUTPUTS)]
    )


def build_directory(context: Context, project: Project) -> Path:
    """Where tools work on a project: in a copy, which no later conversion writes over."""
    return context.directory / "vendor" / project.label


def prepare(context: Context, project: Project) -> Path:
    """The copy of a project that tools work in, with what they have done in it so far.

    A copy of another version of the project is replaced; other vectors are put into it.
    """
    build = build_directory(context, project)
    for ending in (".part", ".old"):  # of a copy that was killed; the run is locked
        for left in build.parent.glob(f".{build.name}.*{ending}"):
            shutil.rmtree(left, ignore_errors=True)
    if build.is_dir() and sources(build) != sources(project.directory):
        context.say(f"{build} is a copy of another version of the project: begun anew")
        shutil.rmtree(build)
    if not build.is_dir():
        with atomic_directory(build) as temporary:
            for path in sorted(project.directory.rglob("*")):
                name = path.relative_to(project.directory)
                # Not what was compiled, and not what a tool was made to do by hand.
                if name.parts[0] == "csim" or name.parts[0].endswith("_prj"):
                    continue
                if path.is_file() and path.suffix not in (".log", ".rpt"):
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, temporary / name)
    for file in (*_bench_files(project), FILE):
        if (project.directory / file).is_file():
            shutil.copy2(project.directory / file, build / file)
    return build


def _bench_files(project: Project) -> list[str]:
    return [f"{project.record.top}_test.cpp", str(INPUTS), str(OUTPUTS)]


_COUNTED = ("lut", "ff", "dsp", "bram", "uram")
# nnet::dense<input_t, result_t, config7>(...); // dense1
_CALL = re.compile(r"nnet::\w+<[^;]*?config(\d+)>\([^;]*\);\s*// (\w+)")


def check(project: Project, reports: Reports, where: str) -> None:
    """Whether reports are of this project's design, part and clock."""
    record = project.record
    synthesis = reports.csynth
    if synthesis and synthesis.top and synthesis.top != record.top:
        raise UserError(
            f"{where}: the report of the C synthesis is of {synthesis.top!r}, the project's top "
            f"function is {record.top!r}; run the tool again in the project's own directory"
        )
    given = {
        "C synthesis": synthesis and synthesis.part,
        "logic synthesis": reports.vsynth and reports.vsynth.part,
        "implementation": reports.implementation and reports.implementation.part,
    }
    for what, part in given.items():
        if part and not _same_part(part, record.part):
            raise UserError(
                f"{where}: the report of the {what} is for the part {part}, the project is for "
                f"{record.part}; run the tool again with the project's own scripts"
            )
    # Reports give two decimals.
    clock = synthesis and synthesis.target_clock_ns
    if clock and abs(clock - record.clock_ns) > 0.0051:
        raise UserError(
            f"{where}: the report of the C synthesis is for a clock of {clock:g} ns, the project "
            f"is for {record.clock_ns:g} ns; run the tool again with the project's own scripts"
        )


def costs(project: Project, reports: Reports) -> list[Resources]:
    """Entries for `resources.json`: C synthesis, logic synthesis, implementation, as far as known.

    Cycles are those of the C synthesis, its worst, in all of them: it is one design.
    """
    found = []
    cycles = _cycles(project, reports)
    if reports.csynth:
        synthesis = reports.csynth
        suite = "Vitis HLS" if project.record.backend == "Vitis" else "Vivado HLS"
        notes = ["estimates of the C synthesis", *_spread(synthesis), *_simulations(reports)]
        found.append(
            _entry(
                project,
                source="csynth",
                tool=f"{suite} {synthesis.version or ''}".strip(),
                estimated_clock_ns=synthesis.estimated_clock_ns,
                layers=_layers(project, synthesis.layers),
                share=_share(project, synthesis.used, synthesis.available),
                note="; ".join(notes),
                **cycles,
                **_counted(synthesis.used),
            )
        )
    if reports.vsynth:
        netlist = reports.vsynth
        found.append(
            _entry(
                project,
                source="vsynth",
                tool=netlist.version or "Vivado",
                share=_share(project, netlist.used, netlist.available),
                note=f"netlist, {(netlist.state or 'synthesized').lower()}{_source(cycles)}",
                **cycles,
                **_counted(netlist.used),
            )
        )
    if reports.implementation:
        placed = reports.implementation
        slack = reports.timing.wns if reports.timing else None
        notes = [(placed.state or "placed and routed").lower()]
        period = None
        if slack is not None:
            period = round(project.record.clock_ns - slack, 3)
            notes.append(f"worst setup slack {slack:g} ns" + (", timing fails" * (slack < 0)))
        found.append(
            _entry(
                project,
                source="impl",
                tool=placed.version or "Vivado",
                estimated_clock_ns=period if period and period > 0 else None,
                share=_share(project, placed.used, {})
                or {key: value for key, value in placed.share.items() if key in _COUNTED},
                note="; ".join(notes) + _source(cycles),
                **cycles,
                **_counted(placed.used),
            )
        )
    return found


def layer_names(source: str) -> dict[int, str]:
    """The layer of each configuration that a top function's text calls, by its number."""
    return {int(number): name for number, name in _CALL.findall(source)}


def _entry(project: Project, **values: Any) -> Resources:
    record = project.record
    return Resources(
        student=record.student,
        implementation="hls4ml",
        part=record.part,
        clock_ns=record.clock_ns,
        backend=record.backend,
        io_type=record.io_type,
        strategy=record.strategy,
        **values,
    )


def _cycles(project: Project, reports: Reports) -> dict[str, Any]:
    """Latency and interval: the C synthesis's worst, or what the simulated RTL took."""
    synthesis, simulated = reports.csynth, reports.cosim
    latency = synthesis.worst_latency if synthesis else None
    interval = synthesis.interval_max if synthesis else None
    if simulated and simulated.passed:
        latency = simulated.latency_max if latency is None else latency
        interval = simulated.interval_max if interval is None else interval
    ns = None if latency is None else round(latency * project.record.clock_ns, 6)
    return {"latency_cycles": latency, "latency_ns": ns, "interval_cycles": interval}


def _counted(used: dict[str, float]) -> dict[str, float]:
    return {key: used[key] for key in _COUNTED if key in used}


def _share(
    project: Project, used: dict[str, float], available: dict[str, float]
) -> dict[str, float]:
    """Shares of what the report says that the part has; of what is known of it otherwise."""
    found = {
        key: round(used[key] / available[key], 6)
        for key in _COUNTED
        if key in used and available.get(key)
    }
    return found or fpga_parts.share(project.record.part, **_counted(used))


def _source(cycles: dict[str, Any]) -> str:
    return "" if cycles["latency_cycles"] is None else "; cycles: of the C synthesis"


def _spread(synthesis: Csynth) -> list[str]:
    """What one number does not say."""
    said = []
    best, worst = synthesis.best_latency, synthesis.worst_latency
    if None not in (best, worst) and best != worst:
        said.append(f"latency {best} to {worst} cycles, the worst counts")
    least, most = synthesis.interval_min, synthesis.interval_max
    if None not in (least, most) and least != most:
        said.append(f"interval {least} to {most} cycles, the longest counts")
    return said


def _simulations(reports: Reports) -> list[str]:
    """What the vendor's simulations showed."""
    said = []
    names = {"csim_results": "the vendor's C simulation", "cosim_results": "the simulated RTL"}
    for name, what in names.items():
        if (result := getattr(reports, name)) is not None:
            equal = "equals the network in all bits" if not result.mismatches else "DIFFERS"
            wrong = f" in {result.mismatches}" if result.mismatches else ""
            said.append(f"{what} {equal}{wrong} of {result.events} events")
    if isinstance(reports.cosim, Cosim):
        simulated = reports.cosim
        said.append(
            f"co-simulation ({simulated.rtl}): {simulated.status}, latency "
            f"{_range(simulated.latency_min, simulated.latency_max)}, interval "
            f"{_range(simulated.interval_min, simulated.interval_max)} cycles"
        )
    return said


def _range(least: int | None, most: int | None) -> str:
    if least is None or most is None:
        return "unknown"
    return str(most) if least == most else f"{least} to {most}"


def _same_part(given: str, own: str) -> bool:
    """Some reports write a part without its family's prefix, or without hyphens and grades."""
    a, b = (re.sub(r"[^a-z0-9]", "", text.lower()).removeprefix("xc") for text in (given, own))
    return a.startswith(b) or b.startswith(a)


def _layers(project: Project, instances: list[LayerCost]) -> list[LayerCost]:
    """Instances by the network's layers, where one layer's configuration is in their names."""
    path = project.directory / "firmware" / f"{project.record.top}.cpp"
    names = layer_names(path.read_text()) if path.is_file() else {}
    groups: dict[str, list[LayerCost]] = {}
    for each in instances:
        numbers = {int(found) for found in re.findall(r"config(\d+)", each.name)}
        known = {names[number] for number in numbers if number in names}
        groups.setdefault(known.pop() if len(known) == 1 else each.name, []).append(each)
    return [_together(name, group) for name, group in groups.items()]


def _together(name: str, group: list[LayerCost]) -> LayerCost:
    """Several instances of one layer: their sum; in time, the longest."""
    values: dict[str, Any] = {}
    for key in ("lut", "ff", "dsp", "bram"):
        known = [value for each in group if (value := getattr(each, key)) is not None]
        values[key] = sum(known) if known else None
    cycles = [each.latency_cycles for each in group if each.latency_cycles is not None]
    return LayerCost(name=name, latency_cycles=max(cycles) if cycles else None, **values)


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
    """What the run has of a project as it is now; of what it has of an earlier one it is said."""
    made_of, tried_by = content(project), bench(project)
    name = project.label
    record = _read(_path(context, project))
    if record is not None and record.content != made_of:
        context.say(
            f"{name} was written anew since the vendor's tool ran: its old numbers are left out"
        )
        record = None
    if record is None:
        return Record(project=name, content=made_of, bench=tried_by)
    if record.bench != tried_by:
        record = record.without(*_SIMULATED)
        steps = {step: done for step, done in record.steps.items() if step in ("csynth", "vsynth")}
        record = record.model_copy(update={"bench": tried_by, "steps": steps})
    return record


def add(record: Record, reports: Reports) -> Record:
    """A record with the sections of these reports in place of its own."""
    new = {name: getattr(reports, name) for name in reports.sections}
    return record.model_copy(update={"reports": record.reports.model_copy(update=new)})


def save(context: Context, project: Project, record: Record) -> None:
    """Keep a record."""
    write_json(_path(context, project), record.model_dump(mode="json"))


def collected(context: Context, projects: Sequence[Project]) -> list[Resources]:
    """What vendors' tools say of a run's projects, as they are now, for `resources.json`."""
    found: list[Resources] = []
    for project in projects:
        if _path(context, project).is_file():
            found += costs(project, load(context, project).reports)
    return found


def _path(context: Context, project: Project) -> Path:
    return context.directory / "vendor" / f"{project.label}.json"


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
    """
    found: list[str] = []
    refused: list[str] = []
    faults: list[str] = []
    for folder in _folders(directory):
        try:
            project, results = _read_folder(context, projects, folder)
        except UserError as error:
            refused.append(str(error))
            continue
        name = project.label
        record = add(load(context, project), results)
        for section, step in _STEPS.items():
            if getattr(results, section) is None:
                continue
            state = "failed" if _failed(results, step) else "done"
            done = Done.model_validate({"state": state, "origin": "brought back"})
            record = record.with_step(step, done)
        save(context, project, record)
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


def _read_folder(
    context: Context, projects: Sequence[Project], folder: Folder
) -> tuple[Project, Reports]:
    """The project of the run that a directory is a copy of, and the reports in it."""
    project = _project(context, projects, folder)
    if changed := differing(project, folder):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{folder.root}: {changed[0]}{more} differs from {project.directory}: these are "
            "results of another version of the project; run the tool on the run's own"
        )
    vectors = expected(project) if same_vectors(project, folder) else None
    results = tool_reports.read(folder, project.record.top, vectors)
    if not results.sections:
        links = f" ({folder.links[0]} is a link: not followed)" if folder.links else ""
        where = tool_reports.files(project.record.top)["csynth"]
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
    have = ", ".join(project.label for project in projects)
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
