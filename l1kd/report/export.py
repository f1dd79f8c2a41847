"""A run's numbers for other programs and for a terminal: JSON, CSV, Markdown.

Several runs in one table, a line for each teacher and student.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from l1kd.core.errors import UserError
from l1kd.report import number_format
from l1kd.report.costs import (
    AMOUNTS,
    CANNOT_FOLLOW,
    SOURCES,
    SPACING_NS,
    TIMING,
    UNKNOWN,
    Cost,
    Selection,
    beside_tables,
    choice_table,
    cost_notes,
    costs,
    layer_cost_tables,
    resource_table,
    select,
    share_text,
    verilog_table,
)
from l1kd.report.load_run import RunFiles, mean_quality, read_run
from l1kd.report.number_format import DASH
from l1kd.report.table import Table, row
from l1kd.report.tables import agreement_table, auc_table, efficiency_table, ladder_table
from l1kd.report.verdict import judge

Form = Literal["json", "csv", "markdown"]


def export(directory: Path, form: Form) -> str:
    """A run's numbers as text; nothing is written."""
    run = read_run(directory, scores=False)
    writers: dict[Form, Callable[[RunFiles], str]] = {
        "json": _json,
        "csv": _csv,
        "markdown": _markdown,
    }
    return writers[form](run)


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
    students: dict[str, Any] = {}
    for name in run.students if metrics else []:
        assert metrics is not None
        quality = metrics.students[name]
        area, share = mean_quality(quality)
        students[name] = {
            "best": name == metrics.best,
            "parameters": quality.params,
            "weight_bits": quality.weight_bits,
            "mean_auc": area,
            "mean_efficiency": share,
        }
    return as_json(
        {
            "run": run.manifest.name,
            "directory": str(run.directory),
            "state": verdict.state,
            "gates": [vars(gate) for gate in verdict.gates],
            "best": metrics.best if metrics else None,
            "students": students,
            "budgets": run.config.choose.budgets,
            "choice": [each.model_dump() for each in metrics.choice] if metrics else [],
            "verilog": _dumped(run.rtl),
            "timing": TIMING,
            "resources": None
            if run.resources is None
            else [each.row() | {"layers": _dumped(each.record.layers)} for each in costs(run)],
        }
    )


def _dumped(records: Sequence[Any] | None) -> list[Any] | None:
    return None if records is None else [each.model_dump() for each in records]


def _csv(run: RunFiles) -> str:
    rows = []
    for each in costs(run):
        whole = each.row()
        rows.append({"layer": None} | whole)
        labels = dict.fromkeys(whole)
        labels |= {
            key: whole[key]
            for key in (
                *("student", "best", "implementation", "backend", "io_type", "strategy"),
                *("source", "tool", "part", "clock_ns"),
            )
        }
        for layer in each.record.layers:
            own = layer.model_dump()
            rows.append({"layer": own.pop("name")} | labels | own)
    return as_csv(rows)


def _markdown(run: RunFiles) -> str:
    verdict = judge(run)
    gates = Table(["gate", "state", "detail"], text_columns=(0, 1, 2))
    gates.rows.extend(row(gate.name, gate.state, gate.detail) for gate in verdict.gates)
    parts = [f"# {run.manifest.name}: {verdict.headline}", verdict.detail, gates.markdown()]

    def section(title: str, table: Table, absent: str = "") -> None:
        if table.rows:
            parts.extend([f"## {title}", table.markdown()])
        elif absent:
            parts.extend([f"## {title}", absent])

    section("Efficiency at a false-positive rate of 1e-3", efficiency_table(run))
    section("AUC", auc_table(run))
    section("Fidelity ladder", ladder_table(run))
    section("Agreement", agreement_table(run))
    section("Verilog", verilog_table(run))
    section("Choice within the budgets", choice_table(run))
    section("Logic and latency", resource_table(run), run.absent("synth"))
    parts.append(f"{TIMING} A dash is unknown, never zero.")
    parts += cost_notes(run)
    for each in beside_tables(run):
        section(f"Estimate beside synthesis, {each.caption}", each.table)
    for each in layer_cost_tables(run):
        section(f"Cost per layer, {each.caption}", each.table)
    return "\n\n".join(parts)


TableForm = Literal["text", "markdown", "json", "csv"]


def compare(
    runs: Sequence[Path], selection: Selection | None = None, form: TableForm = "text"
) -> str:
    """Quality, agreement and cost of several runs.

    One implementation is shown for all students, so that the numbers of a column compare; what is
    not known of it is shown as unknown, whatever another implementation would cost.
    """
    read = {Path(each): read_run(Path(each), scores=False) for each in runs}
    wanted = selection or Selection()
    if wanted.implementation == "alkaid" and wanted.io_type is not None:
        raise UserError(
            f"alkaid's Verilog has no {wanted.io_type}: it takes an event at every clock cycle; "
            "leave --io-type out, or ask for --implementation hls4ml"
        )
    known = {directory: costs(run) for directory, run in read.items()}
    settled = wanted.settled(each.record for every in known.values() for each in every)
    lines = [
        line for directory, run in read.items() for line in _lines(run, known[directory], settled)
    ]
    if form == "json":
        return as_json([values for values, _ in lines])
    if form == "csv":
        return as_csv([values for values, _ in lines])
    return _text(lines, settled, [each for every in known.values() for each in every])


