"""Tables of costs, every number with its source, its implementation and its tool.

hls4ml's C++ and alkaid's Verilog are different designs; only costs of one design make a ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from l1kd.core.run_files import COUNTS, SOURCES, Candidate, LayerCost, Resources, RtlRecord, Source
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.report.load_run import AMOUNTS, Cost, RunFiles
from l1kd.report.number_format import DASH, area, count, percent, plural, quantity, share
from l1kd.report.tables import Column, Table, text

CANNOT_FOLLOW = "cannot follow the bunch crossings"
TIMING = "Timing is not closed: ns are cycles times the target clock."

# JSON and CSV: the order is part of the format. LABELS also stand in a row about one layer.
LABELS = (
    *("student", "best", "implementation", "backend", "io_type", "strategy"),
    *("source", "tool", "part", "clock_ns"),
)
FIELDS = (
    *LABELS,
    *("latency_cycles", "latency_ns", "interval_cycles", "interval_ns"),
    *("follows_bunch_crossings", "timing_closed", "estimated_clock_ns"),
    *COUNTS,
    *(f"{name}_share" for name in COUNTS),
    *("lut_over_estimate", "ff_over_estimate"),
    "note",
)
SHOWN: dict[str, Column] = {
    "student": text("student"),
    "implementation": text("implementation", "design_text"),
    "source": text("source (tool)", "source_text"),
    **{name: Column(name.upper(), name) for name in COUNTS},
    "latency_cycles": Column("latency [cycles]", "latency_cycles"),
    "latency_ns": Column("latency [ns]", "latency_ns", quantity),
    "interval_cycles": Column("interval [cycles]", "interval_cycles"),
    "interval_ns": Column("interval [ns]", "interval_ns", quantity),
    "clock_ns": Column("clock [ns]", "clock_ns", quantity),
    "estimated_clock_ns": Column("longest path by the tool [ns]", "estimated_clock_ns", quantity),
    "share": text("largest share of the part", "share_text"),
    "part": text("part"),
    "follows": text(
        "at every bunch crossing",
        lambda cost: {True: "a new event", False: CANNOT_FOLLOW}.get(cost.follows_bunch_crossings),
        mark=lambda cost: "bad" if cost.follows_bunch_crossings is False else "",
    ),
}


def cost_row(cost: Cost) -> dict[str, Any]:
    """A cost as a flat row of numbers; None is unknown."""
    derived = {f"{name}_share": cost.share.get(name) for name in COUNTS}
    derived |= {f"{name}_over_estimate": cost.over_estimate.get(name) for name in AMOUNTS}
    return {name: derived[name] if name in derived else getattr(cost, name) for name in FIELDS}


def resource_table(run: RunFiles) -> Table:
    """Logic and latency, every number with its source."""
    columns = dict(SHOWN)
    if all(each.estimated_clock_ns is None for each in run.costs):
        del columns["estimated_clock_ns"]
    return Table.of(
        list(columns.values()),
        run.costs,
        kind="student",
        chosen="best",
        caption=f"By source. {TIMING}",
    )


def beside_tables(run: RunFiles) -> list[Table]:
    """Estimate beside synthesis of the same design, with ratios; a table per implementation."""
    tables = [
        _beside(run, *each) for each in (("alkaid", "Verilog (alkaid)"), ("hls4ml", "C++ (hls4ml)"))
    ]
    return [table for table in tables if table.rows]


def _beside(run: RunFiles, which: str, caption: str) -> Table:
    designs: dict[tuple[str, str, str | None], dict[str, Cost]] = {}
    for each in run.costs:
        if each.implementation == which:
            design = designs.setdefault((each.student, each.design_text, each.part), {})
            design[each.source_text] = each
    sources = dict.fromkeys(
        source for design in designs.values() if len(design) > 1 for source in design
    )

    def text_of(cost: Cost | None, name: str) -> str:
        if cost is None:
            return DASH
        ratio = cost.over_estimate.get(name)
        return count(getattr(cost, name)) + ("" if ratio is None else f" ({ratio:.2f} x)")

    items = [
        (
            next(iter(design.values())),
            SHOWN[name].title,
            *(text_of(design.get(each), name) for each in sources),
        )
        for design in designs.values()
        for name in AMOUNTS
        if sum(getattr(each, name) is not None for each in design.values()) > 1
    ]
    columns = [SHOWN["student"], SHOWN["implementation"], text("quantity", 1)]
    columns += [Column(source, place, str) for place, source in enumerate(sources, 2)]
    return Table.of(columns, items, kind="student", chosen="best", caption=caption)


def layer_cost_tables(run: RunFiles) -> list[Table]:
    """Costs of layers, a table for each record that has them; the best student's first."""

    def of_sum(layer: LayerCost, total: float) -> float | None:
        return layer.lut / total if layer.lut is not None and total else None

    columns = [text("layer", "name"), SHOWN["lut"], Column("of the sum", of_sum, percent)]
    columns += [SHOWN[name] for name in ("ff", "dsp", "bram", "latency_cycles")]
    tables = []
    for cost in run.costs:
        total = sum(layer.lut or 0 for layer in cost.layers)
        caption = f"{cost.student}: {cost.design_text}, {cost.source_text}"
        items = [(layer, total) for layer in cost.layers]
        tables.append(Table.of(columns, items, caption=caption))
    return [table for table in tables if table.rows]


