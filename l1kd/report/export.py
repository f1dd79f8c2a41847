"""Numbers of runs for other programs and for a terminal: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from rich.console import Console

from l1kd.core.context import show_table
from l1kd.core.errors import UserError
from l1kd.core.run_files import COUNTS, SOURCES, Resources, Source, StudentMetrics, TeacherMetrics
from l1kd.core.sweep_config import differences
from l1kd.report import energy, tables
from l1kd.report.load_run import AMOUNTS, SPACING_NS, Cost, RunFiles, read_run
from l1kd.report.number_format import quantity
from l1kd.report.tables import Column, Table, text, words
from l1kd.report.verdict import good, judge

Form = Literal["json", "csv", "markdown"]
TableForm = Literal["text", "markdown", "json", "csv"]


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


def export(directory: Path, form: Form) -> str:
    """A run's numbers as text: all as JSON, costs and their layers as CSV, tables as Markdown."""
    run = read_run(directory, scores=False)
    return {"json": _json, "csv": _csv, "markdown": _markdown}[form](run)


def as_json(value: Any) -> str:
    """As JSON; what is unknown is null."""
    return json.dumps(value, indent=2, allow_nan=False, default=BaseModel.model_dump)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """As CSV with a header; what is unknown is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().rstrip("\n")


def _json(run: RunFiles) -> str:
    verdict, metrics = judge(run), run.metrics
    resources = [cost_row(each) | {"layers": each.layers} for each in run.costs]
    return as_json(
        {
            "run": run.manifest.name,
            "directory": str(run.directory),
            "state": verdict.state,
            "gates": [vars(gate) for gate in verdict.gates],
            "good": vars(good(run)),
            "best": run.best,
            "students": {
                name: {
                    "best": name == run.best,
                    "parameters": student.params,
                    "weight_bits": student.weight_bits,
                    **{f"mean_{each.name}": each.mean(student) for each in tables.MEANS},
                }
                for name, student in run.networks.items()
                if isinstance(student, StudentMetrics)
            },
            "budgets": run.config.choose.budgets,
            "choice": metrics.choice if metrics else [],
            "verilog": run.rtl,
            "timing": tables.TIMING,
            "resources": None if run.resources is None else resources,
            "energy": None if run.energy is None else energy.as_rows(run),
        }
    )


def _csv(run: RunFiles) -> str:
    rows: list[dict[str, Any]] = []
    for each in run.costs:
        whole = cost_row(each)
        labels = {key: whole[key] for key in LABELS}
        rows.append({"layer": None} | whole)
        rows += [
            {"layer": layer.name} | labels | layer.model_dump(exclude={"name"})
            for layer in each.layers
        ]
    return as_csv(rows)


def _markdown(run: RunFiles) -> str:
    verdict = judge(run)
    gates = Table.of([text("gate", "name"), text("state"), text("detail")], verdict.gates)
    parts = [f"# {run.manifest.name}: {verdict.headline}", verdict.detail, gates.markdown()]
    parts += good(run).detail.splitlines()

    def section(title: str, table: Table, absent: str = "") -> None:
        if table.rows or absent:
            parts.extend([f"## {title}", table.markdown() if table.rows else absent])

    for quality in tables.QUALITIES:
        section(quality.title[0].upper() + quality.title[1:], tables.quality_table(run, quality))
    section("The best student against others", tables.comparison_table(run))
    section("Fidelity ladder", tables.ladder_table(run))
    section("Agreement", tables.agreement_table(run))
    section("Verilog", tables.verilog_table(run))
    section("Choice within the budgets", tables.choice_table(run))
    section("Logic and latency", tables.resource_table(run), run.absent("synth"))
    parts += [f"{tables.TIMING} A dash is unknown, never zero.", *tables.cost_notes(run)]
    section("What compression buys, per event", energy.energy_table(run))
    parts += energy.energy_notes(run)
    for table in tables.beside_tables(run):
        section(f"Estimate beside synthesis, {table.caption}", table)
    for table in tables.layer_cost_tables(run):
        section(f"Cost per layer, {table.caption}", table)
    return "\n\n".join(parts)


def cost_row(cost: Cost) -> dict[str, Any]:
    """A cost as a flat row of numbers; None is unknown."""
    derived = {f"{name}_share": cost.share.get(name) for name in COUNTS}
    derived |= {f"{name}_over_estimate": cost.over_estimate.get(name) for name in AMOUNTS}
    return {name: derived[name] if name in derived else getattr(cost, name) for name in FIELDS}


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
        """One implementation for all, so that the numbers of a column compare."""
        # What is open becomes alkaid's Verilog if anything is known of it, else hls4ml's C++ with
        # the interface that most records have, streams where that ties.
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
    amounts = (*AMOUNTS, "latency_ns", "interval_cycles")
    return any(getattr(cost, name) is not None for name in amounts)


_FILES = ("background", "test", "signals", "exposure", "directory")  # keys of `data`
# A line of a comparison: a network of a run, its metrics, and the cost that is shown. A run without
# metrics has one line without a network, the teacher one without a cost.
Line = tuple[RunFiles, str | None, TeacherMetrics | StudentMetrics | None, Cost | None]


def _best(run: RunFiles, name: str | None, *_: Any) -> bool | None:
    """True for the chosen student."""
    return name == run.best if name else None


def _agreement(run: RunFiles, name: str | None, *_: Any) -> str | None:
    """Agreement of the student's implementations in a few words."""
    if name is None:
        return "not evaluated"
    if name == "teacher":
        return None
    pairs, proofs = run.pairs(name), run.certificates(name)
    if not pairs:
        return "not verified"
    different, events = sum(map(tables.faults_of, pairs)), sum(pair.events for pair in pairs)
    if not different and proofs and all(each.certified for each in proofs):
        return f"certified, 0 of {events:,} differ"
    return f"{'FAILED' if different else 'exact'}, {different:,} of {events:,} differ"


