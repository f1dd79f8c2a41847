"""The tables of what was compared and proved."""

from __future__ import annotations

from l1kd.report import numbers
from l1kd.report.files import RunFiles
from l1kd.report.numbers import DASH
from l1kd.report.table import Table, row
from l1kd.schemas import Pair

__all__ = ["agreement_table", "certificate_table", "float32_table", "project_of"]


def agreement_table(run: RunFiles) -> Table:
    """Every pair of implementations that was compared."""
    columns = (
        "student | candidate | reference | project | inputs | events | mismatches | "
        "largest [LSB] | first layer | smallest event"
    )
    table = Table(columns.split(" | "), text_columns=(0, 1, 2, 3, 4, 8, 9))
    for record in run.agreement or []:
        for pair in record.pairs:
            table.rows.append(
                row(
                    record.student,
                    pair.candidate,
                    pair.reference,
                    project_of(pair) or DASH,
                    pair.inputs,
                    numbers.count(pair.events),
                    numbers.count(pair.mismatches),
                    numbers.count(pair.max_lsb),
                    pair.first_layer or DASH,
                    pair.reproducer or DASH,
                    mark="bad" if pair.mismatches and not pair.excused else "",
                    kind=record.student,
                )
            )
    return table


def certificate_table(run: RunFiles) -> Table:
    """What is proved of every project, and where only tests speak."""
    columns = "student | project | verdict | layers proved | layer | step | reason"
    table = Table(columns.split(" | "), text_columns=(0, 1, 2, 4, 5, 6))
    for record in run.agreement or []:
        for each in record.certificates:
            project = f"{each.backend} {each.io_type} {each.strategy}"
            proved = numbers.count(len(each.layers))
            if each.certified:
                cells = ("certified for all inputs", proved, DASH, DASH, DASH)
                table.rows.append(row(record.student, project, *cells, kind=record.student))
            for found in each.findings:
                refused = found.state == "refused"
                table.rows.append(
                    row(
                        record.student,
                        project,
                        "refused" if refused else "only tests speak",
                        proved,
                        found.layer,
                        found.step,
                        found.reason,
                        mark="bad" if refused else "",
                        kind=record.student,
                    )
                )
    return table


def float32_table(run: RunFiles) -> Table:
    """Layers that QKeras itself may not compute exactly."""
    table = Table(["student", "layer", "why"], text_columns=(0, 1, 2))
    for record in run.agreement or []:
        for layer, reason in record.float32.items():
            table.rows.append(row(record.student, layer, reason, kind=record.student))
    return table


def project_of(pair: Pair) -> str:
    """The project that a pair is about: `Vitis io_stream latency`, `Verilog`, or nothing."""
    if pair.candidate in ("rtl", "rtlsim") and pair.backend is None:
        return "Verilog"
    return " ".join(filter(None, (pair.backend, pair.io_type, pair.strategy)))