Line = tuple[dict[str, Any], Cost | None]


def _lines(run: RunFiles, every: list[Cost], selection: Selection) -> list[Line]:
    """The run's networks as rows of numbers, each with the cost that is shown."""
    first: dict[str, Any] = {"run": str(run.directory), "network": None, "best": None}
    quality = dict.fromkeys(("parameters", "mean_auc", "mean_efficiency", "agreement", "budgets"))
    if run.metrics is None:
        return [(first | quality | {"agreement": "not evaluated"} | UNKNOWN, None)]
    lines: list[Line] = []
    networks = ["teacher"] if run.metrics.teacher is not None else []
    excluded = {each.student: each.excluded for each in run.metrics.choice}
    for name in (*networks, *run.students):
        metrics = (
            run.metrics.teacher if networks and name == "teacher" else run.metrics.students[name]
        )
        assert metrics is not None
        student = metrics is not run.metrics.teacher
        area, share = mean_quality(metrics)
        cost = select(every, name, selection) if student else None
        budgets = None
        if student and name in excluded:
            budgets = "; ".join(excluded[name]) or "within"
        values = {
            **first,
            "network": name,
            "best": student and name == run.metrics.best,
            "parameters": metrics.params,
            "mean_auc": area,
            "mean_efficiency": share,
            "agreement": agreement_of(run, name) if student else None,
            "budgets": budgets,
        }
        own = UNKNOWN if cost is None else cost.row()
        lines.append((values | {key: own[key] for key in UNKNOWN}, cost))
    return lines


def _text(lines: Sequence[Line], selection: Selection, every: Sequence[Cost]) -> str:
    chosen = any(values["budgets"] for values, _ in lines)
    columns = [
        *("run", "network", "parameters", "mean AUC", "mean efficiency", "agreement"),
        *("LUT", "FF", "DSP", "BRAM", "latency [cycles]", "latency [ns]", "interval [ns]"),
        *("share of the part", "source (tool)"),
        *(["budgets"] if chosen else []),
    ]
    table = Table(columns, text_columns=(0, 1, 5, 14, 15))
    slow = False
    for values, cost in lines:
        record = cost.record if cost else None
        interval = number_format.quantity(cost.interval_ns if cost else None)
        if cost is not None and cost.follows is False:
            interval, slow = f"{interval} !", True
        name = values["network"] or DASH
        table.rows.append(
            row(
                values["run"],
                f"{name}*" if values["best"] else name,
                number_format.count(values["parameters"]),
                number_format.area(values["mean_auc"]),
                number_format.percent(values["mean_efficiency"]),
                values["agreement"] or DASH,
                *(
                    number_format.count(getattr(record, what) if record else None)
                    for what in AMOUNTS
                    if what != "uram"
                ),
                number_format.count(record.latency_cycles if record else None),
                number_format.quantity(record.latency_ns if record else None),
                interval,
                share_text(cost) if cost else DASH,
                cost.source if cost else DASH,
                *([values["budgets"] or DASH] if chosen else []),
            )
        )
    notes = [f"Cost of {selection}; a dash is unknown. {TIMING}"]
    if slow:
        notes.append(f"! {CANNOT_FOLLOW}: an interval of more than {SPACING_NS:g} ns.")
    sources = {cost.record.source for _, cost in lines if cost is not None}
    if len(sources) > 1:
        least = min(sources, key=list(SOURCES).index)
        notes.append(f"Lines differ in their source; `--source {least}` takes one for all.")
    others = dict.fromkeys(_option(each) for each in every if not selection.admits(each.record))
    if others:
        notes.append(f"Also known: {', '.join(others)}.")
    return "\n\n".join([table.markdown(), *notes])


def _option(cost: Cost) -> str:
    record = cost.record
    interface = f" --io-type {record.io_type}" if record.io_type else ""
    return (
        f"`--implementation {record.implementation}{interface} --source {record.source}` "
        f"({SOURCES[record.source]})"
    )


def agreement_of(run: RunFiles, student: str) -> str:
    """Whether a student's implementations agree, in a few words."""
    pairs = [p for r in run.agreement or [] if r.student == student for p in r.pairs]
    if not pairs:
        return "not verified"
    different = sum(pair.mismatches for pair in pairs if not pair.excused)
    events = sum(pair.events for pair in pairs)
    proofs = [c for r in run.agreement or [] if r.student == student for c in r.certificates]
    if not different and proofs and all(each.certified for each in proofs):
        return f"certified, 0 of {events:,} differ"
    return f"{'FAILED' if different else 'exact'}, {different:,} of {events:,} differ"
