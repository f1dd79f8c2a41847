"""The figures of a page, in groups that share a legend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from l1kd.core.run_files import PerSignal, Quality, Resources
from l1kd.evaluation.rates import REPORTED_FPR, threshold
from l1kd.report import number_format, plots
from l1kd.report.costs import implementation, part_name, source
from l1kd.report.load_run import RunFiles, mean_quality
from l1kd.report.plots import BASELINE, NORMAL, TEACHER, Line, lines, swatch
from l1kd.report.tables import MEANS, QUALITIES

_LAYERS = 24  # more bars than these do not read; the table has them all


def cost(run: RunFiles) -> Group | None:
    """The largest share of the part by every source, and the best student's LUTs by layer."""
    found = run.costs
    styles = lines(list(dict.fromkeys(implementation(each) for each in found)))
    drawings = []
    shared = [each for each in found if each.largest_share is not None]
    if shared:
        drawings.append(Drawing(_shares(shared, styles), "largest share of the part, by source"))
    for number, each in enumerate(found):
        if each.student == run.best and any(layer.lut for layer in each.layers):
            svg = _layers(f"cost-layers-{number}", each, styles[implementation(each)])
            caption = f"{each.student}: LUT by layer, {source(each)}"
            drawings.append(Drawing(svg, caption))
    if not drawings:
        return None
    drawn = {implementation(each) for each in shared} | {
        implementation(e) for e in found if e.student == run.best
    }
    return Group(drawings, legend({name: styles[name] for name in styles if name in drawn}))


def _shares(found: Sequence[Resources], styles: dict[str, Line]) -> str:
    labels = [f"{each.student}, {each.source}" for each in found]
    shares = [each.largest_share or 0.0 for each in found]
    names = dict.fromkeys(str(part_name(each.part)) for each in found)
    texts = map(number_format.share, shares)
    return plots.amounts(
        "cost-shares",
        list(zip(labels, (100 * value for value in shares), texts, strict=True)),
        [styles[implementation(each)].colour for each in found],
        axis=f"largest share of a {' or '.join(names)} [%]",
        show=lambda value: f"{value:.3g}",
        label=f"Share of the part: {', '.join(labels)}",
    )


def _layers(name: str, cost: Resources, style: Line) -> str:
    layers = [(layer.name, layer.lut) for layer in cost.layers if layer.lut is not None]
    rest = layers[_LAYERS:]
    bars = layers[:_LAYERS]
    if rest:
        bars.append((f"{len(rest)} others", sum(lut for _, lut in rest)))
    return plots.amounts(
        name,
        [(label, lut, number_format.count(lut)) for label, lut in bars],
        [style.colour] * len(bars),
        axis="LUT",
        show=number_format.count,
        label=f"LUT of {cost.student} by layer: {source(cost)}",
    )


MANY = 6  # more signals than this are pooled where each would be a line among the others
# The rungs of the ladder, short enough to stand below an axis.
SHORT = {
    "teacher": "teacher",
    "float": "float",
    "qkeras": "quantized",
    "csim": "C-sim",
    "rtl": "Verilog",
}


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Group:
    """Figures with one legend, label by swatch."""

    drawings: list[Drawing]
    legend: list[tuple[str, str]]


def legend(styles: Mapping[str, Line]) -> list[tuple[str, str]]:
    """Labels with a piece of each line."""
    return [(name, swatch(line)) for name, line in styles.items()]


def _student_lines(run: RunFiles) -> dict[str, Line]:
    """Every student's line, the same in all figures, whichever was chosen."""
    return lines([student.name for student in run.config.students])