def _budgets(run: RunFiles, name: str | None, *_: Any) -> str | None:
    """The budgets that the student misses, or `within`; None without budgets."""
    choice = run.metrics.choice if run.metrics else []
    missed = {each.student: "; ".join(each.excluded) or "within" for each in choice}
    return missed.get(name or "")


def _interval(cost: Cost | None) -> str:
    late = " !" if cost and cost.follows_bunch_crossings is False else ""
    return quantity(cost.interval_ns if cost else None) + late


_COMPARED = [
    text("run", "directory"),
    text("network", lambda *line: words(line[1]) + "*" * bool(_best(*line))),
    Column("parameters", "params"),
    *(quality.mean_column(2) for quality in tables.MEANS),
    text("agreement", _agreement),
    *(tables.SHOWN[name] for name in COUNTS if name != "uram"),
    *(tables.SHOWN[name] for name in ("latency_cycles", "latency_ns")),
    Column("interval [ns]", 3, _interval),
    replace(tables.SHOWN["share"], title="share of the part", left=False),
    tables.SHOWN["source"],
]


def _values(line: Line) -> dict[str, Any]:
    """A line's fields in JSON and CSV."""
    run, network, metrics, cost = line
    own = cost_row(cost) if cost else dict.fromkeys(FIELDS)
    return {
        "run": str(run.directory),
        "network": network,
        "best": _best(*line),
        "parameters": metrics and metrics.params,
        **{f"mean_{each.name}": each.mean(metrics) for each in tables.MEANS},
        "agreement": _agreement(*line),
        "budgets": _budgets(*line),
        **{name: value for name, value in own.items() if name not in ("student", "best")},
    }


