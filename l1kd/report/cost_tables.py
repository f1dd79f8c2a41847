"""The tables of what students cost: by source, estimate beside synthesis, by layer, the choice."""

from __future__ import annotations

from dataclasses import dataclass

from l1kd.evaluation.choosing import BUDGETS, amount
from l1kd.report import numbers
from l1kd.report.cost import AMOUNTS, CANNOT_FOLLOW, Cost, costs, part_name
from l1kd.report.files import RunFiles
from l1kd.report.numbers import DASH
from l1kd.report.table import Cell, Row, Table, row
from l1kd.schemas import Pair, RtlRecord

__all__ = [
    "Captioned",
    "beside_tables",
    "choice_table",
    "cost_notes",
    "layer_cost_tables",
    "resource_table",
    "share_text",
    "verilog_table",
]


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
            *(numbers.count(getattr(record, what)) for what in AMOUNTS),
            numbers.count(record.latency_cycles),
            numbers.quantity(record.latency_ns),
            numbers.count(record.interval_cycles),
            numbers.quantity(each.interval_ns),
            numbers.quantity(record.clock_ns),
            *([numbers.quantity(record.estimated_clock_ns)] if paths else []),
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
    return f"{numbers.share(share)} of {part or 'the part'} ({of})"


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
    text = numbers.count(value)
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
                    numbers.count(layer.lut),
                    numbers.percent(part),
                    *(numbers.count(getattr(layer, what)) for what in ("ff", "dsp", "bram")),
                    numbers.count(layer.latency_cycles),
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
                numbers.quantity(each.clock_ns),
                each.input_type,
                each.output_type,
                numbers.count(each.latency_cycles),
                numbers.count(each.interval_cycles),
                numbers.count(each.lut),
                numbers.count(each.ff),
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
    events = numbers.count(sum(pair.events for pair in pairs))
    different = sum(pair.mismatches for pair in pairs)
    if different:
        return f"{numbers.count(different)} of {events} events differ"
    if record.latency_cycles is None:
        return f"{events} events equal"
    cycles = numbers.plural(record.latency_cycles, "cycle")
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
                numbers.area(each.quality),
                *(DASH if v is None else amount(BUDGETS[k], v) for k, v in values.items()),
                numbers.share(each.ratio),
                verdict,
                mark="bad" if each.excluded else "",
                chosen=each.student == best,
            )
        )
    return table