def learning(run: RunFiles) -> Group | None:
    """Learning curves of the teacher and of the students."""
    history = run.history
    if history is None or not history.epochs:
        return None
    phases = history.phases
    starts = [
        history.epochs[i]
        for i in range(1, len(phases))
        if phases[i] and phases[i - 1] and phases[i] != phases[i - 1]
    ]
    styles = {"teacher": TEACHER, **_student_lines(run)}
    curves = {name: curve for name in styles if (curve := history.curve(name)) is not None}
    taught = {name: curve for name, curve in curves.items() if name != "teacher"}
    wanted = [
        ("teacher", "mean raw score", "Teacher: mean reconstruction error", curves.keys() - taught),
        ("students", "mean absolute error [output units]",
         "Students: mean absolute error of the score", taught.keys()),
    ]  # fmt: skip
    drawings = []
    for who, loss, caption, names in wanted:
        if names:
            chosen = {name: curve for name, curve in curves.items() if name in names}
            svg = plots.learning_curves(
                f"learning-{who}", history.epochs, chosen, styles, phase_starts=starts, loss=loss
            )
            drawings.append(Drawing(svg, caption))
    return Group(drawings, legend({n: styles[n] for n in curves})) if drawings else None


def distributions(run: RunFiles) -> Group | None:
    """Scores of the teacher and of every student: normals and signals."""
    scores = run.scores
    if scores is None:
        return None
    samples = ["test", *run.signals]
    taken = {}
    if run.taught:
        taken["teacher"] = {sample: scores.target(sample) for sample in samples}
    for name in run.students:
        taken[name] = {sample: scores.student(name, sample) for sample in samples}
    edges = plots.bins([part for parts in taken.values() for part in parts.values()])
    many = len(run.signals) > MANY
    pooled = f"all {len(run.signals)} signals"
    styles = lines([pooled] if many else run.signals)
    drawings = []
    for number, (name, parts) in enumerate(taken.items()):
        normal = parts["test"]
        signals = {signal: parts[signal] for signal in run.signals}
        svg = plots.distribution(
            f"scores-{number}",
            normal,
            {pooled: np.concatenate(list(signals.values()))} if many else signals,
            edges,
            styles,
            score=f"score of {name} [output units]",
            threshold=threshold(normal, REPORTED_FPR),
        )
        drawings.append(Drawing(svg, "teacher, transformed" if name == "teacher" else name))
    return Group(drawings, legend({"normal": Line(NORMAL.colour, "", 6), **styles}))


def best_baseline(run: RunFiles) -> str | None:
    """The baseline with the highest mean efficiency; mean AUC where that ties."""
    if run.metrics is None or not run.signals:
        return None
    means = {name: mean_quality(each) for name, each in run.metrics.baselines.items()}
    return max(means, key=lambda name: [value or 0.0 for value in means[name][::-1]], default=None)


def roc(run: RunFiles) -> Group | None:
    """A ROC curve for each signal: teacher, students and the best baseline."""
    scores = run.scores
    if scores is None or not run.signals or run.metrics is None:
        return None
    read: dict[str, Callable[[str], Any]] = {}  # scores of a sample, by curve
    styles: dict[str, Line] = {}
    if (baseline := best_baseline(run)) is not None:
        read[f"baseline {baseline}"] = partial(scores.baseline, baseline)
        styles[f"baseline {baseline}"] = BASELINE
    if run.taught:
        read["teacher"], styles["teacher"] = scores.teacher, TEACHER
    read |= {name: partial(scores.student, name) for name in run.students}
    styles |= _student_lines(run)
    drawings = []
    normal_events = len(scores.student(run.metrics.best, "test"))
    for number, signal in enumerate(run.signals):
        curves = {name: plots.roc_curve(of("test"), of(signal)) for name, of in read.items()}
        svg = plots.roc(
            f"roc-{number}",
            curves,
            styles,
            signal=signal,
            events=normal_events,
            rate_axis=run.of_crossings,
        )
        drawings.append(Drawing(svg, signal))
    return Group(drawings, legend(styles))