def cost_notes(run: RunFiles) -> list[str]:
    """Notes on the numbers, each with the sources that it is about."""
    about: dict[str, dict[str, None]] = {}
    for each in run.costs:
        if each.note:
            about.setdefault(each.note, {})[f"{each.design_text}, {each.source_text}"] = None
    return [f"{' and '.join(who)}: {note}" for note, who in about.items()]


def verilog_table(run: RunFiles) -> Table:
    """The written Verilog, or why it was refused, and whether a simulator confirmed it."""

    def written(each: RtlRecord) -> str:
        return each.directory or f"refused: {each.refused or 'no reason given'}"

    def simulated(each: RtlRecord) -> str | None:
        """Result of the simulation: scores, and the cycle in which they appear."""
        pairs = [pair for pair in run.pairs(each.student) if pair.candidate == "rtlsim"]
        if each.directory is None or not pairs:
            return None if each.directory is None else "no"
        events = count(sum(pair.events for pair in pairs))
        if different := sum(pair.mismatches for pair in pairs):
            return f"{count(different)} of {events} events differ"
        if each.latency_cycles is None:
            return f"{events} events equal"
        cycles = plural(each.latency_cycles, "cycle")
        return f"{events} events equal, each {cycles} after it was sampled, as reported"

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
        text("simulated", simulated),
    ]
    return Table.of(
        columns,
        sorted(run.rtl or [], key=lambda record: record.student != run.best),
        kind="student",
        chosen=lambda each: each.student == run.best,
    )


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
    source: Source | None = None

    def admits(self, cost: Resources) -> bool:
        """True if a cost is among the chosen."""
        return all(wanted in (None, getattr(cost, key)) for key, wanted in vars(self).items())

    def settled(self, costs: Iterable[Resources]) -> Selection:
        """One implementation for all, so that the numbers of a column compare.

        What is open becomes alkaid's Verilog if anything is known of it, else hls4ml's C++ with the
        interface that most records have, streams where that ties.
        """
        left = [each for each in costs if self.admits(each) and knows(each)]
        of_hls4ml = self.io_type is not None or {e.implementation for e in left} == {"hls4ml"}
        which = self.implementation or ("hls4ml" if of_hls4ml else "alkaid")
        found = [e.io_type for e in left if e.implementation == which and e.io_type]
        most = max(sorted(set(found), reverse=True), key=found.count, default=None)
        return replace(self, implementation=which, io_type=self.io_type or most)

    def find(self, costs: Iterable[Cost], student: str | None) -> Cost | None:
        """A student's cost by the best founded of the admitted sources."""
        admitted = [e for e in costs if e.student == student and self.admits(e) and knows(e)]
        return max(admitted, key=lambda each: each.trust, default=None)

    def __str__(self) -> str:
        """As one reads it: `alkaid's Verilog, the best founded source`."""
        language = "alkaid's Verilog" if self.implementation == "alkaid" else "hls4ml's C++"
        by = SOURCES[self.source] if self.source else "the best founded source"
        return ", ".join(filter(None, (language, self.io_type, by)))


def knows(cost: Resources) -> bool:
    """True if a cost has a number at all."""
    times = (cost.latency_cycles, cost.latency_ns, cost.interval_cycles)
    return any(value is not None for value in (*cost.counts.values(), *times))
