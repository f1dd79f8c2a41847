"""Numbers of runs for other programs and for a terminal: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from l1kd.core.errors import UserError
from l1kd.core.run_files import COUNTS, SOURCES, Resources, StudentMetrics, TeacherMetrics
from l1kd.report.costs import (
    CANNOT_FOLLOW,
    FIELDS,
    LABELS,
    SHOWN,
    SPACING_NS,
    TIMING,
    Selection,
    beside_tables,
    choice_table,
    cost_notes,
    cost_row,
    follows,
    layer_cost_tables,
    resource_table,
    verilog_table,
)
from l1kd.report.load_run import RunFiles, read_run
from l1kd.report.number_format import quantity
from l1kd.report.table import Column, Table, text, words
from l1kd.report.tables import (
    MEANS,
    QUALITIES,
    agreement_table,
    ladder_table,
    mean_column,
    quality_table,
)
from l1kd.report.verdict import judge

Form = Literal["json", "csv", "markdown"]


def export(directory: Path, form: Form) -> str:
    """A run's numbers as text; nothing is written.

    `json`: verdict, quality and costs with layers. `csv`: costs, a row for each record and for each
    of its layers. `markdown`: tables.
    """
    run = read_run(directory, scores=False)
    return {"json": _json, "csv": _csv, "markdown": _markdown}[form](run)


def as_json(value: Any) -> str:
    """As JSON; what is unknown is null."""
    return json.dumps(value, indent=2, allow_nan=False)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """As CSV with a header; what is unknown is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().rstrip("\n")


def _json(run: RunFiles) -> str:
    verdict, metrics = judge(run), run.metrics
    return as_json(
        {
            "run": run.manifest.name,
            "directory": str(run.directory),
            "state": verdict.state,
            "gates": [vars(gate) for gate in verdict.gates],
            "best": run.best,
            "students": {name: _student(run, name) for name in run.students if metrics},
            "budgets": run.config.choose.budgets,
            "choice": _dumped(metrics.choice) if metrics else [],
            "verilog": None if run.rtl is None else _dumped(run.rtl),
            "timing": TIMING,
            "resources": None
            if run.resources is None
            else [cost_row(run, each) | {"layers": _dumped(each.layers)} for each in run.costs],
        }
    )


def _student(run: RunFiles, name: str) -> dict[str, Any]:
    assert run.metrics is not None
    student = run.metrics.students[name]
    return {
        "best": name == run.best,
        "parameters": student.params,
        "weight_bits": student.weight_bits,
        **{f"mean_{each.name}": each.mean(student) for each in MEANS},
    }


def _dumped(records: Sequence[Any]) -> list[Any]:
    return [each.model_dump() for each in records]


def _csv(run: RunFiles) -> str:
    rows = []
    for each in run.costs:
        whole = cost_row(run, each)
        rows.append({"layer": None} | whole)
        labels = dict.fromkeys(whole) | {key: whole[key] for key in LABELS}
        for layer in each.layers:
            own = layer.model_dump()
            rows.append({"layer": own.pop("name")} | labels | own)
    return as_csv(rows)


def _markdown(run: RunFiles) -> str:
    verdict = judge(run)
    gates = Table.of([text("gate", "name"), text("state"), text("detail")], verdict.gates)
    parts = [f"# {run.manifest.name}: {verdict.headline}", verdict.detail, gates.markdown()]

    def section(title: str, table: Table, absent: str = "") -> None:
        if table.rows or absent:
            parts.extend([f"## {title}", table.markdown() if table.rows else absent])

    for quality in QUALITIES:
        section(quality.title[0].upper() + quality.title[1:], quality_table(run, quality))
    section("Fidelity ladder", ladder_table(run))
    section("Agreement", agreement_table(run))
    section("Verilog", verilog_table(run))
    section("Choice within the budgets", choice_table(run))
    section("Logic and latency", resource_table(run), run.absent("synth"))
    parts.append(f"{TIMING} A dash is unknown, never zero.")
    parts += cost_notes(run)
    for table in beside_tables(run):
        section(f"Estimate beside synthesis, {table.caption}", table)
    for table in layer_cost_tables(run):
        section(f"Cost per layer, {table.caption}", table)
    return "\n\n".join(parts)


TableForm = Literal["text", "markdown", "json", "csv"]


@dataclass(frozen=True)
class Line:
    """A network of a run, with the cost that is shown; a run without metrics has one without."""

    run: RunFiles
    network: str | None = None
    metrics: TeacherMetrics | StudentMetrics | None = None
    cost: Resources | None = None

    @property
    def best(self) -> bool | None:
        """True for the chosen student."""
        if self.network is None:
            return None
        return isinstance(self.metrics, StudentMetrics) and self.network == self.run.best

    @property
    def agreement(self) -> str | None:
        """Agreement of the student's implementations in a few words."""
        if self.network is None:
            return "not evaluated"
        student = isinstance(self.metrics, StudentMetrics)
        return agreement_of(self.run, self.network) if student else None

    @property
    def budgets(self) -> str | None:
        """The budgets that the student misses, or `within`; None without budgets."""
        if not isinstance(self.metrics, StudentMetrics) or self.run.metrics is None:
            return None
        excluded = {each.student: each.excluded for each in self.run.metrics.choice}
        if self.network not in excluded:
            return None
        return "; ".join(excluded[self.network]) or "within"