def density(run: RunFiles) -> Group | None:
    """The best student's score against the teacher's, for normals and for signals."""
    scores = run.scores
    if scores is None or run.metrics is None or not run.taught:
        return None
    best = run.metrics.best
    parts = {"normal test events": (scores.target("test"), scores.student(best, "test"))}
    if run.signals:
        parts["all signals"] = (
            np.concatenate([scores.target(signal) for signal in run.signals]),
            np.concatenate([scores.student(best, signal) for signal in run.signals]),
        )
    edges = plots.bins([values for pair in parts.values() for values in pair], 64)
    drawings = []
    for i, (events, pair) in enumerate(parts.items()):
        svg = plots.density(f"density-{i}", *pair, edges, student=best, events=events)
        drawings.append(Drawing(svg, f"{best} against the teacher, {events}"))
    return Group(drawings, [])


def quality(run: RunFiles) -> Group | None:
    """Efficiency and AUC of teacher, students and baselines at a glance."""
    metrics = run.metrics
    if metrics is None or not run.signals:
        return None
    signals, bars = lines(run.signals), _student_lines(run)
    scored: dict[str, Quality] = {"teacher": metrics.teacher} if metrics.teacher else {}
    scored |= {name: metrics.students[name] for name in run.students} | metrics.baselines
    bars |= {"teacher": TEACHER, **dict.fromkeys(metrics.baselines, BASELINE)}
    drawings = []
    for each in QUALITIES:
        rows: dict[str, PerSignal] = {n: getattr(q, each.name) for n, q in scored.items()}
        values = [value for row in rows.values() for value in row.values()]
        if not values:  # a run of a version that did not know this quality
            continue
        limits = (
            (0.0, min(1.0, max(values) * 1.08 + 0.01))
            if each.share
            else (0.5 if min(values) >= 0.5 else 0.0, 1.0)
        )
        svg = plots.per_signal(
            f"quality-{each.name}",
            rows,
            signals,
            bars,
            quantity=each.title,
            limits=limits,
            percent=each.share,
        )
        drawings.append(Drawing(svg, f"{each.title}: mean over signals (bar) and every signal"))
    return Group(drawings, [(name, _dot(line)) for name, line in signals.items()])


def ladders(run: RunFiles) -> Group | None:
    """Mean AUC and mean efficiency from the float teacher to the firmware."""
    fidelity = run.fidelity
    if not fidelity or not run.signals:
        return None
    present = {rung.stage for rungs in fidelity.values() for rung in rungs}
    order: dict[str, str] = {stage: label for stage, label in SHORT.items() if stage in present}
    styles = {name: line for name, line in _student_lines(run).items() if name in fidelity}
    drawings = []
    for each in MEANS:
        steps = {
            student: {str(rung.stage): each.mean(rung) for rung in rungs}
            for student, rungs in fidelity.items()
        }
        caption = f"mean {each.short}"
        name = f"ladder-{each.name}"
        svg = plots.ladder(name, steps, styles, order=order, quantity=caption, percent=each.share)
        drawings.append(Drawing(svg, f"{caption}, rung by rung"))
    return Group(drawings, legend(styles))


def _dot(line: Line) -> str:
    shapes = {
        "o": '<circle cx="6" cy="5" r="3.4"/>',
        "s": '<path d="M2.8 1.8h6.4v6.4H2.8z"/>',
        "^": '<path d="M6 1.2 10 8.4H2z"/>',
        "D": '<path d="M6 .8 10.2 5 6 9.2 1.8 5z"/>',
        "v": '<path d="M6 8.8 2 1.6h8z"/>',
        "P": '<path d="M4.5 1.5h3v2h2v3h-2v2h-3v-2h-2v-3h2z"/>',
        "X": '<path d="m3.2 1.2 2.8 2 2.8-2 1 1-2 2.8 2 2.8-1 1-2.8-2-2.8 2-1-1 2-2.8-2-2.8z"/>',
        "p": '<path d="M6 1 10 4 8.5 8.6h-5L2 4z"/>',
    }
    return (
        '<svg class="swatch" viewBox="0 0 12 10" width="12" height="10" aria-hidden="true" '
        f'fill="{line.colour}">{shapes[line.marker]}</svg>'
    )
