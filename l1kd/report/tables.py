"""The tables of a report on quality, fidelity and layers."""

from __future__ import annotations

from collections.abc import Callable

from l1kd.evaluation.metrics import POOLED, mean_over_signals, shared_decisions
from l1kd.evaluation.rates import out_of_reach
from l1kd.report import numbers
from l1kd.report.files import RunFiles, mean_quality
from l1kd.report.numbers import DASH
from l1kd.report.table import Cell, Row, Table, row
from l1kd.schemas import Emd, FirmwareRecord, PerSignal

__all__ = [
    "RUNGS",
    "auc_table",
    "efficiency_table",
    "ladder_table",
    "layer_table",
    "likeness_table",
    "repair_table",
    "sample_table",
    "working_point_table",
]

RUNGS = {
    "teacher": "float teacher",
    "float": "float student",
    "qkeras": "quantized student",
    "csim": "HLS C simulation",
    "rtl": "Verilog (alkaid)",
}


def auc_table(run: RunFiles) -> Table:
    """AUC of teacher, students and baselines: mean over signals, signals pooled, each signal."""
    titles = {POOLED: "pooled", **{signal: signal for signal in run.signals}}
    return _by_signal(run, "auc", titles, numbers.area)


def efficiency_table(run: RunFiles) -> Table:
    """The same for the efficiency at a false-positive rate of 1e-3."""
    titles = {signal: signal for signal in run.signals}
    return _by_signal(run, "efficiency", titles, numbers.percent)


def _by_signal(
    run: RunFiles, quantity: str, titles: dict[str, str], show: Callable[[float | None], str]
) -> Table:
    table = Table(["score", "mean", *titles.values()])
    metrics = run.metrics
    if metrics is None:
        return table
    kinds: dict[str, dict[str, PerSignal]] = {
        "teacher": {"teacher": getattr(metrics.teacher, quantity)} if metrics.teacher else {},
        "student": {name: getattr(metrics.students[name], quantity) for name in run.students},
        "baseline": {name: getattr(each, quantity) for name, each in metrics.baselines.items()},
    }
    for kind, members in kinds.items():
        values = {
            name: [mean_over_signals(each), *(each.get(key) for key in titles)]
            for name, each in members.items()
        }
        columns = [
            [value for value in column if value is not None]
            for column in zip(*values.values(), strict=True)
        ]
        lowest = [min(column, default=None) for column in columns]
        highest = [max(column, default=None) for column in columns]
        for name, line in values.items():
            cells = [
                Cell(show(v), "best" if v is not None and low != v == top else "")
                for v, low, top in zip(line, lowest, highest, strict=True)
            ]
            chosen = kind == "student" and name == metrics.best
            table.rows.append(Row([Cell(name), *cells], kind, chosen))
    return table


def likeness_table(run: RunFiles) -> Table:
    """Size of teacher and students, and how like the teacher's the students' scores are."""
    columns = (
        "network | parameters | weights [bits] | EMD, normals | EMD, anomalies | "
        "EMD, anomalies, calibrated | rank correlation | shared decisions"
    )
    table = Table(columns.split(" | "))
    metrics = run.metrics
    if metrics is None:
        return table
    if metrics.teacher is not None:
        params = numbers.count(metrics.teacher.params)
        table.rows.append(row("teacher", params, "float", *[DASH] * 5, kind="teacher"))
    for name in run.students:
        student = metrics.students[name]
        shared = None
        if run.scores is not None and run.taught:
            shared = shared_decisions(run.scores.teacher("test"), run.scores.student(name, "test"))
        table.rows.append(
            row(
                name,
                numbers.count(student.params),
                str(student.weight_bits),
                *_emd(student.emd),
                _emd(student.emd_calibrated)[1],
                numbers.area(student.spearman),
                numbers.percent(shared),
                kind="student",
                chosen=name == metrics.best,
            )
        )
    return table


def _emd(distance: Emd | None) -> tuple[str, str]:
    if distance is None:
        return DASH, DASH
    return numbers.quantity(distance.normal), numbers.quantity(distance.anomalous)


