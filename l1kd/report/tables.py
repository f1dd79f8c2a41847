"""Tables as lists of columns, and the tables of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from l1kd.core import run_files
from l1kd.evaluation.comparison import in_words, outcome, points
from l1kd.evaluation.metrics import POOLED, mean_over_signals, shared_decisions
from l1kd.evaluation.rates import independent_share, interval, out_of_reach
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.report import number_format as numbers
from l1kd.report.load_run import AMOUNTS, Cost, RunFiles

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
    show: Callable[[Any], str] = numbers.count  # None is unknown: a dash
    left: bool = False  # texts are aligned to the left, numbers to the right
    mark: Callable[..., str] | None = None  # "best" or "bad"; None: as the row


def words(value: object) -> str:
    """A text, or a dash where there is none."""
    return numbers.DASH if value is None or value == "" else str(value)


def text(title: str, get: Get | None = None, mark: Callable[..., str] | None = None) -> Column:
    """A column of texts."""
    return Column(title, get, words, left=True, mark=mark)


@dataclass(frozen=True)
class Cell:
    """A formatted value, and whether it is the best of its kind or a failure."""

    text: str
    mark: str  # "best" | "bad" | ""


@dataclass(frozen=True)
class Row:
    """Cells, the first one naming the row; `kind` groups rows, `chosen` is the best student's."""

    cells: list[Cell]
    kind: str
    chosen: bool


