"""Reads the XML and text reports of vendors' tools, without following or running anything.

hls4ml's own parser imports TensorFlow, follows links and reads files of any size. Tested on
recorded reports of Vivado HLS 2020.1 and published ones of Vitis HLS. BRAM: blocks of 18 kbit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from l1kd.core.errors import UserError
from l1kd.core.files import regular
from l1kd.core.run_files import COUNTS, LayerCost

# Limits on files that others made. Real reports have a few megabytes and ten levels.
_MOST_BYTES, _MOST_TEXT = 32 << 20, 8 << 20  # of any file, of a text report
_MOST_FOLDERS = 1000
_DEEPEST, _MOST_TAGS, _LONGEST_TAG = 64, 500_000, 200  # of an XML report; what is kept of it:
_KEPT_LEVELS, _MOST_VALUES = 5, 10_000
_AGAIN = "run the tool again, or bring the file back once more"


class Folder:
    """Files of a directory by relative path; links below the root are listed, not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links: list[str] = []  # that were met

    def data(self, path: str, most: int = _MOST_BYTES) -> bytes | None:
        """The bytes of a regular file, None if there is none; UserError beyond `most` bytes."""
        place = self._real(path)
        if place is None or not place.is_file():
            return None
        # O_NOFOLLOW: should it have become a link meanwhile.
        with regular(place, most, os.O_NOFOLLOW) as handle:
            return handle.read(most)

    def text(self, path: str, most: int = _MOST_TEXT) -> str | None:
        """The text of a regular file; as `data`."""
        data = self.data(path, most)
        return None if data is None else data.decode(errors="replace")

    def folders(self) -> Iterator[Folder]:
        """The directories in it, without links and hidden ones; UserError if there are too many."""
        inside = [entry for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)]
        found = [entry.name for entry in inside if not entry.name.startswith(".")]
        if len(found) > _MOST_FOLDERS:
            raise UserError(
                f"{self.root} has {len(found)} directories; name one that holds the project, or "
                "the projects of one run"
            )
        return (Folder(self.root / name) for name in sorted(found))

    def _real(self, name: str) -> Path | None:
        """The path of a name below the root; None if it leaves it, or leads through a link."""
        path = self.root
        for part in PurePosixPath(name).parts:
            path = path / part
            if part in ("/", ".."):
                return None
            if path.is_symlink():
                self.links.append(str(path.relative_to(self.root)))
                return None
        return path


def xml_values(data: bytes, where: str) -> dict[str, str]:
    """First text by path below the root of an XML report; UserError if no report is like it."""
    try:
        text = data.decode()  # whatever encoding the file declares
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text; {_AGAIN}") from error
    if "<!DOCTYPE" in text:  # only there an entity can be declared
        raise UserError(f"{where} declares a document type; no report does: not read")
    unlike = f"{where} is deeper or longer than any report; {_AGAIN}"
    if text.count("<") + text.count("=") > _MOST_TAGS:  # tags and attributes
        raise UserError(unlike)
    values: dict[str, str] = {}

    def keep(element: ElementTree.Element, path: str, level: int) -> None:
        if level > _DEEPEST or len(element.tag) > _LONGEST_TAG:
            raise UserError(unlike)
        for child in element:
            place = f"{path}/{child.tag}".lstrip("/") if level < _KEPT_LEVELS else ""
            if place and len(values) < _MOST_VALUES:
                values.setdefault(place, word(child.text) or "")
            keep(child, place, level + 1)

    try:
        keep(ElementTree.fromstring(text), "", 1)
    except ElementTree.ParseError as error:
        raise UserError(f"{where} is damaged ({error}); {_AGAIN}") from error
    return values


class _Section(BaseModel, extra="forbid", frozen=True):
    """A section of the reports; in brackets hls4ml's name of it."""


class Csynth(_Section):
    """The C synthesis's estimates (`CSynthesisReport`)."""

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


class Vsynth(_Section):
    """The netlist of the logic synthesis (`VivadoSynthReport`)."""

    version: str | None
    part: str | None
    state: str | None  # of the design
    used: dict[str, float]
    available: dict[str, float]


class Cosim(_Section):
    """The simulated RTL (`CosimReport`)."""

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
        """True if the simulation ended and its test bench found no difference."""
        return self.status.lower() == "pass"


class Implementation(_Section):
    """The placed and routed design (`ImplementationReport`)."""

    version: str | None
    part: str | None
    state: str | None
    used: dict[str, float]  # as above; logic_lut, lutram, srl, ramb36, ramb18 beside them
    share: dict[str, float]  # of what the part has


