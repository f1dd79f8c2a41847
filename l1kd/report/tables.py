"""Tables of a report on quality, fidelity, agreement and layers, as lists of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from l1kd.core.run_files import FirmwareRecord, Pair, PerSignal
from l1kd.evaluation.metrics import POOLED, mean_over_signals, shared_decisions
from l1kd.evaluation.rates import out_of_reach
from l1kd.report.load_run import RunFiles
from l1kd.report.number_format import area, percent, quantity, rate, score
from l1kd.report.table import Cell, Column, Row, Table, text


@dataclass(frozen=True)
class Quality:
    """A quantity that `metrics.json` has for every score and signal.

    A new one needs a field of `run_files.Quality`, its arithmetic in `evaluation.metrics.quality`
    and an entry in `QUALITIES`: tables, figures, JSON, CSV and Markdown follow.
    """

    name: str  # the field
    title: str
    short: str
    show: Callable[[float | None], str]
    caption: str
    share: bool  # an axis in per cent, from 0
    pooled: bool  # also of all signals as one

    def mean(self, record: Any) -> float | None:
        """Mean over the signals of a record of `run_files.Quality`."""
        return mean_over_signals(getattr(record, self.name))


QUALITIES = (
    Quality(
        name="efficiency",
        title="efficiency at a false-positive rate of 1e-3",
        short="efficiency at FPR 1e-3",
        show=percent,
        caption="Efficiency at a false-positive rate of 1e-3. Bold: the highest of its group; "
        "tinted: the chosen student.",
        share=True,
        pooled=False,
    ),
    Quality(
        name="auc",
        title="AUC",
        short="AUC",
        show=area,
        caption="Area under the ROC curve, ties counted half. “mean”: over signals; “pooled”: all "
        "signals as one.",
        share=False,
        pooled=True,
    ),
)
# The order of rungs and of cards; a trigger's efficiency comes first in tables by signal.
MEANS = QUALITIES[::-1]
RUNGS = {
    "teacher": "float teacher",
    "float": "float student",
    "qkeras": "quantized student",
    "csim": "HLS C simulation",
    "rtl": "Verilog (alkaid)",
}


def mean_column(quality: Quality, get: Callable[..., Any] | None = None) -> Column:
    """The mean over signals, of the item's last object or of what `get` finds."""
    find = get or (lambda *objects: objects[-1])
    word = quality.name if quality.share else quality.short
    return Column(f"mean {word}", lambda *objects: quality.mean(find(*objects)), quality.show)


def quality_table(run: RunFiles, quality: Quality) -> Table:
    """A quality of teacher, students and baselines: mean over signals, pooled, each signal."""
    metrics = run.metrics
    if metrics is None:
        return Table(["score", "mean"], caption=quality.caption)
    kinds: dict[str, dict[str, PerSignal]] = {
        "teacher": {"teacher": getattr(metrics.teacher, quality.name)} if metrics.teacher else {},
        "student": {name: getattr(metrics.students[name], quality.name) for name in run.students},
        "baseline": {name: getattr(each, quality.name) for name, each in metrics.baselines.items()},
    }
    titles = ({POOLED: "pooled"} if quality.pooled else {}) | {name: name for name in run.signals}
    table = Table(["score", "mean", *titles.values()], caption=quality.caption)
    for kind, members in kinds.items():
        values = {
            name: [mean_over_signals(each), *(each.get(key) for key in titles)]
            for name, each in members.items()
        }
        columns = [
            [v for v in column if v is not None] for column in zip(*values.values(), strict=True)
        ]
        lowest = [min(column, default=None) for column in columns]
        highest = [max(column, default=None) for column in columns]
        for name, line in values.items():
            cells = [
                Cell(quality.show(v), "best" if v is not None and low != v == top else "")
                for v, low, top in zip(line, lowest, highest, strict=True)
            ]
            chosen = kind == "student" and name == metrics.best
            table.rows.append(Row([Cell(name), *cells], kind, chosen))
    return table


