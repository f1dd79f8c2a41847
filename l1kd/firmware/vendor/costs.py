"""A project's reports as entries of `resources.json`."""

from __future__ import annotations

import re
from typing import Any

from l1kd.errors import UserError
from l1kd.firmware import parts
from l1kd.firmware.project import Project
from l1kd.firmware.vendor.sections import Cosim, Csynth, Reports
from l1kd.schemas import LayerCost, Resources

__all__ = ["check", "costs", "layer_names"]

_COUNTED = ("lut", "ff", "dsp", "bram", "uram")
# nnet::dense<input_t, result_t, config7>(...); // dense1
_CALL = re.compile(r"nnet::\w+<[^;]*?config(\d+)>\([^;]*\);\s*// (\w+)")


def check(project: Project, reports: Reports, where: str) -> None:
    """Whether reports are of this project's design, part and clock.

    Parameters
    ----------
    project
        The run's.
    reports
        What was read.
    where
        What they are called in messages.

    Raises
    ------
    UserError
        If one is of another.
    """
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
    return found or parts.share(project.record.part, **_counted(used))


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
