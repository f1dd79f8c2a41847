"""Tables as lists of columns; those of a report on quality, fidelity, agreement and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from l1kd.core import run_files
from l1kd.core.run_files import FirmwareRecord, Pair, PerSignal, WorkingPoint
from l1kd.evaluation.metrics import POOLED, mean_over_signals, shared_decisions
from l1kd.evaluation.rates import out_of_reach
from l1kd.report.load_run import RunFiles
from l1kd.report.number_format import DASH, area, count, percent, quantity, rate, score

# A place in a tuple of objects, a function of the objects, or the name of an attribute, `a` or
# `a.b`, of the last object that has it.
Get = str | int | Callable[..., Any]


def value_of(item: Any, get: Get) -> Any:
    """A value of an item, an object or a tuple of objects; None is unknown, also as an object."""
    objects = item if isinstance(item, tuple) else (item,)
    if isinstance(get, int):
        return objects[get]
    if callable(get):
        return get(*objects)
    name, *inner = get.split(".")
    owners = [each for each in objects if hasattr(each, name)]
    if not owners and None not in objects:
        raise AttributeError(f"{item!r} has no {get!r}")
    value = getattr(owners[-1], name) if owners else None
    for part in inner:
        value = None if value is None else getattr(value, part)
    return value


@dataclass(frozen=True)
class Column:
    """A column: its title, how to get the value of an item, and how to format it."""

    title: str
    get: Get | None = None  # None: the attribute that the title names
    show: Callable[[Any], str] = count  # None is unknown: a dash
    left: bool = False  # texts are aligned to the left, numbers to the right
    mark: Callable[..., str] | None = None  # "best" or "bad"; None: as the row

    def value(self, item: Any) -> Any:
        """The value for an item; None is unknown."""
        return value_of(item, self.title if self.get is None else self.get)


def words(value: object) -> str:
    """A text, or a dash where there is none."""
    return DASH if value is None or value == "" else str(value)


def text(title: str, get: Get | None = None, mark: Callable[..., str] | None = None) -> Column:
    """A column of texts."""
    return Column(title, get, words, left=True, mark=mark)


@dataclass(frozen=True)
class Cell:
    """A formatted value, and whether it is the best of its kind or a failure."""

    text: str
    mark: str = ""  # "best" | "bad"


@dataclass(frozen=True)
class Row:
    """Cells, the first one naming the row; `kind` groups rows, `chosen` is the best student's."""

    cells: list[Cell]
    kind: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """Titles and rows; `text_columns` are aligned to the left, the others to the right."""

    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    text_columns: tuple[int, ...] = (0,)
    caption: str = ""

    @staticmethod
    def of(
        columns: Sequence[Column],
        items: Iterable[Any],
        *,
        kind: Get = lambda *_: "",
        chosen: Get = lambda *_: False,
        mark: Callable[..., str] = lambda *_: "",
        caption: str = "",
    ) -> Table:
        """A row for each item."""
        rows = []
        for item in items:
            cells = [
                Cell(column.show(column.value(item)), value_of(item, column.mark or mark))
                for column in columns
            ]
            rows.append(Row(cells, value_of(item, kind), value_of(item, chosen)))
        left = tuple(place for place, column in enumerate(columns) if column.left)
        return Table([column.title for column in columns], rows, left, caption)

    def markdown(self) -> str:
        """As a Markdown table whose columns line up in a terminal."""
        lines = [self.columns, *([cell.text for cell in row.cells] for row in self.rows)]
        lines = [[cell.replace("|", "/") for cell in line] for line in lines]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]

        def joined(line: Sequence[str]) -> str:
            cells = (
                cell.ljust(width) if place in self.text_columns else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            return f"| {' | '.join(cells)} |"

        rule = "|".join(
            "-" * (width + 1) + ("-" if place in self.text_columns else ":")
            for place, width in enumerate(widths)
        )
        return "\n".join([joined(lines[0]), f"|{rule}|", *map(joined, lines[1:])])


@dataclass(frozen=True)
class Quality:
    """A quantity of every score and signal, as tables and figures show it."""

    name: str  # the field
    title: str
    short: str
    show: Callable[[float | None], str]
    caption: str
    share: bool  # an axis in per cent, from 0
    pooled: bool  # also of all signals as one

    def of(self, record: run_files.Quality) -> PerSignal:
        """Values by signal; empty if the record's version of l1kd did not know this quality."""
        values: PerSignal = getattr(record, self.name)
        return values

    def mean(self, record: run_files.Quality | None) -> float | None:
        """Mean over the signals."""
        return mean_over_signals(self.of(record)) if record else None

    def mean_column(self, place: int) -> Column:
        """The mean over signals of the object at this place of an item."""
        title = f"mean {self.name if self.share else self.short}"
        return Column(title, lambda *objects: self.mean(objects[place]), self.show)


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
# From the float teacher to the firmware, in a table and below an axis.
RUNGS = {
    "teacher": ("float teacher", "teacher"),
    "float": ("float student", "float"),
    "qkeras": ("quantized student", "quantized"),
    "csim": ("HLS C simulation", "C-sim"),
    "rtl": ("Verilog (alkaid)", "Verilog"),
}


def quality_table(run: RunFiles, quality: Quality) -> Table:
    """A quality of teacher, students and baselines: mean over signals, pooled, each signal."""
    items: list[tuple[str, str, run_files.Quality]] = [
        ("teacher" if name == "teacher" else "student", name, each)
        for name, each in run.networks.items()
    ]
    items += [
        ("baseline", *each) for each in (run.metrics.baselines if run.metrics else {}).items()
    ]

    def column(title: str, of: Callable[[run_files.Quality], float | None]) -> Column:
        def mark(kind: str, _: str, own: run_files.Quality) -> str:
            values = {v for k, _, each in items if k == kind and (v := of(each)) is not None}
            return "best" if len(values) > 1 and of(own) == max(values) else ""

        return Column(title, lambda *item: of(item[-1]), quality.show, mark=mark)

    def of_signal(key: str) -> Column:
        return column("pooled" if key == POOLED else key, lambda each: quality.of(each).get(key))

    return Table.of(
        [text("score", 1), column("mean", quality.mean)]
        + [of_signal(key) for key in [POOLED] * quality.pooled + run.signals],
        items,
        kind=0,
        chosen=lambda kind, name, _: kind == "student" and name == run.best,
        caption=quality.caption,
    )


_EMD = (
    Column("EMD, normals", "emd.normal", quantity),
    Column("EMD, anomalies", "emd.anomalous", quantity),
)
_CORRELATION = Column("rank correlation", "spearman", area)


def likeness_table(run: RunFiles) -> Table:
    """Size of teacher and students, and how like the teacher's the students' scores are."""
    scores = run.scores

    def shared(name: str, *_: Any) -> float | None:
        if scores is None or not run.taught or name == "teacher":
            return None
        return shared_decisions(scores.teacher("test"), scores.student(name, "test"))

    columns = [
        text("network", 0),
        Column("parameters", "params"),
        Column("weights [bits]", "weight_bits", lambda bits: str(bits or "float")),
        *_EMD,
        Column("EMD, anomalies, calibrated", "emd_calibrated.anomalous", quantity),
        _CORRELATION,
        Column("shared decisions", shared, percent),
    ]
    # None: a teacher has no likeness to itself.
    items = [(name, None, each) for name, each in run.networks.items()]
    return Table.of(
        columns,
        items,
        kind=lambda name, *_: "teacher" if name == "teacher" else "student",
        chosen=lambda name, *_: name == run.best,
    )


def working_point_table(run: RunFiles, student: str) -> Table:
    """Integer thresholds of a student, the rates they give and what they accept."""
    kind = run.config.distillation.score.type
    events = run.metrics.dataset.get("events", {}).get("test") if run.metrics else None

    def beyond(point: WorkingPoint) -> bool:
        return out_of_reach(point.threshold, kind)

    def threshold(point: WorkingPoint) -> str:
        return "above range" if beyond(point) else score(point.threshold * kind.lsb, kind.lsb)

    def signal_column(signal: str) -> Column:
        return Column(signal, lambda point: point.efficiency.get(signal), percent)

    columns = [
        Column("aimed at", "target_fpr", rate, left=True),
        Column("threshold [LSB]", "threshold"),
        Column("threshold [score]", threshold, str),
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
        Column("student", lambda student, place, _: "" if place else student, str, left=True),
        text("scores from", lambda *objects: RUNGS[objects[-1].stage][0]),
        *(quality.mean_column(-1) for quality in MEANS),
        *_EMD,
        _CORRELATION,
    ]
    items = [
        (student, place, rung)
        for student in run.students
        for place, rung in enumerate((run.fidelity or {}).get(student, []))
    ]
    return Table.of(columns, items, kind=0, chosen=lambda student, *_: student == run.best)


def project_of(pair: Pair) -> str:
    """The project that a pair is about: `Vitis io_stream latency`, `Verilog`, or nothing."""
    if pair.candidate in ("rtl", "rtlsim") and pair.backend is None:
        return "Verilog"
    return " ".join(filter(None, (pair.backend, pair.io_type, pair.strategy)))


def faults_of(pair: Pair) -> int:
    """Mismatches of a pair, but for those of an inexact QKeras."""
    return 0 if pair.excused else pair.mismatches


def agreement_table(run: RunFiles) -> Table:
    """Every pair of implementations that was compared."""
    columns = [
        text("student"),
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
        kind="student",
        mark=lambda _, pair: "bad" if faults_of(pair) else "",
    )


def certificate_table(run: RunFiles) -> Table:
    """Layers that are proved of every project, and layers that are tested, not proved."""
    verdicts = {"refused": "refused", "open": "tested, not proved"}

    def verdict(_: Any, __: Any, found: run_files.Doubted | None) -> str:
        return verdicts[found.state] if found else "certified for all inputs"

    columns = [
        text("student"),
        text("project", lambda _, each, __: f"{each.backend} {each.io_type} {each.strategy}"),
        text("verdict", verdict),
        Column("layers proved", lambda _, each, __: len(each.layers)),
        *map(text, ("layer", "step", "reason")),
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
        kind="student",
        mark=lambda *objects: "bad" if verdict(*objects) == "refused" else "",
    )


def float32_table(run: RunFiles) -> Table:
    """Layers that QKeras itself may not compute exactly."""
    items = [
        (record.student, *found)
        for record in run.agreement or []
        for found in record.float32.items()
    ]
    return Table.of([text("student", 0), text("layer", 1), text("why", 2)], items, kind=0)


def repair_table(run: RunFiles) -> Table:
    """Changes of an imported network, and what the lint says of it."""
    items: list[tuple[str, str, str]] = []
    if imported := run.manifest.imported:
        items += [(each.layer, each.what, each.kind) for each in imported.repairs]
        items += [
            (found.layer, f"{found.found}: {found.reason}; {found.remedy}", "refused")
            for found in imported.findings
        ]
    return Table.of(
        [text("layer", 0), text("what", 1), text("kind", 2)],
        items,
        kind=lambda *texts: "finding" if texts[2] == "refused" else "repair",
        mark=lambda *texts: "bad" if texts[2] == "refused" else "",
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
    sizes = [("normal", events)] if events else []
    sizes += events.get("signals", {}).items()
    halves = {"training": "train", "validation": "val", "test": "test"}
    items = [(name, *map(each.get, halves.values())) for name, each in sizes]
    columns = [text("sample", 0), *(Column(title, i) for i, title in enumerate(halves, 1))]
    return Table.of(columns, items)