def _distance(which: str, field: str = "emd") -> Callable[..., float | None]:
    """Reads the EMD of `normal` or `anomalous` events of the item's last object."""
    return lambda *objects: getattr(getattr(objects[-1], field, None), which, None)


_EMD = (
    Column("EMD, normals", _distance("normal"), quantity),
    Column("EMD, anomalies", _distance("anomalous"), quantity),
)


def likeness_table(run: RunFiles) -> Table:
    """Size of teacher and students, and how like the teacher's the students' scores are."""
    metrics = run.metrics

    def shared(name: str, _: Any) -> float | None:
        if run.scores is None or not run.taught or name == "teacher":
            return None
        return shared_decisions(run.scores.teacher("test"), run.scores.student(name, "test"))

    columns = [
        text("network", lambda name, _: name),
        Column("parameters", "params"),
        Column("weights [bits]", lambda _, each: getattr(each, "weight_bits", "float"), str),
        *_EMD,
        Column("EMD, anomalies, calibrated", _distance("anomalous", "emd_calibrated"), quantity),
        Column("rank correlation", lambda _, each: getattr(each, "spearman", None), area),
        Column("shared decisions", shared, percent),
    ]
    items: list[tuple[str, Any]] = []
    if metrics is not None:
        items = [("teacher", metrics.teacher)] if metrics.teacher is not None else []
        items += [(name, metrics.students[name]) for name in run.students]
    return Table.of(
        columns,
        items,
        kind=lambda _, each: "student" if hasattr(each, "weight_bits") else "teacher",
        chosen=lambda name, each: name == run.best and hasattr(each, "weight_bits"),
    )


def working_point_table(run: RunFiles, student: str) -> Table:
    """Integer thresholds of a student, the rates they give and what they accept."""
    kind = run.config.distillation.score.type
    events = run.metrics.dataset.get("events", {}).get("test") if run.metrics else None

    def beyond(point: Any) -> bool:
        return out_of_reach(point.threshold, kind)

    def signal_column(signal: str) -> Column:
        return Column(signal, lambda point: point.efficiency.get(signal), percent)

    columns = [
        text("aimed at", "target_fpr", rate),
        Column("threshold [LSB]", "threshold"),
        Column(
            "threshold [score]",
            lambda point: (
                "above range" if beyond(point) else score(point.threshold * kind.lsb, kind.lsb)
            ),
            str,
        ),
        Column("normals accepted", lambda point: None if events is None else point.fpr * events),
        Column("FPR reached", "fpr", rate),
        *([Column("rate [kHz]", "rate_khz", quantity)] if run.of_crossings else []),
        Column("mean efficiency", lambda point: mean_over_signals(point.efficiency), percent),
        *map(signal_column, run.signals),
    ]
    points = run.metrics.students[student].working_points if run.metrics else []
    return Table.of(columns, points, mark=lambda point: "bad" if beyond(point) else "")


def ladder_table(run: RunFiles) -> Table:
    """From the float teacher to the firmware, rung by rung."""
    columns = [
        text("student", lambda student, place, _: "" if place else student, str),
        text("scores from", lambda *objects: RUNGS[objects[-1].stage]),
        *map(mean_column, MEANS),
        *_EMD,
        Column("rank correlation", "spearman", area),
    ]
    fidelity = run.fidelity or {}
    items = [
        (student, place, rung)
        for student in sorted(fidelity, key=lambda name: name != run.best)
        for place, rung in enumerate(fidelity[student])
    ]
    return Table.of(
        columns,
        items,
        kind=lambda student, *_: student,
        chosen=lambda student, *_: student == run.best,
    )


def project_of(pair: Pair) -> str:
    """The project that a pair is about: `Vitis io_stream latency`, `Verilog`, or nothing."""
    if pair.candidate in ("rtl", "rtlsim") and pair.backend is None:
        return "Verilog"
    return " ".join(filter(None, (pair.backend, pair.io_type, pair.strategy)))


_STUDENT = text("student", lambda record, *_: record.student)


