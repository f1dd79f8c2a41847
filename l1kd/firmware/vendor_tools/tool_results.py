"""Vendors' results in a run: `vendor/<project>.json`, of one version of each project.

Also the copy that tools work in, what was brought back, and entries of `resources.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from l1kd.core import fpga_parts
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import (
    atomic_directory,
    check_replaceable,
    content_hash,
    file_hash,
    reading,
    write_json,
)
from l1kd.core.run_files import COUNTS, LayerCost, Resources, Source, read_as
from l1kd.firmware.hls.backends import LEFT_BY, STEPS, Step, backend_named
from l1kd.firmware.hls.project import FILE, Description, Project
from l1kd.firmware.hls.testbench import INPUTS, OUTPUTS, read_vectors
from l1kd.firmware.run_firmware import hls_design
from l1kd.firmware.vendor_tools import tool_reports
from l1kd.firmware.vendor_tools.tool_reports import Csynth, Design, Folder, Reports, word


def sources(project: Project, directory: Path | None = None) -> dict[str, str]:
    """Hashes of the synthesised files and scripts by path, of a project or of a copy of it."""
    directory = directory or project.directory
    code = [path for path in sorted((directory / "firmware").rglob("*")) if path.is_file()]
    scripts = [directory / name for name in backend_named(project.record.backend).scripts]
    return {
        path.relative_to(directory).as_posix(): file_hash(path)
        for path in [*code, *scripts]
        if path.is_file()
    }


def bench(project: Project) -> str:
    """Hash of the test bench and its vectors, which simulations follow from beside the sources."""
    paths = [project.directory / name for name in _bench_files(project)]
    return content_hash([file_hash(path) if path.is_file() else None for path in paths])


def differing(folder: Folder, hashes: dict[str, str]) -> list[str]:
    """Files of a directory that have another hash; a missing one does not differ."""
    return [
        name
        for name, digest in hashes.items()
        if (data := folder.data(name)) is not None and hashlib.sha256(data).hexdigest() != digest
    ]


def prepare(context: Context, project: Project) -> Path:
    """Make or keep the copy of a project that tools work in; one of another version is replaced."""
    build = context.directory / "vendor" / project.label
    check_replaceable(build, inside=context.directory)
    if build.is_dir() and sources(project, build) != sources(project):
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


def check(project: Project, reports: Reports, where: str) -> None:
    """Raise UserError for reports, called `where`, of another design, part or clock."""
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
    """Entries for `resources.json`: C synthesis, logic synthesis, implementation, if known."""
    # Cycles are those of the C synthesis, its worst, in all of them: it is one design. They last as
    # long as the longest path that a report states, where that is longer than the clock period.
    record, clock = project.record, project.record.clock_ns
    backend = backend_named(record.backend)
    vivado = backend.netlist_tool.capitalize()
    synthesis, netlist, placed = reports.csynth, reports.vsynth, reports.implementation
    estimated = synthesis.estimated_clock_ns if synthesis else None
    latency = synthesis.worst_latency if synthesis else None
    interval = synthesis.interval_max if synthesis else None
    if reports.cosim and reports.cosim.passed:
        latency = reports.cosim.latency_max if latency is None else latency
        interval = reports.cosim.interval_max if interval is None else interval
    borrowed = [] if latency is None else ["cycles: of the C synthesis"]
    slow = []
    if estimated and estimated > clock:
        slow.append(
            f"timing fails: the C synthesis estimates a clock of {estimated:g} ns for {clock:g} "
            f"ns; the latency is that at {estimated:g} ns"
        )
    found = []

    def add(
        source: Source,
        section: Design,
        tool: str,
        path_ns: float | None,
        notes: list[str],
        **more: Any,
    ) -> None:
        latency_ns = None if latency is None else round(latency * max(clock, path_ns or 0), 6)
        found.append(
            Resources(
                **hls_design(record),
                source=source,
                tool=tool,
                latency_cycles=latency,
                latency_ns=latency_ns,
                interval_cycles=interval,
                note="; ".join(notes),
                share=_share(record.part, section),
                **_counted(section.used),
                **more,
            )
        )

    if synthesis:
        tool = f"{backend.suite} {synthesis.version or ''}".strip()
        notes = ["estimates of the C synthesis", *slow, *_ranges(synthesis), *_simulations(reports)]
        layers = _layers(project, synthesis.layers)
        add(
            "csynth", synthesis, tool, estimated, notes, estimated_clock_ns=estimated, layers=layers
        )
    if netlist:
        notes = [f"netlist, {(netlist.state or 'synthesized').lower()}", *borrowed, *slow]
        add("vsynth", netlist, netlist.version or vivado, estimated, notes)
    if placed:
        notes, path, stated = [(placed.state or "placed and routed").lower()], estimated, None
        slack = reports.timing.wns if reports.timing else None
        if slack is not None:
            path = round(clock - slack, 3)
            stated = path if path > 0 else None
            notes.append(f"worst setup slack {slack:g} ns" + (", timing fails" * (slack < 0)))
        notes += [*borrowed, *(slow if slack is None else [])]
        add("impl", placed, placed.version or vivado, path, notes, estimated_clock_ns=stated)
    return found


def layer_names(arrays: Mapping[str, str]) -> dict[int, str]:
    """Layers by the number of their configuration, from the arrays that hold them."""
    found = ((re.fullmatch(r"layer(\d+)_out", array), layer) for array, layer in arrays.items())
    return {int(number[1]): layer for number, layer in found if number}


def _counted(used: dict[str, float]) -> dict[str, float]:
    return {key: used[key] for key in COUNTS if key in used}


def _share(part: str, section: Design) -> dict[str, float]:
    """Shares of the part by the report's own totals, by the table of parts, or as reported."""
    used = _counted(section.used)
    if isinstance(section, tool_reports.Implementation):
        return fpga_parts.share(part, **used) or _counted(section.share)
    has = section.available
    found = {key: round(each / has[key], 6) for key, each in used.items() if has.get(key)}
    return found or fpga_parts.share(part, **used)


