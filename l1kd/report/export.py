"""A run's numbers for other programs and for a terminal: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from l1kd.report.agreement import agreement_table
from l1kd.report.cost import TIMING, costs
from l1kd.report.cost_tables import (
    beside_tables,
    choice_table,
    cost_notes,
    layer_cost_tables,
    resource_table,
    verilog_table,
)
from l1kd.report.files import RunFiles, mean_quality, read_run
from l1kd.report.table import Table, row
from l1kd.report.tables import auc_table, efficiency_table, ladder_table
from l1kd.report.verdict import judge

__all__ = ["Form", "as_csv", "as_json", "export"]

Form = Literal["json", "csv", "markdown"]


def export(directory: Path, form: Form) -> str:
    """A run's numbers as text; nothing is written.

    Parameters
    ----------
    directory
        The run.
    form
        `json`: verdict, quality and costs with layers. `csv`: costs, a row for each record and for
        each of its layers. `markdown`: tables.

    Raises
    ------
    UserError
        If the directory is no run, or one of its files is damaged.
    """
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
