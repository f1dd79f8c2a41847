"""The reports in a project's directory: where the tools leave them, and all of them read.

A directory that somebody brought back: read with care, nothing in it is followed or run.

What vendors' tools report of a project, as numbers.

The sections are those of hls4ml's own reader, whose names stand in the classes' first lines; it
gives strings, and shows the best latency where it writes "worst". Block RAM is counted in halves of
18 kbit everywhere: a tile of logic synthesis is two.

Written for Vivado HLS 2020.1, of which recorded reports are at hand, and, by published reports and
hls4ml's reader, for Vitis HLS; neither tool was ever run with this code.

The tables of vendors' text reports, and the numbers in them.

The text and XML of vendors' reports to the sections of `sections`.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from l1kd.core.errors import UserError
from l1kd.core.run_files import LayerCost

_LARGEST = 32 << 20  # bytes of one file; the largest reports have a few megabytes
_DEEPEST = 64  # levels of an XML file; reports have about ten
_MOST = 1000  # directories that are looked into


class Folder:
    """Files of a directory by their relative path; links in it are as if they were not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links: list[str] = []  # that were met

    def data(self, *parts: str) -> bytes | None:
        """The bytes of a file; None if there is no such regular file."""
        path = self._real(parts)
        if path is None or not stat.S_ISREG(path.lstat().st_mode):
            return None
        if path.lstat().st_size > _LARGEST:
            raise UserError(
                f"{path} has {path.lstat().st_size >> 20} MiB, no report or source has more than "
                f"{_LARGEST >> 20}; bring back the files as the tool left them"
            )
        # O_NONBLOCK, O_NOFOLLOW: should it have become a pipe or a link meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            return handle.read(_LARGEST)

    def text(self, *parts: str) -> str | None:
        """The text of a file; None if there is no such regular file."""
        data = self.data(*parts)
        return None if data is None else data.decode(errors="replace")

    def folders(self) -> Iterator[Folder]:
        """The directories in it, links and hidden ones left out."""
        found = [
            entry.name
            for entry in os.scandir(self.root)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
        if len(found) > _MOST:
            raise UserError(
                f"{self.root} has {len(found)} directories; name one that holds the project, or "
                "the projects of one run"
            )
        return (Folder(self.root / name) for name in sorted(found))

    def _real(self, parts: tuple[str, ...]) -> Path | None:
        """The path of what is reached without a link; None if there is nothing."""
        path = self.root
        for part in "/".join(parts).split("/"):
            if part in ("", ".", ".."):
                return None
            path = path / part
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(mode):
                self.links.append(str(path.relative_to(self.root)))
                return None
        return path


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """The root of an XML file that has neither a document type nor entities.

    `data`: its bytes.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text; {_AGAIN}") from error
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise UserError(f"{where} declares a document type or entities; no report does: not read")
    # Without its declaration: what was looked for in this encoding is not read in another.
    plain = io.BytesIO(re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode())
    depth, root = 0, None
    try:
        for event, element in ElementTree.iterparse(plain, ("start", "end")):
            depth += 1 if event == "start" else -1
            root = element if root is None else root
            if depth > _DEEPEST:
                raise UserError(f"{where} is nested deeper than any report; {_AGAIN}")
    except ElementTree.ParseError as error:
        raise UserError(f"{where} is damaged ({error}); {_AGAIN}") from error
    if not isinstance(root, ElementTree.Element):
        raise UserError(f"{where} is empty; {_AGAIN}")
    return root


_AGAIN = "run the tool again, or bring the file back once more"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Csynth(_Record):
    """`CSynthesisReport`: the C synthesis's estimates."""

    version: str | None
    part: str | None
    top: str | None
    target_clock_ns: float | None
    estimated_clock_ns: float | None
    best_latency: int | None  # clock cycles
    worst_latency: int | None
    interval_min: int | None
    interval_max: int | None
    pipeline: str | None
    used: dict[str, float]  # lut, ff, dsp, bram (of 18 kbit), uram
    available: dict[str, float]
    layers: list[LayerCost] = []


class Vsynth(_Record):
    """`VivadoSynthReport`: the netlist of the logic synthesis."""

    version: str | None
    part: str | None
    state: str | None  # of the design
    used: dict[str, float]
    available: dict[str, float]


class Cosim(_Record):
    """`CosimReport`: the simulated RTL."""

    rtl: str
    status: str
    latency_min: int | None
    latency_avg: float | None
    latency_max: int | None
    interval_min: int | None
    interval_avg: float | None
    interval_max: int | None

    @property
    def passed(self) -> bool:
        """Whether the simulation ran to its end and its test bench found no difference."""
        return self.status.lower() == "pass"


class Implementation(_Record):
    """`ImplementationReport`: the placed and routed design."""

    version: str | None
    part: str | None
    state: str | None
    used: dict[str, float]  # as above; logic_lut, lutram, srl, ramb36, ramb18 beside them
    share: dict[str, float]  # of what the part has


class Timing(_Record):
    """`TimingReport`: slack in ns: worst and total, of setup, hold and pulse width."""

    wns: float | None
    tns: float | None
    whs: float | None
    ths: float | None
    wpws: float | None
    tpws: float | None


class Simulated(_Record):
    """`CSimResults`, `CosimResults`: the test bench's log against what the exact network gives."""

    events: int
    mismatches: int


class Reports(_Record):
    """All that was found."""

    csynth: Csynth | None = None
    vsynth: Vsynth | None = None
    cosim: Cosim | None = None
    implementation: Implementation | None = None
    timing: Timing | None = None
    csim_results: Simulated | None = None
    cosim_results: Simulated | None = None

    @property
    def sections(self) -> list[str]:
        """Names of what is there."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


# What the tools write where they do not know a number.
_UNKNOWN = {"", "-", "?", "na", "n/a", "x", "inf", "undef", "unknown", "none"}
_PERCENT = re.compile(r"^(?P<value>[-+0-9.eE]+)\s*\((?P<percent>[^()%]+)%?\)$")
_LARGEST_NUMBER = 1e12


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    # the last heading (a line `== x`, `* x:`, `+ x:` or `1.1 x`) of each kind above it
    heading: tuple[str, ...]
    columns: list[str]  # the last line of its head
    # its cells, without what surrounds them; a name's leading spaces say its level
    rows: list[list[str]]

    def column(self, *names: str) -> int | None:
        """The first column of one of these names."""
        return next((i for i, name in enumerate(self.columns) if name in names), None)


def tables(text: str) -> Iterator[Table]:
    """The tables of a report: lines of `|` cells, the head between two ruled lines."""
    part = section = ""
    head: list[list[str]] = []
    rows: list[list[str]] = []
    rules = 0
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        if bare.startswith("|"):
            cells = [cell.strip() for cell in bare.strip("|").split("|")]
            (head if rules < 2 else rows).append(cells)
            continue
        if re.fullmatch(r"\+[-+]+\+?", bare):
            rules += 1
            continue
        if rules >= 2 and head:
            yield Table((part, section), head[-1], [row for row in rows if len(row) > 1])
        if not (head and bare.startswith("+")):  # a ruled line with words in it: the head goes on
            head, rows, rules = [], [], 0
        if bare.startswith("== "):
            part, section = bare[3:], ""
        elif match := re.match(r"(?:[*+] (?P<a>[^:]+):?$|(?P<b>\d+(?:\.\d+)*\.? .+))", bare):
            section = (match["a"] or match["b"]).strip()


def number(text: str | None, where: str, *, signed: bool = False) -> float | None:
    """A number of a report; None where the tool says that it does not know it."""
    bare = (text or "").strip()
    if match := _PERCENT.match(bare):
        bare = match["value"]
    if bare.lower() in _UNKNOWN:
        return None
    try:
        value = float(bare)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > _LARGEST_NUMBER or (value < 0 and not signed):
        raise UserError(
            f"{where} is {bare[:40]!r}, no number of a report; run the tool again, or bring the "
            "file back once more"
        )
    return value


def whole(text: str | None, where: str) -> int | None:
    """As `number`, for what can be counted."""
    value = number(text, where)
    if value is None:
        return None
    if value != int(value):
        raise UserError(f"{where} is {value:g}, which is no count; run the tool again")
    return int(value)


def word(text: str | None, longest: int = 80) -> str | None:
    """A short text of a report, printable whatever it holds; None if there is none."""
    kept = "".join(c if c.isprintable() else " " for c in (text or "").strip())
    return kept[:longest].strip() or None


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

    `data`: the XML file's bytes.
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
    """Read a report of `report_utilization -hierarchical`: the first row of the whole design."""
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
    """Read the design's summary in a report of `report_timing_summary`."""
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


def files(top: str) -> dict[str, str]:
    """Where a project's tool leaves its reports, by what is in them."""
    solution = f"{top}_prj/solution1"
    return {
        "csynth": f"{solution}/syn/report/{top}_csynth.xml",
        "layers": f"{solution}/syn/report/{top}_csynth.rpt",
        "vsynth": "vivado_synth.rpt",
        "cosim": f"{solution}/sim/report/{top}_cosim.rpt",
        "implementation": "util.rpt",
        "timing": "timing.rpt",
    }


def read(folder: Folder, top: str, expected: NDArray[np.int64] | None = None) -> Reports:
    """The reports in a project's directory; what is not there is None.

    `expected`: what the test bench's vectors give in exact arithmetic, (N, outputs), in counts of
    the output's LSB; without it the simulations' logs are not read.
    """
    where = files(top)
    places = {name: f"{folder.root}/{path}" for name, path in where.items()}
    found: dict[str, BaseModel] = {}
    if (data := folder.data(where["csynth"])) is not None:
        text = folder.text(where["layers"]) or ""
        found["csynth"] = csynth(data, text, places["csynth"], places["layers"])
    netlist = folder.text(where["vsynth"])
    if netlist is not None and (numbers := vsynth(netlist, places["vsynth"])) is not None:
        found["vsynth"] = numbers
    simulated = folder.text(where["cosim"])
    result = None if simulated is None else cosim(simulated, places["cosim"])
    if result is not None:
        found["cosim"] = _averaged(folder, top, result)
    if (placed := folder.text(where["implementation"])) is not None:
        found["implementation"] = implementation(placed, places["implementation"])
    # Where hls4ml's accelerator flow leaves it: the name up to its first underscore.
    other = f"{top.split('_')[0]}_vivado_accelerator/project_1.runs/impl_1"
    routed = f"{other}/design_1_wrapper_timing_summary_routed.rpt"
    for path in (routed, where["timing"]):
        if (slack := folder.text(path)) is not None:
            found["timing"] = timing(slack, f"{folder.root}/{path}")
    if expected is not None:
        for name, logs in results(top).items():
            if name == "cosim_results" and (result is None or not result.passed):
                continue  # before the RTL is simulated, the log has the C simulation's numbers
            for log in logs:
                written = folder.text(log)
                if written is not None and name not in found:
                    found |= _simulated(name, written, expected)
    return Reports.model_validate(found)


def results(top: str) -> dict[str, tuple[str, ...]]:
    """Where the test bench leaves its log: tools run it in the project, or in a copy of tb_data."""
    solution = f"{top}_prj/solution1"
    csim, cosim = "tb_data/csim_results.log", "tb_data/rtl_cosim_results.log"
    return {
        "csim_results": (csim, f"{solution}/csim/build/{csim}"),
        "cosim_results": (cosim, f"{solution}/sim/wrapc_pc/{cosim}"),
    }


def _simulated(name: str, text: str, expected: NDArray[np.int64]) -> dict[str, BaseModel]:
    """A log of integers, one event a line; nothing if it is not of all events."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) != len(expected):
        return {}
    right = [[str(value) for value in row] for row in expected.tolist()]
    wrong = sum(row != wanted for row, wanted in zip(rows, right, strict=True))
    return {name: Simulated(events=len(rows), mismatches=wrong)}


def _averaged(folder: Folder, top: str, report: Cosim) -> Cosim:
    """The same, over the single transactions where the tool has left them."""
    name = f"{top}.performance.result.transaction.xml"
    text = folder.text(f"{top}_prj/solution1/sim/{report.rtl.lower()}/{name}") or ""
    latency, interval = [], []
    for line in text.splitlines():
        # It is no XML, whatever its name: `transaction  0:  latency  interval`, the last `x`.
        if match := re.match(r"\s*transaction\s+\d+:\s+(\S+)\s+(\S+)", line):
            latency.append(whole(match[1], f"{name}: latency"))
            interval.append(whole(match[2], f"{name}: interval"))
    found: dict[str, float | int] = {}
    for kind, values in (("latency", latency), ("interval", interval)):
        known = [value for value in values if value is not None]
        if known:
            found |= {
                f"{kind}_min": min(known),
                f"{kind}_avg": sum(known) / len(known),
                f"{kind}_max": max(known),
            }
    return report.model_copy(update=found)