def working_point_table(run: RunFiles, student: str) -> Table:
    """Integer thresholds of a student, the rates they give and what they accept."""
    columns = "aimed at | threshold [LSB] | threshold [score] | normals accepted | FPR reached"
    rates = ["rate [kHz]"] if run.of_crossings else []
    table = Table([*columns.split(" | "), *rates, "mean efficiency", *run.signals])
    score = run.config.distillation.score.type
    events = run.metrics.dataset.get("events", {}).get("test") if run.metrics else None
    for point in run.metrics.students[student].working_points if run.metrics else []:
        beyond = out_of_reach(point.threshold, score)
        table.rows.append(
            row(
                numbers.rate(point.target_fpr),
                numbers.count(point.threshold),
                "above range" if beyond else numbers.score(point.threshold * score.lsb, score.lsb),
                numbers.count(None if events is None else point.fpr * events),
                numbers.rate(point.fpr),
                *([numbers.quantity(point.rate_khz)] if run.of_crossings else []),
                numbers.percent(mean_over_signals(point.efficiency)),
                *(numbers.percent(point.efficiency.get(signal)) for signal in run.signals),
                mark="bad" if beyond else "",
            )
        )
    return table


def repair_table(run: RunFiles) -> Table:
    """What was done to an imported network, and what the lint says of it."""
    table = Table(["layer", "what", "kind"], text_columns=(0, 1, 2))
    imported = run.manifest.imported
    for each in imported.repairs if imported else []:
        table.rows.append(row(each.layer, each.what, each.kind, kind="repair"))
    for found in imported.findings if imported else []:
        text = f"{found.found}: {found.reason}; {found.remedy}"
        table.rows.append(row(found.layer, text, "refused", mark="bad", kind="finding"))
    return table


def ladder_table(run: RunFiles) -> Table:
    """From the float teacher to the firmware, rung by rung."""
    columns = (
        "student | scores from | mean AUC | mean efficiency | EMD, normals | EMD, anomalies | "
        "rank correlation"
    )
    table = Table(columns.split(" | "), text_columns=(0, 1))
    best = run.metrics.best if run.metrics else None
    fidelity = run.fidelity or {}
    for student in sorted(fidelity, key=lambda name: name != best):
        for place, rung in enumerate(fidelity[student]):
            mean_auc, mean_efficiency = mean_quality(rung)
            table.rows.append(
                row(
                    "" if place else student,
                    RUNGS[rung.stage],
                    numbers.area(mean_auc),
                    numbers.percent(mean_efficiency),
                    *_emd(rung.emd),
                    numbers.area(rung.spearman),
                    kind=student,
                    chosen=student == best,
                )
            )
    return table


def layer_table(project: FirmwareRecord) -> Table:
    """The layers of a written project with their precisions."""
    columns = (
        "layer | kind | output | weights | zeros | multiplications | weight type | bias type | "
        "accumulator | result"
    )
    table = Table(columns.split(" | "), text_columns=(0, 1, 2, 6, 7, 8, 9))
    for layer in project.layers:
        table.rows.append(
            row(
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)) or "1",
                numbers.count(layer.weights),
                numbers.count(layer.zeros),
                numbers.count(layer.multiplications),
                layer.weight_type or DASH,
                layer.bias_type or DASH,
                layer.accumulator_type or DASH,
                layer.result_type or DASH,
            )
        )
    return table


def sample_table(run: RunFiles) -> Table:
    """How many events are behind every number."""
    table = Table(["sample", "training", "validation", "test"])
    events = run.metrics.dataset.get("events", {}) if run.metrics else {}
    if events:
        sizes = (numbers.count(events.get(half)) for half in ("train", "val", "test"))
        table.rows.append(row("normal", *sizes))
    for name, halves in events.get("signals", {}).items():
        sizes = (numbers.count(halves.get(half)) for half in ("val", "test"))
        table.rows.append(row(name, DASH, *sizes))
    return table