def agreement_table(run: RunFiles) -> Table:
    """Every pair of implementations that was compared."""
    columns = [
        _STUDENT,
        text("candidate"),
        text("reference"),
        text("project", lambda _, pair: project_of(pair)),
        text("inputs"),
        Column("events"),
        Column("mismatches"),
        Column("largest [LSB]", "max_lsb"),
        text("first layer", "first_layer"),
        text("smallest event", "reproducer"),
    ]
    return Table.of(
        columns,
        [(record, pair) for record in run.agreement or [] for pair in record.pairs],
        kind=lambda record, _: record.student,
        mark=lambda _, pair: "bad" if pair.mismatches and not pair.excused else "",
    )


def certificate_table(run: RunFiles) -> Table:
    """Layers that are proved of every project, and layers that are tested, not proved."""
    verdicts = {
        None: "certified for all inputs",
        "refused": "refused",
        "open": "tested, not proved",
    }

    def finding(field: str) -> Callable[..., Any]:
        return lambda record, certificate, found: getattr(found, field, None)

    columns = [
        _STUDENT,
        text("project", lambda _, each, __: f"{each.backend} {each.io_type} {each.strategy}"),
        text("verdict", lambda *objects: verdicts[finding("state")(*objects)]),
        Column("layers proved", lambda _, each, __: len(each.layers)),
        *(text(field, finding(field)) for field in ("layer", "step", "reason")),
    ]
    items = [
        (record, certificate, found)
        for record in run.agreement or []
        for certificate in record.certificates
        for found in (*([None] if certificate.certified else []), *certificate.findings)
    ]
    return Table.of(
        columns,
        items,
        kind=lambda record, *_: record.student,
        mark=lambda *objects: "bad" if finding("state")(*objects) == "refused" else "",
    )


def float32_table(run: RunFiles) -> Table:
    """Layers that QKeras itself may not compute exactly."""
    columns = [_STUDENT, text("layer", lambda _, layer, __: layer), text("why", lambda *o: o[-1])]
    items = [
        (record, layer, reason)
        for record in run.agreement or []
        for layer, reason in record.float32.items()
    ]
    return Table.of(columns, items, kind=lambda record, *_: record.student)


def repair_table(run: RunFiles) -> Table:
    """Changes of an imported network, and what the lint says of it."""
    imported = run.manifest.imported
    items: list[tuple[str, str, str]] = []
    if imported:
        items += [(each.layer, each.what, each.kind) for each in imported.repairs]
        items += [
            (found.layer, f"{found.found}: {found.reason}; {found.remedy}", "refused")
            for found in imported.findings
        ]
    return Table.of(
        [
            text("layer", lambda layer, *_: layer),
            text("what", lambda _, what, __: what),
            text("kind", lambda *objects: objects[-1]),
        ],
        items,
        kind=lambda *objects: "finding" if objects[-1] == "refused" else "repair",
        mark=lambda *objects: "bad" if objects[-1] == "refused" else "",
    )


def layer_table(project: FirmwareRecord) -> Table:
    """The layers of a written project with their precisions."""
    columns = [
        text("layer", "name"),
        text("kind"),
        text("output", lambda layer: " x ".join(map(str, layer.shape)) or "1"),
        *map(Column, ("weights", "zeros", "multiplications")),
        text("weight type", "weight_type"),
        text("bias type", "bias_type"),
        text("accumulator", "accumulator_type"),
        text("result", "result_type"),
    ]
    return Table.of(columns, project.layers)


def sample_table(run: RunFiles) -> Table:
    """Number of events behind every number."""
    events = run.metrics.dataset.get("events", {}) if run.metrics else {}
    items = [("normal", events)] if events else []
    items += events.get("signals", {}).items()
    halves = {"training": "train", "validation": "val", "test": "test"}

    def column(title: str, half: str) -> Column:
        return Column(title, lambda _, sizes: sizes.get(half))

    names = text("sample", lambda name, _: name)
    return Table.of([names, *(column(*each) for each in halves.items())], items)