def _ranges(synthesis: Csynth) -> list[str]:
    """Notes on latency and interval where the C synthesis gives a range."""
    notes = []
    for name, least, most, counted in (
        ("latency", synthesis.best_latency, synthesis.worst_latency, "worst"),
        ("interval", synthesis.interval_min, synthesis.interval_max, "longest"),
    ):
        if None not in (least, most) and least != most:
            notes.append(f"{name} {least} to {most} cycles, the {counted} counts")
    return notes


def _simulations(reports: Reports) -> list[str]:
    """Notes on the vendor's simulations."""
    notes = []
    for name, result in (
        ("the vendor's C simulation", reports.csim_results),
        ("the simulated RTL", reports.cosim_results),
    ):
        if result is not None:
            wrong = f"DIFFERS in {result.mismatches}" if result.mismatches else ""
            said = wrong or "equals the network in all bits"
            notes.append(f"{name} {said} of {result.events} events")
    if rtl := reports.cosim:
        latency, interval = (
            "unknown" if None in ends else " to ".join(dict.fromkeys(map(str, ends)))
            for ends in ((rtl.latency_min, rtl.latency_max), (rtl.interval_min, rtl.interval_max))
        )
        notes.append(
            f"co-simulation ({rtl.rtl}): {rtl.status}, latency {latency}, interval {interval} "
            "cycles"
        )
    return notes


def _same_part(given: str, own: str) -> bool:
    """Compare parts; some reports leave out the prefix `xc`, hyphens or grades."""
    a, b = (re.sub(r"[^a-z0-9]", "", text.lower()).removeprefix("xc") for text in (given, own))
    return a.startswith(b) or b.startswith(a)


def _layers(project: Project, instances: list[LayerCost]) -> list[LayerCost]:
    """Costs of the instances by layer, where they are of one: sums, and the longest latency."""
    names = layer_names(project.description.arrays)
    groups: dict[str, list[LayerCost]] = {}
    for each in instances:
        numbers = {int(found) for found in re.findall(r"config(\d+)", each.name)}
        known = {names[number] for number in numbers if number in names}
        groups.setdefault(known.pop() if len(known) == 1 else each.name, []).append(each)
    found = []
    for name, group in groups.items():
        total: dict[str, Any] = {}
        for key in ("latency_cycles", "lut", "ff", "dsp", "bram"):
            if counts := [value for each in group if (value := getattr(each, key)) is not None]:
                total[key] = max(counts) if key == "latency_cycles" else sum(counts)
        found.append(LayerCost(name=name, **total))
    return found


_SIMULATED = ("cosim", "csim_results", "cosim_results")  # follow from the test bench too


class Done(BaseModel, extra="forbid", frozen=True):
    """A step that a tool has finished."""

    state: Literal["done", "failed"]
    origin: Literal["here", "brought back"]
    program: str | None = None
    seconds: float | None = None


class Record(BaseModel, extra="forbid"):
    """Results of one version of a project."""

    format_version: int = 1
    project: str
    content: str  # hash of its sources and scripts
    bench: str  # hash of test bench and vectors
    steps: dict[Step, Done] = {}
    reports: Reports = Reports()

    def replace(self, reports: Reports, names: Iterable[str]) -> None:
        """Take sections of these reports in place of its own, also those that are not there."""
        new = {name: getattr(reports, name) for name in names}
        self.reports = self.reports.model_copy(update=new)