Design = Csynth | Vsynth | Implementation


class Timing(_Section):
    """Worst and total slack in ns of setup, hold and pulse width (`TimingReport`)."""

    wns: float | None
    tns: float | None
    whs: float | None
    ths: float | None
    wpws: float | None
    tpws: float | None


class Simulated(_Section):
    """The test bench's log against the exact network (`CSimResults`, `CosimResults`)."""

    events: int
    mismatches: int


class Reports(_Section):
    """Every section that was found."""

    csynth: Csynth | None = None
    vsynth: Vsynth | None = None
    cosim: Cosim | None = None
    implementation: Implementation | None = None
    timing: Timing | None = None
    csim_results: Simulated | None = None
    cosim_results: Simulated | None = None

    @property
    def sections(self) -> list[str]:
        """Names of the sections that are there."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    def fault(self, step: str) -> str | None:
        """The failure of a simulation, or its difference from the network; None without one."""
        result = getattr(self, f"{step}_results", None)
        if result is not None and result.mismatches:
            return f"differs from the network in {result.mismatches} of {result.events} events"
        if step == "cosim" and self.cosim is not None and not self.cosim.passed:
            return f"failed: its report says {self.cosim.status!r}"
        return None


# Tools write these for a number that they do not know.
_UNKNOWN = {"", "-", "?", "na", "n/a", "x", "inf", "undef", "unknown", "none"}
_PERCENT = re.compile(r"^(?P<value>[-+0-9.eE]+)\s*\([^()%]+%?\)$")
_LARGEST_NUMBER = 1e12
_LONGEST_LINE = 2000  # of a table


@dataclass(frozen=True)
class Table:
    """A table of a text report; leading spaces of a name, its level, are not kept."""

    heading: tuple[str, str]  # the last lines `== x`; and `* x:`, `+ x:` or `1.1 x` above it
    columns: list[str]  # the last line of its head
    rows: list[list[str]]

    @property
    def whole_rows(self) -> list[dict[str, str]]:
        """Cells by column of the rows that have all; of columns of one name the first."""
        size, names = len(self.columns), self.columns[::-1]
        return [dict(zip(names, row[::-1], strict=True)) for row in self.rows if len(row) == size]


def tables(text: str) -> Iterator[Table]:
    """The tables of a report: lines of `|` cells, the head between two ruled lines."""
    part = section = ""
    head: list[list[str]] = []
    rows: list[list[str]] = []
    rules = 0
    for line in [*text.splitlines(), ""]:
        bare = line[:_LONGEST_LINE].strip()
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
    """A number of a report, without a share in brackets; None where the tool does not know it."""
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
        raise UserError(f"{where} is {bare[:40]!r}, no number of a report; {_AGAIN}")
    return value


def whole(text: str | None, where: str) -> int | None:
    """As `number`, for counts."""
    value = number(text, where)
    if value is None:
        return None
    if value != int(value):
        raise UserError(f"{where} is {value:g}, which is no count; run the tool again")
    return int(value)


def word(text: str | None, longest: int = 80) -> str | None:
    """The printable beginning of a report's text; None if there is none."""
    kept = (text or "").strip()[:longest]
    return "".join(c if c.isprintable() else " " for c in kept).strip() or None


# Names of the resources in all reports, of all families and versions of the tools.
_NAMES = {
    "lut": ("LUT", "Slice LUTs", "CLB LUTs", "Total LUTs"),
    "logic_lut": ("Logic LUTs",),
    "lutram": ("LUTRAMs",),
    "srl": ("SRLs",),
    "ff": ("FF", "Slice Registers", "CLB Registers", "FFs"),
    "bram": ("BRAM_18K", "Block RAM Tile"),
    "ramb36": ("RAMB36",),
    "ramb18": ("RAMB18",),
    "uram": ("URAM",),
    "dsp": ("DSP", "DSP48E", "DSPs", "DSP48 Blocks", "DSP Blocks", "DSP Slices"),
}
_KEYS = {name: key for key, names in _NAMES.items() for name in names}
_INSTANCES = 10_000  # that one report is read of


def _amounts(cells: Mapping[str, str], where: str) -> dict[str, float]:
    """Numbers of the cells that are a resource and known."""
    own = {name: cell for name, cell in cells.items() if name in _KEYS}
    found = {_KEYS[name]: number(cell, f"{where}: {name}") for name, cell in own.items()}
    return {key: amount for key, amount in found.items() if amount is not None}


