"""Several runs in one table, a line for each teacher and student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from l1kd.errors import UserError
from l1kd.report import numbers
from l1kd.report.cost import (
    AMOUNTS,
    CANNOT_FOLLOW,
    SOURCES,
    SPACING_NS,
    TIMING,
    UNKNOWN,
    Cost,
    Selection,
    costs,
    select,
)
from l1kd.report.cost_tables import share_text
from l1kd.report.export import as_csv, as_json
from l1kd.report.files import RunFiles, mean_quality, read_run
from l1kd.report.numbers import DASH
from l1kd.report.table import Table, row

__all__ = ["Form", "agreement_of", "compare"]

Form = Literal["text", "markdown", "json", "csv"]


def compare(runs: Sequence[Path], selection: Selection | None = None, form: Form = "text") -> str:
    """Quality, agreement and cost of several runs.

    One implementation is shown for all students, so that the numbers of a column compare; what is
    not known of it is shown as unknown, whatever another implementation would cost.

    Parameters
    ----------
    runs
        Their directories.
    selection
        Which cost is meant; what it leaves open is settled by what most is known of.
    form
        `text` is a Markdown table with what it says of itself below; `markdown` the same.

    Returns
    -------
    str
        In the text, a `*` marks the student that was chosen.

    Raises
    ------
    UserError
        If a directory is no run, or the selection is of nothing that exists.
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
        interval = numbers.quantity(cost.interval_ns if cost else None)
        if cost is not None and cost.follows is False:
            interval, slow = f"{interval} !", True
        name = values["network"] or DASH
        table.rows.append(
            row(
                values["run"],
                f"{name}*" if values["best"] else name,
                numbers.count(values["parameters"]),
                numbers.area(values["mean_auc"]),
                numbers.percent(values["mean_efficiency"]),
                values["agreement"] or DASH,
                *(
                    numbers.count(getattr(record, what) if record else None)
                    for what in AMOUNTS
                    if what != "uram"
                ),
                numbers.count(record.latency_cycles if record else None),
                numbers.quantity(record.latency_ns if record else None),
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
