"""The tables of a report on quality, fidelity and layers.

The tables of what was compared and proved.
"""

from __future__ import annotations

from collections.abc import Callable

from l1kd.core.run_files import Emd, FirmwareRecord, Pair, PerSignal
from l1kd.evaluation.metrics import POOLED, mean_over_signals, shared_decisions
from l1kd.evaluation.rates import out_of_reach
from l1kd.report import number_format
from l1kd.report.load_run import RunFiles, mean_quality
from l1kd.report.number_format import DASH
from l1kd.report.table import Cell, Row, Table, row


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
                    number_format.count(pair.events),
                    number_format.count(pair.mismatches),
                    number_format.count(pair.max_lsb),
                    pair.first_layer or DASH,
                    pair.reproducer or DASH,
                    mark="bad" if pair.mismatches and not pair.excused else "",
                    kind=record.student,
                )
            )
    return table


def certificate_table(run: RunFiles) -> Table:
    """What is proved of every project, and what is tested, not proved."""
    columns = "student | project | verdict | layers proved | layer | step | reason"
    table = Table(columns.split(" | "), text_columns=(0, 1, 2, 4, 5, 6))
    for record in run.agreement or []:
        for each in record.certificates:
            project = f"{each.backend} {each.io_type} {each.strategy}"
            proved = number_format.count(len(each.layers))
            if each.certified:
                cells = ("certified for all inputs", proved, DASH, DASH, DASH)
                table.rows.append(row(record.student, project, *cells, kind=record.student))
            for found in each.findings:
                refused = found.state == "refused"
                table.rows.append(
                    row(
                        record.student,
                        project,
                        "refused" if refused else "tested, not proved",
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
    return _by_signal(run, "auc", titles, number_format.area)


def efficiency_table(run: RunFiles) -> Table:
    """The same for the efficiency at a false-positive rate of 1e-3."""
    titles = {signal: signal for signal in run.signals}
    return _by_signal(run, "efficiency", titles, number_format.percent)


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
        params = number_format.count(metrics.teacher.params)
        table.rows.append(row("teacher", params, "float", *[DASH] * 5, kind="teacher"))
    for name in run.students:
        student = metrics.students[name]
        shared = None
        if run.scores is not None and run.taught:
            shared = shared_decisions(run.scores.teacher("test"), run.scores.student(name, "test"))
        table.rows.append(
            row(
                name,
                number_format.count(student.params),
                str(student.weight_bits),
                *_emd(student.emd),
                _emd(student.emd_calibrated)[1],
                number_format.area(student.spearman),
                number_format.percent(shared),
                kind="student",
                chosen=name == metrics.best,
            )
        )
    return table


def _emd(distance: Emd | None) -> tuple[str, str]:
    if distance is None:
        return DASH, DASH
    return number_format.quantity(distance.normal), number_format.quantity(distance.anomalous)


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
                number_format.rate(point.target_fpr),
                number_format.count(point.threshold),
                "above range"
                if beyond
                else number_format.score(point.threshold * score.lsb, score.lsb),
                number_format.count(None if events is None else point.fpr * events),
                number_format.rate(point.fpr),
                *([number_format.quantity(point.rate_khz)] if run.of_crossings else []),
                number_format.percent(mean_over_signals(point.efficiency)),
                *(number_format.percent(point.efficiency.get(signal)) for signal in run.signals),
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
                    number_format.area(mean_auc),
                    number_format.percent(mean_efficiency),
                    *_emd(rung.emd),
                    number_format.area(rung.spearman),
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
                number_format.count(layer.weights),
                number_format.count(layer.zeros),
                number_format.count(layer.multiplications),
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
        sizes = (number_format.count(events.get(half)) for half in ("train", "val", "test"))
        table.rows.append(row("normal", *sizes))
    for name, halves in events.get("signals", {}).items():
        sizes = (number_format.count(halves.get(half)) for half in ("val", "test"))
        table.rows.append(row(name, DASH, *sizes))
    return table