def csynth(data: bytes, text: str, where: str, where_text: str) -> Csynth:
    """Read `<top>_csynth.xml`, and the costs of its instances from `<top>_csynth.rpt`, if any."""
    values = xml_values(data, where)
    given, performance, area = "UserAssignments", "PerformanceEstimates", "AreaEstimates"
    latency = f"{performance}/SummaryOfOverallLatency"
    if performance not in values or f"{area}/Resources" not in values:
        raise UserError(f"{where} is no report of a C synthesis; run the tool again")

    def cell(reader: Callable[[str | None, str], Any], section: str, tag: str) -> Any:
        return reader(values.get(f"{section}/{tag}"), f"{where}: {tag}")

    def amounts(section: str) -> dict[str, float]:
        inside = f"{area}/{section}/"
        own = {path: text for path, text in values.items() if path.startswith(inside)}
        return _amounts({path.removeprefix(inside): text for path, text in own.items()}, where)

    return Csynth(
        version=values.get("ReportVersion/Version") or None,
        part=values.get(f"{given}/Part") or None,
        top=values.get(f"{given}/TopModelName") or None,
        target_clock_ns=cell(number, given, "TargetClockPeriod"),
        estimated_clock_ns=cell(
            number, f"{performance}/SummaryOfTimingAnalysis", "EstimatedClockPeriod"
        ),
        best_latency=cell(whole, latency, "Best-caseLatency"),
        worst_latency=cell(whole, latency, "Worst-caseLatency"),
        interval_min=cell(whole, latency, "Interval-min"),
        interval_max=cell(whole, latency, "Interval-max"),
        pipeline=values.get(f"{performance}/PipelineType") or None,
        used=amounts("Resources"),
        available=amounts("AvailableResources"),
        layers=_instances(text, where_text),
    )


def _instances(text: str, where: str) -> list[LayerCost]:
    """Costs of the top function's instances."""
    costs: dict[str, dict[str, float]] = {}
    cycles: dict[str, int | None] = {}
    for table in tables(text):
        (part, section), first = table.heading, table.columns[0]
        if section != "Instance" or table.columns[:2] == ["Name", "BRAM_18K"]:
            continue
        for row in table.whole_rows:
            if (name := row[first]) == "Total":
                continue
            if part.startswith("Utilization"):
                found = _amounts(row, f"{where}: {name}")
                costs[name] = {key: found[key] for key in LayerCost.model_fields if key in found}
            elif part.startswith("Performance") and "max" in row:
                cycles[name] = whole(row["max"], f"{where}: latency of {name}")
    names = dict.fromkeys([*costs, *cycles])
    if len(names) > _INSTANCES:
        raise UserError(f"{where} lists {len(names)} instances, more than any project has")
    return [
        LayerCost(
            name=word(name, 200) or "?", latency_cycles=cycles.get(name), **costs.get(name, {})
        )
        for name in names
    ]


def vsynth(text: str, where: str) -> Vsynth | None:
    """Read a flat report of `report_utilization`; None if it has no numbers."""
    used: dict[str, float] = {}
    available: dict[str, float] = {}
    for row in (row for table in tables(text) for row in table.whole_rows if "Used" in row):
        label = row.get("Site Type", "").rstrip("*")
        key = _KEYS.get(label)
        if key not in COUNTS or key in used:
            continue
        for amounts, column in ((used, "Used"), (available, "Available")):
            amount = number(row.get(column), f"{where}: {label}: {column}")
            if amount is not None:
                amounts[key] = 2 * amount if key == "bram" else amount
    return Vsynth(used=used, available=available, **_head(text)) if used else None


def _head(text: str) -> dict[str, str | None]:
    """Version, part and state of the design in the head of one of Vivado's reports."""
    lines = re.findall(r"^\| ([^:\n]+):(.*)$", text, re.MULTILINE)
    said = {name.strip(): value.strip().rstrip("|") for name, value in lines}
    version = re.match(r"Vivado v\.\S+", said.get("Tool Version", ""))
    return {
        "version": word(version[0]) if version else None,
        "part": word(said.get("Device")),
        "state": word(said.get("Design State")),
    }


def cosim(text: str, where: str) -> Cosim | None:
    """Read `<top>_cosim.rpt`; None if nothing was simulated."""
    for row in (row for table in tables(text) for row in table.rows):
        if row[0] in ("VHDL", "Verilog") and len(row) >= 8 and row[1].upper() != "NA":
            values: dict[str, Any] = {"rtl": row[0], "status": word(row[1], 20) or "unknown"}
            for name, cell in zip(list(Cosim.model_fields)[2:], row[2:8], strict=True):
                kind, _, which = name.partition("_")
                values[name] = (number if which == "avg" else whole)(cell, f"{where}: {kind}")
            return Cosim(**values)
    return None


