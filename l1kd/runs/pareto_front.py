"""The Pareto front of a study: table, plot and a configuration for every point of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import yaml
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from l1kd.core.config import Config, Student
from l1kd.core.files import atomic, atomic_directory, read_json, write_json
from l1kd.report.table import Column, Table, text
from l1kd.runs.search_study import Judged, Place, describe

_CHANCE = 0.5


@dataclass(frozen=True)
class Point:
    """A student with its quality and cost."""

    label: str  # its number on the front, or the name of a reference
    trial: int | None  # none for a reference
    student: Student
    judged: Judged

    def as_json(self) -> dict[str, Any]:
        """As `front.json` has it."""
        student = self.student.model_dump(mode="json", exclude_defaults=True)
        own = {"label": self.label, "trial": self.trial}
        return {**own, **vars(self.judged), "student": student}


COLUMNS = (
    text("", "label"),
    Column("trial", "trial", lambda trial: "" if trial is None else str(trial)),
    Column("AUC", lambda point: point.judged.auc, "{:.4f}".format),
    Column("efficiency", lambda point: 100 * point.judged.efficiency, "{:.1f} %".format),
    Column("LUT", lambda point: point.judged.lut, "{:,.0f}".format),
    Column("FF", lambda point: point.judged.ff, "{:,.0f}".format),
    Column("cycles", lambda point: point.judged.latency_cycles, str),
    Column("ns", lambda point: point.judged.latency_ns, "{:g}".format),
    Column("zeros", lambda p: 100 * p.judged.zeros / p.judged.weights, "{:.0f} %".format),
    text("what", lambda point: describe(point.student)),
)


def points(place: Place, study: optuna.Study) -> tuple[list[Point], list[Point], list[Point]]:
    """The front, cheapest first and better than chance; every finished trial; the references."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    every = [_point(trial) for trial in finished]
    best = {trial.number for trial in study.best_trials} if finished else set()
    ordered = sorted(
        (point for point in every if point.trial in best and point.judged.auc > _CHANCE),
        key=lambda point: (point.judged.lut, -point.judged.auc, point.trial),
    )
    width = max(len(str(len(ordered))), 2)
    front = [
        Point(f"{number:0{width}}", point.trial, point.student, point.judged)
        for number, point in enumerate(ordered, 1)
    ]
    known = {student.name: student for student in place.config.students}
    references = [
        Point(name, None, known[name], Judged(**values))
        for name, values in read_json(place.references).items()
    ]
    return front, every, references


def _point(trial: FrozenTrial) -> Point:
    own = trial.user_attrs
    judged = Judged(**{each.name: own[each.name] for each in fields(Judged)})
    return Point(
        f"trial {trial.number}", trial.number, Student.model_validate(own["student"]), judged
    )


def write_front(place: Place, study: optuna.Study) -> str:
    """Write `front.json`, `front.md`, the plots and `front/`, each whole or not at all.

    The table with a title, for the terminal.
    """
    front, every, references = points(place, study)
    directory = place.directory
    found = {
        "objectives": list(place.search.objectives),
        "trials": len(every),
        "clock_ns": place.config.firmware.clock_ns,
        "references": [point.as_json() for point in references],
        "front": [point.as_json() for point in front],
    }
    write_json(directory / "front.json", found)
    table = Table.of(COLUMNS, [*references, *front]).markdown()
    with atomic(directory / "front.md") as temporary:
        temporary.write_text(
            f"{table}\n\n{len(every)} trials. AUC and efficiency (at a false-positive rate of "
            "1e-3): means over the signals' validation halves. LUT, FF and cycles: estimates of "
            "adder-only logic.\n"
        )
    with atomic_directory(directory / "front") as temporary:
        for point in front:
            configuration = _header(point) + _configuration(place.config, point)
            (temporary / f"{point.label}.yaml").write_text(configuration)
    _plot(directory, front, every, references)
    title = "Pareto front: means over the signals' validation halves, estimates of logic"
    return f"{title}\n{table}"


def _header(point: Point) -> str:
    judged = point.judged
    return (
        f"# Trial {point.trial} of a search. There, on validation halves, its mean AUC was\n"
        f"# {judged.auc:.4f}, its mean efficiency {judged.efficiency:.3f}; expected are "
        f"{judged.lut:.0f} LUT, {judged.ff:.0f} FF\n# and {judged.latency_cycles} cycles. "
        "`l1kd run` trains teacher and student anew.\n"
    )


def _configuration(config: Config, point: Point) -> str:
    raw = config.model_dump(mode="json", exclude={"search", "students"})
    raw["name"] = f"{config.name[:56]}-{point.label}"
    raw["students"] = [point.student.model_dump(mode="json", exclude_defaults=True)]
    return yaml.safe_dump(raw, sort_keys=False, width=100)


def _plot(directory: Path, front: list[Point], every: list[Point], references: list[Point]) -> None:
    """Quality against LUTs, for both measures of it."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    styles: list[tuple[list[Point], dict[str, Any]]] = [
        (every, {"color": "0.75", "s": 10, "label": f"{len(every)} trials"}),
        (front, {"color": "#0072b2", "s": 22, "label": "Pareto front"}),
    ]
    for point, marker in zip(references, "*DsP^v<>X" * len(references), strict=False):
        style = {"color": "#d55e00", "marker": marker, "s": 60, "label": point.label}
        styles.append(([point], style))
    names = (("auc", "mean AUC"), ("efficiency", "mean efficiency at 1e-3"))
    for axes, (name, label) in zip(panels, names, strict=True):
        for group, style in styles:
            luts = [max(point.judged.lut, 1) for point in group]
            axes.scatter(luts, [getattr(point.judged, name) for point in group], **style)
        axes.set(xscale="log", xlabel="LUT (estimate)", ylabel=f"{label}, validation halves")
    panels[0].legend(fontsize="small", loc="lower right")
    with mpl.rc_context({"svg.hashsalt": "l1kd"}):
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            with atomic(directory / f"front.{suffix}") as temporary:
                figure.savefig(temporary, metadata=metadata, dpi=150)