@dataclass(frozen=True)
class Table:
    """Titles and rows; `text_columns` are aligned to the left, the others to the right."""

    columns: list[str]
    rows: list[Row]
    text_columns: tuple[int, ...]
    caption: str

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
            cells = []
            for column in columns:
                value = value_of(item, column.title if column.get is None else column.get)
                cells.append(Cell(column.show(value), value_of(item, column.mark or mark)))
            rows.append(Row(cells, value_of(item, kind), value_of(item, chosen)))
        left = tuple(place for place, column in enumerate(columns) if column.left)
        return Table([column.title for column in columns], rows, left, caption)

    def markdown(self) -> str:
        """As a Markdown table whose columns line up in a terminal."""
        lines = [self.columns, *([cell.text for cell in row.cells] for row in self.rows)]
        lines = [[cell.replace("|", "/").replace("\n", ", ") for cell in line] for line in lines]
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

    def of(self, record: run_files.Quality) -> run_files.PerSignal:
        """Values by signal; empty if the record's version of l1kd did not know this quality."""
        return dict(getattr(record, self.name))

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
        show=numbers.percent,
        caption="Efficiency at a false-positive rate of 1e-3. Bold: the highest of its group; "
        "tinted: the chosen student.",
        share=True,
        pooled=False,
    ),
    Quality(
        name="band",
        title="efficiency, mean over false-positive rates 3e-4 to 3e-3 (band)",
        short="efficiency in the band",
        show=numbers.percent,
        caption="Band: the mean efficiency over false-positive rates 3e-4 to 3e-3, by logarithm; "
        "a single rate hangs on a few events.",
        share=True,
        pooled=False,
    ),
    Quality(
        name="auc",
        title="AUC",
        short="AUC",
        show=numbers.area,
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

    # By bootstrap, also over the normal events that set the threshold; an AUC has none.
    error = Column("±", lambda *item: item[-1].error.get(quality.name), quality.show)
    return Table.of(
        [text("score", 1), column("mean", quality.mean), *[error] * quality.share]
        + [of_signal(key) for key in [POOLED] * quality.pooled + run.signals],
        items,
        kind=0,
        chosen=lambda kind, name, _: kind == "student" and name == run.best,
        caption=quality.caption,
    )


def comparison_table(run: RunFiles) -> Table:
    """The best student minus its teacher and each baseline, with errors."""
    metrics = run.metrics

    def apart(title: str, kind: str, key: str) -> Column:
        return Column(title, lambda _, own: points(own[kind][key]), str)

    return Table.of(
        [
            text("compared with", lambda name, _: metrics and in_words(metrics, name)),
            text(
                "the student is",
                lambda _, own: outcome(own),
                mark=lambda _, own: "bad" if outcome(own) == "worse" else "",
            ),
            apart("efficiency", "efficiency", "mean"),
            apart("band", "band", "mean"),
            *(apart(signal, "band", signal) for signal in run.signals),
        ],
        metrics.students[metrics.best].difference.items() if metrics else [],
        caption=f"{run.best} minus others, in points: means over signals, then the band by signal.",
    )


_EMD = (
    Column("EMD, normals", "emd.normal", numbers.quantity),
    Column("EMD, anomalies", "emd.anomalous", numbers.quantity),
)
_CORRELATION = Column("rank correlation", "spearman", numbers.area)


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
        Column("EMD, anomalies, calibrated", "emd_calibrated.anomalous", numbers.quantity),
        _CORRELATION,
        Column("shared decisions", shared, numbers.percent),
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
    kind, events, khz = run.config.distillation.score.type, run.events, run.config.crossings_mhz
    normals, signals = int(events.get("test", 0)), events.get("signals", {})

    def beyond(point: run_files.WorkingPoint) -> bool:
        return out_of_reach(point.threshold, kind)

    def threshold(point: run_files.WorkingPoint) -> str:
        return (
            "above range" if beyond(point) else numbers.score(point.threshold * kind.lsb, kind.lsb)
        )

    def rate(point: run_files.WorkingPoint, scale: float, show: Callable[[float], str]) -> str:
        share = independent_share(point.fpr, normals, run.distinct)
        low, high = interval(round(point.fpr * normals), normals, share)
        return numbers.spread(point.fpr * scale, (low * scale, high * scale), show)

    def ends(point: run_files.WorkingPoint, signal: str) -> tuple[float, float]:
        size = signals[signal]["test"]
        return interval(round(point.efficiency[signal] * size), size)

    def mean(point: run_files.WorkingPoint) -> str | None:
        """The mean, whose interval has the signals' in quadrature."""
        value = mean_over_signals(point.efficiency)
        if value is None:
            return None
        apart = [(own - low, high - own) for name, own in point.efficiency.items()
                 for low, high in [ends(point, name)]]  # fmt: skip
        below, above = (math.hypot(*side) / len(apart) for side in zip(*apart, strict=True))
        return numbers.spread(value, (value - below, value + above), numbers.percent)

    def signal_column(signal: str) -> Column:
        def of(point: run_files.WorkingPoint) -> str:
            return numbers.spread(point.efficiency[signal], ends(point, signal), numbers.percent)

        return Column(signal, of, str)

    rates = {"FPR reached": (1.0, numbers.rate)}
    if khz is not None:
        rates["rate [kHz]"] = (1000 * khz, numbers.quantity)
    columns = [
        Column("aimed at", "target_fpr", numbers.rate, left=True),
        Column("threshold [LSB]", "threshold"),
        Column("threshold [score]", threshold, str),
        Column("normals accepted", lambda point: point.fpr * normals),
        *(Column(title, partial(rate, scale=scale, show=show), str)
          for title, (scale, show) in rates.items()),
        *[Column("mean efficiency", mean, words)] * bool(run.signals),
        *map(signal_column, run.signals),
    ]  # fmt: skip
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


def project_of(pair: run_files.Pair) -> str:
    """The project that a pair is about: `Vitis io_stream latency`, `Verilog`, or nothing."""
    if pair.candidate in ("rtl", "rtlsim") and pair.backend is None:
        return "Verilog"
    return " ".join(filter(None, (pair.backend, pair.io_type, pair.strategy)))


def faults_of(pair: run_files.Pair) -> int:
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
    """Layers that are proved of every project, and those that are refused or open."""

    def verdict(_: Any, __: Any, found: run_files.Doubted | None) -> str:
        return run_files.IN_WORDS[found.state] if found else "certified for all inputs"

    columns = [
        text("student"),
        text("project", lambda _, each, __: each.project),
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


def layer_table(project: run_files.FirmwareRecord) -> Table:
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
    sizes = [("normal", run.events)] if run.events else []
    sizes += run.events.get("signals", {}).items()
    halves = {"training": "train", "validation": "val", "test": "test"}
    items = [(name, *map(each.get, halves.values())) for name, each in sizes]
    columns = [text("sample", 0), *(Column(title, i) for i, title in enumerate(halves, 1))]
    return Table.of(columns, items)


CANNOT_FOLLOW = "cannot follow the bunch crossings"
TIMING = "Timing is not closed: ns are cycles times the target clock."
SHOWN: dict[str, Column] = {
    "student": text("student"),
    "implementation": text("implementation", "design_text"),
    "source": text("source (tool)", "source_text"),
    **{name: Column(name.upper(), name) for name in run_files.COUNTS},
    "latency_cycles": Column("latency [cycles]", "latency_cycles"),
    "latency_ns": Column("latency [ns]", "latency_ns", numbers.quantity),
    "interval_cycles": Column("interval [cycles]", "interval_cycles"),
    "interval_ns": Column("interval [ns]", "interval_ns", numbers.quantity),
    "cycles_by": text("cycles by", "cycles_by"),
    "clock_ns": Column("clock [ns]", "clock_ns", numbers.quantity),
    "estimated_clock_ns": Column(
        "longest path by the tool [ns]", "estimated_clock_ns", numbers.quantity
    ),
    "share": text("largest share of the part", "share_text"),
    "part": text("part"),
    "follows": text(
        "at every bunch crossing",
        lambda cost: {True: "a new event", False: CANNOT_FOLLOW}.get(cost.follows_bunch_crossings),
        mark=lambda cost: "bad" if cost.follows_bunch_crossings is False else "",
    ),
}


def resource_table(run: RunFiles) -> Table:
    """Logic and latency, every number with its source."""
    columns = dict(SHOWN)
    if all(each.estimated_clock_ns is None for each in run.costs):
        del columns["estimated_clock_ns"]
    return Table.of(
        list(columns.values()),
        run.costs,
        kind="student",
        chosen="best",
        caption=f"By source. {TIMING}",
    )


def beside_tables(run: RunFiles) -> list[Table]:
    """Estimate beside synthesis of the same design, with ratios; a table per implementation."""
    # hls4ml's C++ and alkaid's Verilog are different designs.
    tables = _beside(run, "alkaid", "Verilog (alkaid)"), _beside(run, "hls4ml", "C++ (hls4ml)")
    return [table for table in tables if table.rows]


def _beside(run: RunFiles, which: str, caption: str) -> Table:
    designs: dict[tuple[str, str, str | None], dict[str, Cost]] = {}
    for each in run.costs:
        if each.implementation == which:
            design = designs.setdefault((each.student, each.design_text, each.part), {})
            design[each.source_text] = each
    sources = dict.fromkeys(
        source for design in designs.values() if len(design) > 1 for source in design
    )

    def amount_of(cost: Cost | None, name: str) -> float | None:
        """An amount that this source knows itself."""
        own = cost is not None and (name in run_files.COUNTS or not cost.of_netlist)
        return getattr(cost, name) if own else None

    def text_of(cost: Cost | None, name: str) -> str:
        ratio = cost.over_estimate.get(name) if cost else None
        return numbers.count(amount_of(cost, name)) + (f" ({ratio:.2f} x)" if ratio else "")

    items = [
        (
            next(iter(design.values())),
            SHOWN[name].title,
            *(text_of(design.get(each), name) for each in sources),
        )
        for design in designs.values()
        for name in AMOUNTS
        if sum(amount_of(each, name) is not None for each in design.values()) > 1
    ]
    columns = [SHOWN["student"], SHOWN["implementation"], text("quantity", 1)]
    columns += [Column(source, place, str) for place, source in enumerate(sources, 2)]
    caption += (
        ": the same design by every source that measures it; in parentheses, over the estimate."
    )
    return Table.of(columns, items, kind="student", chosen="best", caption=caption)


def layer_cost_tables(run: RunFiles) -> list[Table]:
    """Costs of layers, a table for each record that has them; the best student's first."""

    def of_sum(layer: run_files.LayerCost, total: float) -> float | None:
        return layer.lut / total if layer.lut is not None and total else None

    columns = [text("layer", "name"), SHOWN["lut"], Column("of the sum", of_sum, numbers.percent)]
    columns += [SHOWN[name] for name in ("ff", "dsp", "bram", "latency_cycles")]
    tables = []
    for cost in run.costs:
        total = sum(layer.lut or 0 for layer in cost.layers)
        caption = f"{cost.student}: {cost.design_text}, {cost.source_text}"
        items = [(layer, total) for layer in cost.layers]
        tables.append(Table.of(columns, items, caption=caption))
    return [table for table in tables if table.rows]


# Further tables under “Logic and latency”: a title, which needs tables to be shown, and a function
# that gives them with their captions.
COST_TABLES: tuple[tuple[str, Callable[[RunFiles], list[Table]]], ...] = (
    ("Estimate beside synthesis", beside_tables),
    ("Cost by layer", layer_cost_tables),
)


def cost_notes(run: RunFiles) -> list[str]:
    """Notes on the numbers, each with the sources that it is about."""
    about: dict[str, dict[str, None]] = {}
    for each in run.costs:
        if each.note:
            about.setdefault(each.note, {})[f"{each.design_text}, {each.source_text}"] = None
    return [f"{' and '.join(who)}: {note}" for note, who in about.items()]


def verilog_table(run: RunFiles) -> Table:
    """The written Verilog, or why it was refused, and whether a simulator confirmed it."""

    def written(each: run_files.RtlRecord) -> str:
        return each.directory or f"refused: {each.refused or 'no reason given'}"

    def simulated(each: run_files.RtlRecord) -> str | None:
        """Result of the simulation: scores, and the cycle in which they appear."""
        pairs = [pair for pair in run.pairs(each.student) if pair.candidate == "rtlsim"]
        if each.directory is None or not pairs:
            return None if each.directory is None else "no"
        events = numbers.count(sum(pair.events for pair in pairs))
        if different := sum(pair.mismatches for pair in pairs):
            return f"{numbers.count(different)} of {events} events differ"
        if each.latency_cycles is None:
            return f"{events} events equal"
        cycles = numbers.plural(each.latency_cycles, "cycle")
        return f"{events} events equal, each {cycles} after it was sampled, as reported"

    columns = [
        text("student"),
        text("written to", written),
        text("top module", "top"),
        text("part"),
        Column("clock [ns]", "clock_ns", numbers.quantity),
        text("input", "input_type"),
        text("output", "output_type"),
        SHOWN["latency_cycles"],
        SHOWN["interval_cycles"],
        Column("LUT, estimate", "lut"),
        Column("FF, estimate", "ff"),
        text("simulated", simulated),
    ]
    return Table.of(
        columns,
        sorted(run.rtl or [], key=lambda record: record.student != run.best),
        kind="student",
        chosen=lambda each: each.student == run.best,
    )


def choice_table(run: RunFiles) -> Table:
    """Students that were considered, their estimated cost, and why some were excluded."""

    def limited(key: str, limit: float) -> Column:
        name = BUDGETS[key]
        return Column(
            f"{key} {amount(name, limit)}",
            name,
            lambda value: numbers.DASH if value is None else amount(name, value),
        )

    def verdict(each: run_files.Candidate) -> str:
        words = "; ".join(each.excluded) or "within the budgets"
        if each.note:
            words += f" ({each.note})"
        if each.student == run.best:
            return f"chosen as the nearest miss: {words}" if each.excluded else "chosen"
        return words

    columns = [
        text("student"),
        Column(f"{run.config.choose.by} on validation halves", "quality", numbers.area),
        *(limited(*each) for each in run.config.choose.budgets.items()),
        Column("largest cost over its budget", "ratio", numbers.share),
        text("verdict", verdict),
    ]
    return Table.of(
        columns,
        run.metrics.choice if run.metrics else [],
        chosen=lambda each: each.student == run.best,
        mark=lambda each: "bad" if each.excluded else "",
    )