def implementation(text: str, where: str) -> Implementation:
    """Read a report of `report_utilization -hierarchical`: the first row of the whole design."""
    for table in tables(text):
        place = table.columns.index("Module") if "Module" in table.columns else len(table.columns)
        top = next((row for row in table.rows if row[place : place + 1] == ["(top)"]), [])
        if len(top) != len(table.columns):
            continue
        cells = dict(zip(table.columns, top, strict=True))
        used = _amounts(cells, where)
        shares = {
            name: found[1]
            for name, cell in cells.items()
            if (found := re.search(r"\(<?([0-9.]+)%\)", cell))
        }
        percent = _amounts(shares, where)
        share = {key: round(each / 100, 6) for key, each in percent.items() if key in used}
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
    next((line for line in lines if "WNS(ns)" in line), None)
    next(lines, None)  # the rule under the head
    # WNS TNS failing total WHS THS failing total WPWS TPWS failing total
    cells = next(lines, "").split()
    if len(cells) < 10:
        raise UserError(
            f"{where} has no design timing summary; write it with "
            "`report_timing_summary -file timing.rpt`"
        )
    places = {"wns": 0, "tns": 1, "whs": 4, "ths": 5, "wpws": 8, "tpws": 9}
    slacks = {
        name: number(cells[place], f"{where}: {name.upper()}", signed=True)
        for name, place in places.items()
    }
    return Timing(**slacks)


def read(
    folder: Folder, files: Mapping[str, tuple[str, ...]], expected: NDArray[np.int64] | None = None
) -> Reports:
    """The first report of each kind; simulations' logs against `expected` (N, outputs) in LSBs."""

    def text(kind: str) -> tuple[str | None, str]:
        texts = ((folder.text(path), f"{folder.root}/{path}") for path in files.get(kind, ()))
        return next((each for each in texts if each[0] is not None), (None, ""))

    found: dict[str, Any] = {}
    for path in files.get("csynth", ()):
        if (data := folder.data(path)) is not None:
            layers, where = text("layers")
            found["csynth"] = csynth(data, layers or "", f"{folder.root}/{path}", where)
    for reader in (vsynth, cosim, implementation, timing):
        report, where = text(reader.__name__)
        if report is not None:
            found[reader.__name__] = reader(report, where)
    simulated: Cosim | None = found.get("cosim")
    for path in files.get("transactions", ()):
        if simulated and f"/{simulated.rtl.lower()}/" in path:
            found["cosim"] = _averaged(folder.text(path) or "", path, simulated)
    if expected is not None:
        # Before the RTL is simulated, its log has the C simulation's numbers.
        passed = simulated is not None and simulated.passed
        for kind in ("csim_results", "cosim_results") if passed else ("csim_results",):
            logs = (folder.text(path, _MOST_BYTES) for path in files.get(kind, ()))
            compared = (_simulated(log, expected) for log in logs if log is not None)
            found[kind] = next((each for each in compared if each is not None), None)
    return Reports.model_validate(found)


def _simulated(text: str, expected: NDArray[np.int64]) -> Simulated | None:
    """Compare a log of integers, one event a line; None if it is not of all events."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) != len(expected):
        return None
    pairs = zip(lines, expected.tolist(), strict=True)
    wrong = sum(cells != [str(value) for value in row] for cells, row in pairs)
    return Simulated(events=len(lines), mismatches=wrong)


def _averaged(text: str, where: str, report: Cosim) -> Cosim:
    """The same, over the single transactions where the tool has left them."""
    # It is no XML, whatever its name: `transaction  0:  latency  interval`, the last `x`.
    pattern = r"^[ \t]*transaction[ \t]+\S+[ \t]+(\S+)[ \t]+(\S+)"
    columns = zip(*re.findall(pattern, text, re.MULTILINE), strict=True)
    found: dict[str, float] = {}
    for kind, cells in zip(("latency", "interval"), columns, strict=False):
        counts = [whole(cell, f"{where}: {kind}") for cell in cells]
        if known := [count for count in counts if count is not None]:
            amounts = {"min": min(known), "avg": sum(known) / len(known), "max": max(known)}
            found |= {f"{kind}_{which}": amount for which, amount in amounts.items()}
    return report.model_copy(update=found)
