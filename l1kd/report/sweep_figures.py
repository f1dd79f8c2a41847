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
from l1kd.report.number_format import plural
from l1kd.report.paper_numbers import TEACHER
from l1kd.report.plots import Line, drawing, lines

Cell = Mapping[str, Any]

_DODGE, _SPREAD = 0.055, 0.7  # between neighbouring series of one model, and between all of them
_ALL_CLASSES = 10
_NAMES = {name: known.title for name, known in KNOWN.items()}


@dataclass(frozen=True)
class _Quantity:
    """A figure: its file, the keys of a cell, the axis."""

    file: str
    value: str
    error: str
    paper: str
    label: str
    teacher: bool
    unit: float = 1.0


_QUANTITIES = (
    _Quantity("auc", "auc_mean", "auc_se", "auc", "AUC", True),
    _Quantity(
        "emd",
        "emd_anomalous",
        "",  # its standard error is not in the tables
        "emd_anomalous",
        "anomalies' EMD [10\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT THREE}]",
        False,
        1e-3,
    ),
)


@dataclass
class _Series:
    """Points of one colour: a way to train, at one width."""

    mode: str
    label: str
    cells: dict[str, Cell] = field(default_factory=dict)


def draw(cells: Sequence[Cell], directory: Path) -> list[Path]:
    """Draw `auc-<data>.svg` and `emd-<data>.svg` of every data set; return what was written.

    Cells are those of `l1kd.report.sweep_tables.summarise`; what is missing or None is left out.
    """
    written = []
    for data in dict.fromkeys(str(cell["data"]) for cell in cells):
        own = [cell for cell in cells if cell["data"] == data]
        for quantity in _QUANTITIES:
            series = _series([c for c in own if c.get(quantity.value) is not None], quantity)
            if series:
                path = directory / f"{quantity.file}-{data}.svg"
                svg = _figure(f"{quantity.file}-{data}", data, series, quantity)
                with atomic(path) as temporary:
                    temporary.write_text(_standing_alone(svg))
                written.append(path)
    return written


def _series(cells: Sequence[Cell], quantity: _Quantity) -> list[_Series]:
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
            series.label = f"{series.label} ({group})"
    if quantity.teacher:
        for cell in cells:
            if cell["model"] == TEACHER:
                _taught(cell, found)
    return list(found.values())


def _taught(cell: Cell, found: dict[tuple[str, str, Any], _Series]) -> None:
    groups = set(str(cell.get("group") or "").split(", "))
    for (mode, group, _), series in found.items():
        if mode == cell["mode"] and groups & set(group.split(", ")):
            series.cells.setdefault(TEACHER, cell)
            return


def _place(order: Sequence[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


@drawing
def _figure(axes: Any, data: str, series: Sequence[_Series], quantity: _Quantity) -> str:
    models = sorted(
        {model for each in series for model in each.cells},
        key=lambda model: _place(paper_numbers.MODELS, model),
    )
    places = {model: place for place, model in enumerate(models)}
    styles = lines([each.label for each in series])
    papers = list(dict.fromkeys(each.mode for each in series if _paper(data, each.mode, quantity)))
    label = quantity.label
    if any(len(cell["classes"]) > 1 for each in series for cell in each.cells.values()):
        label += ", mean over classes"
    count = len(series) + len(papers)
    axes.figure.set_size_inches(max(4.5, 0.95 * len(models)), 3.4 + 0.085 * count)
    handles = [
        _ours(axes, each, styles[each.label], quantity, places, _shift(number, count))
        for number, each in enumerate(series)
    ]
    for number, mode in enumerate(papers):
        style = next(styles[each.label] for each in series if each.mode == mode)
        values = _paper(data, mode, quantity)
        points = [
            (places[m] + _shift(len(series) + number, count), v)
            for m, v in values.items()
            if m in places
        ]
        if points:
            handles += axes.plot(
                *zip(*points, strict=True),
                linestyle=(0, (1, 2)),
                linewidth=0.9,
                marker=style.marker,
                markersize=5,
                markerfacecolor="none",
                color=style.colour,
                label=f"{mode}, the paper's float students",
            )
    axes.set_xticks(range(len(models)), [_label(model, data) for model in models])
    axes.set_xlim(-0.6, len(models) - 0.4)
    axes.grid(visible=False, axis="x")
    if not quantity.teacher:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.set_title(_NAMES.get(data, data))
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    drawn = ", ".join(each.label for each in series)
    beside = f", beside {paper_numbers.SOURCE}" if papers else ""
    return f"{quantity.label}, {_NAMES.get(data, data)}: {drawn}{beside}"


def _ours(
    axes: Any,
    series: _Series,
    style: Line,
    quantity: _Quantity,
    places: Mapping[str, int],
    shift: float,
) -> Any:
    order = sorted(series.cells, key=lambda model: places[model])
    cells = [series.cells[model] for model in order]
    values = [float(cell[quantity.value]) / quantity.unit for cell in cells]
    errors = [float(cell.get(quantity.error) or 0.0) / quantity.unit for cell in cells]
    return axes.errorbar(
        [places[model] + shift for model in order],
        values,
        yerr=errors if any(errors) else None,
        linestyle=style.options()["linestyle"],
        linewidth=0.9,
        elinewidth=1.4,
        marker=style.marker,
        markersize=5,
        color=style.colour,
        label=series.label,
    )


def _shift(number: int, count: int) -> float:
    return min(_DODGE, _SPREAD / count) * (number - (count - 1) / 2)


def _paper(data: str, mode: str, quantity: _Quantity) -> dict[str, float]:
    found = {}
    for model in paper_numbers.MODELS:
        cell = paper_numbers.find(data, mode, model)
        value = getattr(cell, quantity.paper) if cell else None
        if value is not None:
            found[model] = value / quantity.unit
    return found


def _label(model: str, data: str) -> str:
    known = data in paper_numbers.DATA and model in paper_numbers.PARAMETERS
    return f"{model}\n{paper_numbers.PARAMETERS[model]:,}" if known else model


def _standing_alone(svg: str) -> str:
    """A page's `<svg>` as a file, on white."""
    opening = '<svg xmlns="http://www.w3.org/2000/svg" style="background: #ffffff"'
    return svg.replace("<svg", opening, 1) + "\n"
