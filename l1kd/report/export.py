"""Numbers of runs for other programs and for a terminal: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from l1kd.core.errors import UserError
from l1kd.core.run_files import COUNTS, SOURCES, Resources, StudentMetrics, TeacherMetrics
from l1kd.report import costs, tables
from l1kd.report.costs import Selection, cost_row
from l1kd.report.load_run import SPACING_NS, Cost, RunFiles, read_run
from l1kd.report.number_format import DASH, quantity
from l1kd.report.tables import Column, Table, text, words
from l1kd.report.verdict import judge

Form = Literal["json", "csv", "markdown"]
TableForm = Literal["text", "markdown", "json", "csv"]


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
            "timing": costs.TIMING,
            "resources": None if run.resources is None else resources,
        }
    )


def _csv(run: RunFiles) -> str:
    rows: list[dict[str, Any]] = []
    for each in run.costs:
        whole = cost_row(each)
        labels = {key: whole[key] for key in costs.LABELS}
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

    def section(title: str, table: Table, absent: str = "") -> None:
        if table.rows or absent:
            parts.extend([f"## {title}", table.markdown() if table.rows else absent])

    for quality in tables.QUALITIES:
        section(quality.title[0].upper() + quality.title[1:], tables.quality_table(run, quality))
    section("Fidelity ladder", tables.ladder_table(run))
    section("Agreement", tables.agreement_table(run))
    section("Verilog", costs.verilog_table(run))
    section("Choice within the budgets", costs.choice_table(run))
    section("Logic and latency", costs.resource_table(run), run.absent("synth"))
    parts.append(f"{costs.TIMING} A dash is unknown, never zero.")
    parts += costs.cost_notes(run)
    for table in costs.beside_tables(run):
        section(f"Estimate beside synthesis, {table.caption}", table)
    for table in costs.layer_cost_tables(run):
        section(f"Cost per layer, {table.caption}", table)
    return "\n\n".join(parts)


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
    if cost is None:
        return DASH
    return quantity(cost.interval_ns) + " !" * (cost.follows_bunch_crossings is False)


_COMPARED = [
    text("run", "directory"),
    text("network", lambda *line: words(line[1]) + "*" * bool(_best(*line))),
    Column("parameters", "params"),
    *(quality.mean_column(2) for quality in tables.MEANS),
    text("agreement", _agreement),
    *(costs.SHOWN[name] for name in COUNTS if name != "uram"),
    *(costs.SHOWN[name] for name in ("latency_cycles", "latency_ns")),
    Column("interval [ns]", 3, _interval),
    replace(costs.SHOWN["share"], title="share of the part", left=False),
    costs.SHOWN["source"],
]


def _values(line: Line) -> dict[str, Any]:
    """A line's fields in JSON and CSV."""
    run, network, metrics, cost = line
    own = cost_row(cost) if cost else dict.fromkeys(costs.FIELDS)
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
    runs: Sequence[Path], selection: Selection | None = None, form: TableForm = "text"
) -> str:
    """Quality, agreement and cost of several runs, a line for each network; notes below a table."""
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
        for name, metrics in (run.networks or {None: None}).items()
    ]
    if form == "json":
        return as_json([_values(line) for line in lines])
    if form == "csv":
        return as_csv([_values(line) for line in lines])
    return _text(lines, settled, known)


def _text(lines: Sequence[Line], selection: Selection, known: Sequence[Resources]) -> str:
    budgets = [text("budgets", _budgets)] if any(_budgets(*line) for line in lines) else []
    table = Table.of([*_COMPARED, *budgets], lines)
    notes = [f"Cost of {selection}; a dash is unknown. {costs.TIMING}"]
    shown = [cost for *_, cost in lines if cost is not None]
    if any(cost.follows_bunch_crossings is False for cost in shown):
        late = f"an interval of more than {SPACING_NS:g} ns"
        notes.append(f"! {costs.CANNOT_FOLLOW}: {late}.")
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
    return "\n\n".join([table.markdown(), *notes])
