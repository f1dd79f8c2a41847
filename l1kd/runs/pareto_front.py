"""The Pareto front of a study: table, plot and a configuration for every point of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from l1kd.core.config import Config, Student
from l1kd.core.files import atomic, atomic_directory, read_json, write_json
from l1kd.runs.search_candidates import Judged
from l1kd.runs.search_study import Place, describe

if TYPE_CHECKING:
    import optuna

COLUMNS = ("", "trial", "AUC", "efficiency", "LUT", "FF", "cycles", "ns", "zeros", "what")
_LEFT = {"", "what"}
_CHANCE = 0.5


@dataclass(frozen=True)
class Point:
    """A student with its quality and cost; a reference has no trial."""

    label: str  # its number on the front, or the name of a reference
    trial: int | None  # none for a reference
    student: Student  # what it is and what it is worth
    judged: Judged

    def as_json(self) -> dict[str, Any]:
        """As `front.json` has it."""
        student = self.student.model_dump(mode="json", exclude_defaults=True)
        own = {"label": self.label, "trial": self.trial}
        return {**own, **vars(self.judged), "student": student}


def points(place: Place, study: optuna.Study) -> tuple[list[Point], list[Point], list[Point]]:
    """The front, cheapest first and better than chance; every finished trial; the references."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    every = [_point(f"trial {trial.number}", trial) for trial in finished]
    best = {trial.number for trial in study.best_trials} if finished else set()
    ordered = sorted(
        (point for point in every if point.trial in best and point.judged.auc > _CHANCE),
        key=lambda point: (point.judged.lut, -point.judged.auc, point.trial),
    )
    width = len(str(len(ordered)))
    front = [
        Point(str(number).rjust(max(width, 2), "0"), point.trial, point.student, point.judged)
        for number, point in enumerate(ordered, 1)
    ]
    known = {student.name: student for student in place.config.students}
    references = [
        Point(name, None, known[name], Judged(**values))
        for name, values in read_json(place.references).items()
    ]
    return front, every, references


def _point(label: str, trial: optuna.trial.FrozenTrial) -> Point:
    own = trial.user_attrs
    judged = Judged(**{each.name: own[each.name] for each in fields(Judged)})
    return Point(label, trial.number, Student.model_validate(own["student"]), judged)


def rows(front: list[Point], references: list[Point]) -> list[list[str]]:
    """The table's cells."""
    return [
        [
            point.label,
            "" if point.trial is None else str(point.trial),
            f"{point.judged.auc:.4f}",
            f"{100 * point.judged.efficiency:.1f} %",
            f"{point.judged.lut:,.0f}",
            f"{point.judged.ff:,.0f}",
            str(point.judged.latency_cycles),
            f"{point.judged.latency_ns:g}",
            f"{100 * point.judged.zeros / point.judged.weights:.0f} %",
            describe(point.student),
        ]
        for point in (*references, *front)
    ]


def table(front: list[Point], references: list[Point]) -> Table:
    """For the terminal."""
    title = "Pareto front: means over the signals' validation halves, estimates of logic"
    shown = Table(title=title)
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=True)
    for cells in rows(front, references):
        shown.add_row(*cells)
    return shown


def write_front(place: Place, study: optuna.Study) -> tuple[list[Point], list[Point]]:
    """Write `front.json`, `front.md`, the plots and `front/`; each whole or not at all."""
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
    with atomic(directory / "front.md") as temporary:
        temporary.write_text(_markdown(front, references, len(every)))
    with atomic_directory(directory / "front") as temporary:
        for point in front:
            text = _header(point) + _configuration(place.config, point)
            (temporary / f"{point.label}.yaml").write_text(text)
    _plot(directory, front, every, references)
    return front, references


def _markdown(front: list[Point], references: list[Point], trials: int) -> str:
    rule = [("---" if column in _LEFT else "---:") for column in COLUMNS]
    lines = [list(COLUMNS), rule, *rows(front, references)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + (
        f"\n{trials} trials. AUC and efficiency (at a false-positive rate of 1e-3): means over the "
        "signals' validation halves. LUT, FF and cycles: estimates of adder-only logic.\n"
    )


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
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
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
