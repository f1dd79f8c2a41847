"""The text and XML of vendors' reports to the sections of `sections`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from l1kd.errors import UserError
from l1kd.firmware.vendor.folder import parse_xml
from l1kd.firmware.vendor.sections import Cosim, Csynth, Implementation, Timing, Vsynth
from l1kd.firmware.vendor.tables import number, tables, whole, word
from l1kd.schemas import LayerCost

__all__ = ["cosim", "csynth", "implementation", "timing", "vsynth"]

# Rows of a flat utilization report by the families' names for them.
_ROWS = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers"),
    "bram": ("Block RAM Tile",),
    "uram": ("URAM",),
    "dsp": ("DSPs", "DSP Slices"),
}
# Columns of a hierarchical one.
_COLUMNS = {
    "lut": ("Total LUTs",),
    "logic_lut": ("Logic LUTs",),
    "lutram": ("LUTRAMs",),
    "srl": ("SRLs",),
    "ff": ("FFs",),
    "ramb36": ("RAMB36",),
    "ramb18": ("RAMB18",),
    "uram": ("URAM",),
    "dsp": ("DSP48 Blocks", "DSP Blocks", "DSP Slices"),
}
_INSTANCES = 10_000  # that one report is read of
_TIMING = ("wns", "tns", "tns_failing", "tns_total", "whs", "ths", "ths_failing", "ths_total")
_TIMING_ALL = (*_TIMING, "wpws", "tpws")


def csynth(data: bytes, text: str, where: str, where_text: str) -> Csynth:
    """Read `<top>_csynth.xml`, and the costs of its instances from `<top>_csynth.rpt`.

    Parameters
    ----------
    data
        The XML file's bytes.
    text
        The text report, or nothing.
    where, where_text
        What they are called in messages.

    Raises
    ------
    UserError
        If one is damaged.
    """
    root = parse_xml(data, where)

    def value(path: str) -> str | None:
        return word(root.findtext(path))

    latency = "PerformanceEstimates/SummaryOfOverallLatency"
    if root.find("PerformanceEstimates") is None or root.find("AreaEstimates/Resources") is None:
        raise UserError(f"{where} is no report of a C synthesis; run the tool again")
    estimated = "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"
    target = "UserAssignments/TargetClockPeriod"
    counts = {
        name: whole(value(f"{latency}/{tag}"), f"{where}: {tag}")
        for name, tag in {
            "best_latency": "Best-caseLatency",
            "worst_latency": "Worst-caseLatency",
            "interval_min": "Interval-min",
            "interval_max": "Interval-max",
        }.items()
    }
    areas = []
    for path in ("AreaEstimates/Resources", "AreaEstimates/AvailableResources"):
        area = {}
        for child in root.iterfind(f"{path}/*"):
            # DSPs are DSP48E in Vivado HLS and DSP in Vitis HLS.
            name = {"DSP48E": "dsp", "BRAM_18K": "bram"}.get(child.tag, child.tag.lower())
            amount = number(child.text, f"{where}: {child.tag}")
            if name in _ROWS and amount is not None:
                area[name] = amount
        areas.append(area)
    return Csynth(
        version=value("ReportVersion/Version"),
        part=value("UserAssignments/Part"),
        top=value("UserAssignments/TopModelName"),
        target_clock_ns=number(value(target), f"{where}: TargetClockPeriod"),
        estimated_clock_ns=number(value(estimated), f"{where}: EstimatedClockPeriod"),
        pipeline=value("PerformanceEstimates/PipelineType"),
        used=areas[0],
        available=areas[1],
        layers=list(_instances(text, where_text)),
        **counts,
    )


def _instances(text: str, where: str) -> Iterator[LayerCost]:
    """Costs of the modules that the top function consists of."""
    costs: dict[str, dict[str, float | None]] = {}
    cycles: dict[str, int | None] = {}
    for table in tables(text):
        if table.heading[1] != "Instance" or table.columns[:2] == ["Name", "BRAM_18K"]:
            continue
        rows = [row for row in table.rows if row[0] != "Total" and len(row) == len(table.columns)]
        if table.heading[0].startswith("Utilization"):
            places = {
                "bram": table.column("BRAM_18K"),
                "dsp": table.column("DSP", "DSP48E"),
                "ff": table.column("FF"),
                "lut": table.column("LUT"),
            }
            for row in rows:
                costs[row[0]] = {
                    name: number(row[place], f"{where}: {name} of {row[0]}")
                    for name, place in places.items()
                    if place is not None
                }
        elif table.heading[0].startswith("Performance") and (place := table.column("max")):
            cycles |= {row[0]: whole(row[place], f"{where}: latency of {row[0]}") for row in rows}
    names = dict.fromkeys([*costs, *cycles])
    if len(names) > _INSTANCES:
        raise UserError(f"{where} lists {len(names)} instances, more than any project has")
    for name in names:
        label = word(name, 200) or "?"
        yield LayerCost(name=label, latency_cycles=cycles.get(name), **costs.get(name, {}))


def vsynth(text: str, where: str) -> Vsynth | None:
    """Read a flat report of `report_utilization`; None if it has no numbers."""
    used: dict[str, float] = {}
    available: dict[str, float] = {}
    for table in tables(text):
        name_at, used_at = table.column("Site Type"), table.column("Used")
        all_at = table.column("Available")
        if name_at is None or used_at is None:
            continue
        for row in table.rows:
            if len(row) != len(table.columns):
                continue
            label = row[name_at].rstrip("*")
            key = next((key for key, names in _ROWS.items() if label in names), None)
            if key is None or key in used:
                continue
            scale = 2 if key == "bram" else 1  # a tile is two halves of 18 kbit
            amount = number(row[used_at], f"{where}: {label}")
            if amount is not None:
                used[key] = scale * amount
            amount = number(row[all_at], f"{where}: {label}") if all_at is not None else None
            if amount is not None:
                available[key] = scale * amount
    if not used:
        return None
    return Vsynth(used=used, available=available, **_head(text))


def _head(text: str) -> dict[str, str | None]:
    """What a report of Vivado says of itself: version, part, state of the design."""
    said = dict(re.findall(r"^\| ([A-Z][\w ]+?) *: (.*?) *\|?$", text, re.MULTILINE))
    version = re.match(r"Vivado v\.\S+", said.get("Tool Version", ""))
    return {
        "version": word(version[0]) if version else None,
        "part": word(said.get("Device")),
        "state": word(said.get("Design State")),
    }


def cosim(text: str, where: str) -> Cosim | None:
    """Read `<top>_cosim.rpt`; None if nothing was simulated."""
    for table in tables(text):
        for row in table.rows:
            if row[0] not in ("VHDL", "Verilog") or len(row) < 8 or row[1].upper() == "NA":
                continue
            least, mean, most = row[2:5], row[3], row[4]
            return Cosim(
                rtl=row[0],
                status=word(row[1], 20) or "unknown",
                latency_min=whole(least[0], f"{where}: latency"),
                latency_avg=number(mean, f"{where}: latency"),
                latency_max=whole(most, f"{where}: latency"),
                interval_min=whole(row[5], f"{where}: interval"),
                interval_avg=number(row[6], f"{where}: interval"),
                interval_max=whole(row[7], f"{where}: interval"),
            )
    return None


def implementation(text: str, where: str) -> Implementation:
    """Read a report of `report_utilization -hierarchical`: the first row of the whole design.

    Raises
    ------
    UserError
        If there is none.
    """
    for table in tables(text):
        module = table.column("Module")
        if module is None:
            continue
        row = next((row for row in table.rows if row[module : module + 1] == ["(top)"]), None)
        if row is None or len(row) != len(table.columns):
            continue
        used: dict[str, float] = {}
        share: dict[str, float] = {}
        for key, names in _COLUMNS.items():
            place = table.column(*names)
            amount = number(row[place], f"{where}: {key}") if place is not None else None
            if place is None or amount is None:
                continue
            used[key] = amount
            if match := re.search(r"\((?:<)?([0-9.]+)%\)", row[place]):
                share[key] = round(float(match[1]) / 100, 6)
        if "ramb36" in used or "ramb18" in used:
            used["bram"] = 2 * used.get("ramb36", 0) + used.get("ramb18", 0)
        return Implementation(used=used, share=share, **_head(text))
    raise UserError(
        f"{where} has no row of the whole design; write it with "
        "`report_utilization -hierarchical -file util.rpt`"
    )


def timing(text: str, where: str) -> Timing:
    """Read the design's summary in a report of `report_timing_summary`.

    Raises
    ------
    UserError
        If there is none.
    """
    lines = iter(text.splitlines())
    if any("WNS(ns)" in line for line in lines):
        next(lines, None)  # the rule under the head
        cells = next(lines, "").split()
        if len(cells) >= 10:
            # Columns: WNS TNS failing total WHS THS failing total WPWS TPWS failing total
            values = dict(zip(_TIMING_ALL, cells, strict=False))
            wanted = {key: values[key] for key in Timing.model_fields}
            return Timing(
                **{
                    key: number(cell, f"{where}: {key.upper()}", signed=True)
                    for key, cell in wanted.items()
                }
            )
    raise UserError(
        f"{where} has no design timing summary; write it with "
        "`report_timing_summary -file timing.rpt`"
    )