def load(context: Context, project: Project) -> Record:
    """The results of a project's present version; says so if there are older ones."""
    fresh = Record(
        project=project.label, content=content_hash(sources(project)), bench=bench(project)
    )
    path = _path(context, project)
    if not path.exists():
        return fresh
    remedy = "delete it, and run the tool or `l1kd synth --collect` again"
    record: Record = read_as(Record, path, f"{path} is gone", remedy)
    if record.content != fresh.content:
        context.say(
            f"{project.label} was written anew since the vendor's tool ran: its old numbers are "
            "left out"
        )
        return fresh
    if record.bench != fresh.bench:
        record.replace(Reports(), _SIMULATED)
        record.bench = fresh.bench
        record.steps = {
            step: done for step, done in record.steps.items() if step in ("csynth", "vsynth")
        }
    return record


def save(context: Context, project: Project, record: Record) -> None:
    """Keep a record."""
    write_json(_path(context, project), record.model_dump(mode="json"))


def collected(context: Context, projects: Sequence[Project]) -> list[Resources]:
    """Entries for `resources.json` of the present versions of a run's projects."""
    found: list[Resources] = []
    for project in projects:
        if _path(context, project).is_file():
            found += costs(project, load(context, project).reports)
    return found


def _path(context: Context, project: Project) -> Path:
    return context.directory / "vendor" / f"{project.label}.json"


_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")


def collect(context: Context, projects: Sequence[Project], directory: Path) -> list[str]:
    """Read results in one project or in a directory of some; the names of those that were kept."""
    found: list[str] = []
    refused: list[str] = []
    faults: list[str] = []
    for folder in folders(directory):
        try:
            project, results = _read_folder(context, projects, folder)
        except UserError as error:
            refused.append(str(error))
            continue
        name = project.label
        record = load(context, project)
        record.replace(results, results.sections)
        for step in STEPS:
            if getattr(results, LEFT_BY[step][0]) is not None:
                state: Literal["done", "failed"] = "failed" if results.fault(step) else "done"
                record.steps[step] = Done(state=state, origin="brought back")
        save(context, project, record)
        found.append(name)
        context.say(f"{name}: {', '.join(results.sections)} from {folder.root}")
        faults += [f"{name}: {step}" for step in STEPS if results.fault(step)]
    if refused:
        kept = f" ({', '.join(found)}: read)" if found else ""
        raise UserError("; ".join(refused) + kept)
    if faults:
        raise CheckFailed(
            f"the vendor's simulation differs from the network or failed: {', '.join(faults)}; "
            "the report says in how many events"
        )
    return found


def folders(directory: Path) -> list[Folder]:
    """One project, or those in a directory; UserError if there is none."""
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
    if changed := differing(folder, sources(project)):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{folder.root}: {changed[0]}{more} differs from {project.directory}: these are "
            "results of another version of the project; run the tool on the run's own"
        )
    names = [str(INPUTS), str(OUTPUTS)]
    missing = [name for name in names if folder.data(name) is None]
    own = {name: project.directory / name for name in names}
    other = differing(folder, {name: file_hash(p) for name, p in own.items() if p.is_file()})
    backend, top = backend_named(project.record.backend), project.record.top
    results = backend.read(
        folder, top, None if missing or other else read_vectors(project.directory)[1]
    )
    if not results.sections:
        links = f" ({folder.links[0]} is a link: not followed)" if folder.links else ""
        where = backend.report_files(top)["csynth"][0]
        raise UserError(
            f"{folder.root} has no report of a vendor's tool, as {where}{links}; run the tool "
            "there first, or bring the whole directory back"
        )
    check(project, results, str(folder.root))
    if missing or other:
        reason = f"{missing[0]} is missing" if missing else "other vectors than the project's"
        context.say(f"{folder.root}: {reason}: no simulation compared")
    return project, results


def _project(context: Context, projects: Sequence[Project], folder: Folder) -> Project:
    """The project of the run that `l1kd.json` in a directory names."""
    with reading(folder.root / FILE, "bring back the project as the run has it"):
        # Not `open_project`: it would follow a link.
        theirs = Description.model_validate(json.loads(folder.data(FILE) or b""))
    label = Project(folder.root, theirs).label
    project = next((each for each in projects if each.label == label), None)
    if project is None:
        have = ", ".join(each.label for each in projects)
        raise UserError(
            f"{folder.root}: results of {word(label)}, no project of {context.directory} "
            f"(it has {have})"
        )
    own = project.description
    if own.model != theirs.model:
        raise UserError(
            f"{folder.root}: results of another network than the run's student "
            f"{own.record.student!r} is now; run the tool on {project.directory}"
        )
    if own.namespace != theirs.namespace:
        values = {
            name: (word(str(getattr(theirs.record, name))), getattr(own.record, name))
            for name in ("part", "clock_ns", "reuse", "input_type")
            if getattr(theirs.record, name) != getattr(own.record, name)
        }
        options = [f"{name} {this}, the run has {that}" for name, (this, that) in values.items()]
        if theirs.versions.get("hls4ml") != own.versions.get("hls4ml"):
            options.append("another version of hls4ml")
        raise UserError(
            f"{folder.root}: results of the same network with other options "
            f"({'; '.join(options) or 'other layers unrolled'}); run the tool on "
            f"{project.directory}"
        )
    return project