def _of_cost(column: Column) -> Column:
    """A column of (run, cost) as one of lines; unknown where a line has no cost."""

    def get(line: Line) -> Any:
        return None if line.cost is None else column.value((line.run, line.cost))

    return Column(column.title, get, column.show, column.left)


_INTERVAL = Column(
    "interval [ns]",
    lambda line: line.cost,
    lambda cost: quantity(cost and cost.interval_ns) + " !" * bool(cost and follows(cost) is False),
)
_MEANS = [
    Column(
        mean_column(each).title,
        lambda line, each=each: line.metrics and each.mean(line.metrics),
        each.show,
    )
    for each in MEANS
]
_COMPARED = [
    text("run", lambda line: line.run.directory),
    text("network", lambda line: words(line.network) + "*" * bool(line.best)),
    Column("parameters", lambda line: line.metrics and line.metrics.params),
    *_MEANS,
    text("agreement"),
    *(_of_cost(SHOWN[name]) for name in COUNTS if name != "uram"),
    *(_of_cost(SHOWN[name]) for name in ("latency_cycles", "latency_ns")),
    _INTERVAL,
    replace(_of_cost(SHOWN["share"]), title="share of the part", left=False),
    _of_cost(SHOWN["source"]),
]
_BUDGETS = text("budgets")


def _values(line: Line) -> dict[str, Any]:
    """A line's fields in JSON and CSV."""
    return {
        "run": str(line.run.directory),
        "network": line.network,
        "best": line.best,
        "parameters": line.metrics and line.metrics.params,
        **{f"mean_{e.name}": line.metrics and e.mean(line.metrics) for e in MEANS},
        "agreement": line.agreement,
        "budgets": line.budgets,
        **{name: _of_cost(column).value(line) for name, column in list(FIELDS.items())[2:]},
    }


def compare(
    runs: Sequence[Path], selection: Selection | None = None, form: TableForm = "text"
) -> str:
    """Quality, agreement and cost of several runs, a line for each network.

    One implementation is shown for all students, so that the numbers of a column compare; what is
    not known of it is shown as unknown, whatever another implementation would cost. `text` and
    `markdown` are the same: a table, a `*` at the chosen student, and notes below.
    """
    read = {Path(each): read_run(Path(each), scores=False) for each in runs}
    wanted = selection or Selection()
    if wanted.implementation == "alkaid" and wanted.io_type is not None:
        raise UserError(
            f"alkaid's Verilog has no {wanted.io_type}: it takes an event at every clock cycle; "
            "leave --io-type out, or ask for --implementation hls4ml"
        )
    costs = [cost for run in read.values() for cost in run.costs]
    settled = wanted.settled(costs)
    lines = [line for run in read.values() for line in _lines(run, settled)]
    if form == "json":
        return as_json([_values(line) for line in lines])
    if form == "csv":
        return as_csv([_values(line) for line in lines])
    return _text(lines, settled, costs)


def _lines(run: RunFiles, selection: Selection) -> list[Line]:
    if run.metrics is None:
        return [Line(run)]
    costs, students = run.costs, run.metrics.students
    lines = [Line(run, "teacher", run.metrics.teacher)] if run.metrics.teacher else []
    return lines + [
        Line(run, name, students[name], selection.find(costs, name)) for name in run.students
    ]


def _text(lines: Sequence[Line], selection: Selection, costs: Sequence[Resources]) -> str:
    chosen = any(line.budgets for line in lines)
    table = Table.of([*_COMPARED, *([_BUDGETS] if chosen else [])], lines)
    notes = [f"Cost of {selection}; a dash is unknown. {TIMING}"]
    shown = [line.cost for line in lines if line.cost is not None]
    if any(follows(cost) is False for cost in shown):
        notes.append(f"! {CANNOT_FOLLOW}: an interval of more than {SPACING_NS:g} ns.")
    if len({cost.source for cost in shown}) > 1:
        least = min(shown, key=lambda cost: cost.trust).source
        notes.append(f"Lines differ in their source; `--source {least}` takes one for all.")
    others = dict.fromkeys(_option(each) for each in costs if not selection.admits(each))
    if others:
        notes.append(f"Also known: {', '.join(others)}.")
    return "\n\n".join([table.markdown(), *notes])


def _option(cost: Resources) -> str:
    interface = f" --io-type {cost.io_type}" if cost.io_type else ""
    return (
        f"`--implementation {cost.implementation}{interface} --source {cost.source}` "
        f"({SOURCES[cost.source]})"
    )


def agreement_of(run: RunFiles, student: str) -> str:
    """Agreement of a student's implementations in a few words."""
    pairs, proofs = run.pairs(student), run.certificates(student)
    if not pairs:
        return "not verified"
    different = sum(pair.mismatches for pair in pairs if not pair.excused)
    events = sum(pair.events for pair in pairs)
    if not different and proofs and all(each.certified for each in proofs):
        return f"certified, 0 of {events:,} differ"
    return f"{'FAILED' if different else 'exact'}, {different:,} of {events:,} differ"