def compare(
    runs: Sequence[Path],
    selection: Selection | None = None,
    form: TableForm = "text",
    width: int = 80,
) -> str:
    """Quality, agreement and cost of several runs, a line for each network; notes below a table.

    As `text` a table of more than `width` characters is several, one below the other.
    """
    read = [read_run(each, scores=False) for each in dict.fromkeys(map(Path, runs))]
    wanted = selection or Selection()
    if wanted.implementation == "alkaid" and wanted.io_type is not None:
        raise UserError(
            f"alkaid's Verilog has no {wanted.io_type}: it takes an event at every clock cycle; "
            "leave --io-type out, or ask for --implementation hls4ml"
        )
    known = [cost for run in read for cost in run.costs]
    settled = wanted.settled(known)
    lines: list[Line] = [
        (run, name, metrics, settled.find(run.costs, name))
        for run in read
        for name, metrics in run.networks.items() or [(None, None)]
    ]
    if form == "json":
        return as_json([_values(line) for line in lines])
    if form == "csv":
        return as_csv([_values(line) for line in lines])
    notes = [*_notes(lines, settled, known), *_differences(read)]
    budgets = [text("budgets", _budgets)] if any(_budgets(*line) for line in lines) else []
    table = Table.of([*_COMPARED, *budgets], lines)
    shown = table.markdown() if form == "markdown" else _fitted(table, width)
    return "\n\n".join([shown, *notes])


def _fitted(table: Table, width: int) -> str:
    """The table as one or several that fit, each with the columns `run` and `network`."""
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    if len({row[0] for row in rows}) > 1:  # what all runs' paths begin with says nothing
        start = os.path.commonprefix([row[0] for row in rows])  # noqa: RUF071 - cut at a / below
        above = f"{start.rpartition('/')[0]}/"
        rows = [[row[0].removeprefix(above), *row[1:]] for row in rows]
    filled = [max(map(len, column)) for column in zip(*rows, strict=True)]
    named = zip(table.columns, filled, strict=True)
    titles = [title if len(title) <= most else title.replace(" ", "\n") for title, most in named]
    words = [max(title.split("\n"), key=len) for title in titles]
    widths = [max(len(word), most) + 3 for word, most in zip(words, filled, strict=True)]
    groups = [[0, 1]]
    for place in range(2, len(widths)):
        if len(groups[-1]) > 2 and sum(widths[each] for each in [*groups[-1], place]) >= width:
            groups.append([0, 1])
        groups[-1].append(place)
    console = Console(file=io.StringIO(), width=width)
    for group in groups:
        shown = [[row[place] for place in group] for row in [titles, *rows]]
        show_table(shown[0], shown[1:], console)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined, no-any-return]


def _differences(runs: Sequence[RunFiles]) -> list[str]:
    """In what the runs' events and configurations differ."""
    trees = [run.config.model_dump(mode="json", exclude={"name"}) for run in runs]
    for tree in trees:
        tree["students"] = {student["name"]: student for student in tree["students"]}
    differ = differences(*trees)
    notes = []
    contents = {frozenset(run.manifest.data.values()) for run in runs}
    # Files may lie elsewhere: it is their contents that count.
    other = [key for key in differ if key.startswith("data.") and key.split(".")[1] not in _FILES]
    if len(contents) > 1 or other:
        notes.append("The runs' events DIFFER: their qualities do not compare.")
    if differ:
        listed = [
            f"{key}: {' | '.join(str(each)[:40] for each in values)}"
            for key, values in differ.items()
        ]
        more = f"; and {len(listed) - 20} more" if len(listed) > 20 else ""
        notes.append(f"Keys that differ, run by run: {'; '.join(listed[:20])}{more}.")
    return notes


def _notes(lines: Sequence[Line], selection: Selection, known: Sequence[Resources]) -> list[str]:
    """Which costs are shown, and which others there are."""
    notes = [f"Cost of {selection}; a dash is unknown. {tables.TIMING}"]
    shown = [cost for *_, cost in lines if cost is not None]
    if any(cost.follows_bunch_crossings is False for cost in shown):
        late = f"an interval of more than {SPACING_NS:g} ns"
        notes.append(f"! {tables.CANNOT_FOLLOW}: {late}.")
    if len({cost.source for cost in shown}) > 1:
        least = min(shown, key=lambda cost: cost.trust).source
        notes.append(f"Lines differ in their source; `--source {least}` takes one for all.")
    others: dict[str, None] = {}
    for cost in known:
        interface = f" --io-type {cost.io_type}" if cost.io_type else ""
        option = f"--implementation {cost.implementation}{interface} --source {cost.source}"
        if not selection.admits(cost):
            others[f"`{option}` ({SOURCES[cost.source]})"] = None
    if others:
        notes.append(f"Also known: {', '.join(others)}.")
    return notes
