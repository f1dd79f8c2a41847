"""The paper's figures with the points of a sweep: ours filled, the paper's hollow.

A figure per data set and quantity: the models from left to right, a colour for each way to train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l1kd.core.files import atomic
from l1kd.data.mnist import KNOWN
from l1kd.report import paper_numbers
from l1kd.report.figures import Group, Line, lines
from l1kd.report.number_format import plural
from l1kd.report.paper_numbers import TEACHER

Cell = Mapping[str, Any]

_DODGE, _SPREAD = 0.055, 0.7  # between neighbouring series of one model, and between all of them
_ALL_CLASSES = 10


@dataclass(frozen=True)
class _Quantity:
    """A figure: its file, the keys of a cell, the axis."""

    file: str
    value: str
    error: str
    paper: str  # attribute of `paper_numbers.Published`
    label: str
    bottom: float | None
    unit: float = 1.0


_QUANTITIES = (
    _Quantity("auc", "auc_mean", "auc_se", "auc", "AUC", None),
    _Quantity(
        "emd",
        "emd_anomalous",
        "",  # its standard error is not in the tables
        "emd_anomalous",
        "anomalies' EMD [10\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT THREE}]",
        0.0,
        1e-3,
    ),
)


@dataclass
class _Series:
    """Cells of one colour, by model: a way to train, at one width."""

    mode: str
    label: str
    cells: dict[str, Cell] = field(default_factory=dict)


def draw(cells: Sequence[Cell], directory: Path) -> list[Path]:
    """Write `auc-<data>.svg` and `emd-<data>.svg` of every data set, without what is unknown."""
    written = []
    for data in dict.fromkeys(str(cell["data"]) for cell in cells):
        own = [cell for cell in cells if cell["data"] == data]
        for quantity in _QUANTITIES:
            series = _series([cell for cell in own if cell.get(quantity.value) is not None])
            if series:
                path = directory / f"{quantity.file}-{data}.svg"
                svg = _figure(data, series, quantity)
                # A page's `<svg>` as a file, on white.
                opening = '<svg xmlns="http://www.w3.org/2000/svg" style="background: #ffffff"'
                with atomic(path) as temporary:
                    temporary.write_text(svg.replace("<svg", opening, 1) + "\n")
                written.append(path)
    return written


def _series(cells: Sequence[Cell]) -> list[_Series]:
    """Students that were trained alike; a teacher goes with those that it taught."""
    found: dict[tuple[str, str, Any], _Series] = {}
    students = [cell for cell in cells if cell["model"] != TEACHER]
    for cell in sorted(students, key=lambda cell: _place(paper_numbers.MODES, cell["mode"])):
        mode, group, bits = str(cell["mode"]), str(cell.get("group") or ""), cell["weight_bits"]
        own = found.setdefault((mode, group, bits), _Series(mode, f"{mode}, {bits} bits"))
        own.cells.setdefault(str(cell["model"]), cell)
    for series in found.values():
        classes = min(len(cell["classes"]) for cell in series.cells.values())
        if 0 < classes < _ALL_CLASSES:
            series.label += f", {plural(classes, 'class', 'classes')}"
    labels = [series.label for series in found.values()]
    for (_, group, _), series in found.items():
        if labels.count(series.label) > 1 and group:
            series.label += f" ({group})"
    for teacher in cells:
        for series in found.values():
            if any(taught(teacher, student) for student in series.cells.values()):
                series.cells.setdefault(TEACHER, teacher)
                break
    return list(found.values())


def taught(teacher: Cell, student: Cell) -> bool:
    """True of a teacher's cell and the cell of a student that it taught."""
    groups, others = (set((each.get("group") or "").split(", ")) for each in (teacher, student))
    kind = all(teacher[key] == student[key] for key in ("data", "mode"))
    return teacher["model"] == TEACHER != student["model"] and kind and bool(groups & others)


def _place(order: Sequence[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _figure(data: str, series: Sequence[_Series], quantity: _Quantity) -> str:
    models = sorted(
        {model for each in series for model in each.cells},
        key=lambda model: _place(paper_numbers.MODELS, model),
    )
    styles = lines(each.label for each in series)
    firsts: dict[str, Line] = {}
    for each in series:
        firsts.setdefault(each.mode, styles[each.label])
    papers: dict[str, dict[str, float]] = {}
    for cell in paper_numbers.CELLS:
        value = getattr(cell, quantity.paper)
        if cell.data == data and cell.mode in firsts and cell.model in models and value is not None:
            papers.setdefault(cell.mode, {})[cell.model] = value
    count = len(series) + len(papers)
    title = KNOWN[data].title if data in KNOWN else data
    beside = f", beside {paper_numbers.SOURCE}" if papers else ""
    label = f"{quantity.label}, {title}: {', '.join(each.label for each in series)}{beside}"
    group = Group()
    with group.draw("", label) as axes:
        axes.figure.set_size_inches(max(4.5, 0.95 * len(models)), 3.4 + 0.085 * count)
        handles: list[Any] = []

        def plot(values: Mapping[str, float], line: Line, **options: Any) -> None:
            """One series, moved aside a little: points at the models that it has."""
            shift = min(_DODGE, _SPREAD / count) * (len(handles) - (count - 1) / 2)
            x = [place + shift for place, model in enumerate(models) if model in values]
            heights = [values[model] / quantity.unit for model in models if model in values]
            options = line.options() | {"marker": line.marker, "linewidth": 0.9} | options
            handles.append(axes.errorbar(x, heights, elinewidth=1.4, markersize=5, **options))

        for each in series:
            own = [each.cells[model] for model in models if model in each.cells]
            errors = [float(cell.get(quantity.error) or 0.0) / quantity.unit for cell in own]
            plot(
                {model: float(cell[quantity.value]) for model, cell in each.cells.items()},
                styles[each.label],
                yerr=errors if any(errors) else None,
                label=each.label,
            )
        for mode, values in papers.items():
            plot(
                values,
                firsts[mode],
                linestyle=(0, (1, 2)),
                markerfacecolor="none",
                zorder=1.9,  # below ours
                label=f"{mode}, the paper's float students",
            )
        sizes = paper_numbers.PARAMETERS if data in paper_numbers.DATA else {}
        labels = [f"{model}\n{sizes[model]:,}" if model in sizes else model for model in models]
        axes.set_xticks(range(len(models)), labels)
        axes.set_xlim(-0.6, len(models) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=quantity.bottom)
        several = any(len(cell["classes"]) > 1 for each in series for cell in each.cells.values())
        axes.set_ylabel(quantity.label + (", mean over classes" if several else ""))
        axes.set_title(title)
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return group.drawings[0].svg
