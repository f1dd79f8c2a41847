"""Tables and figures of a sweep: a row per network of every run; means and spreads over classes.

`docs/sweep.md` explains the columns; None is unknown. Figures are the paper's, ours filled.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.config import Config, Distillation
from l1kd.core.errors import UserError
from l1kd.core.files import atomic, content_hash, read_json
from l1kd.core.run_files import Metrics
from l1kd.data.mnist import KNOWN
from l1kd.evaluation.metrics import POOLED, mean_over_signals
from l1kd.report import paper_numbers
from l1kd.report.figures import Group, Line, lines
from l1kd.report.load_run import RunFiles, read_run
from l1kd.report.number_format import plural
from l1kd.report.paper_numbers import TEACHER
from l1kd.report.tables import Column, Table, value_of
from l1kd.training.target_transform import load_target

Cell = Mapping[str, Any]

_FLOAT_BITS = 32
# What every table has as a column of its own; other keys of a grid follow behind.
_KNOWN = ("data.source", "data.normal", "seed", "distillation.mode")
_EMD = {
    "emd_anomalous": "emd.anomalous",
    "emd_normal": "emd.normal",
    "emd_anomalous_calibrated": "emd_calibrated.anomalous",
    "emd_normal_calibrated": "emd_calibrated.normal",
}
_KEYS = ("data", "mode", "model", "weight_bits")
_MEANS = (*_EMD, "mae", "spearman", "efficiency")
_DODGE, _SPREAD = 0.055, 0.7  # between neighbouring series of one model, and between all of them
_ALL_CLASSES = 10


def mode_of(distillation: Distillation) -> str:
    """Way to train: `sequential`, `colearning`, with another data set `exposure`, else `noise`."""
    if distillation.mode == "sequential" or not distillation.exposure:
        return distillation.mode
    return "exposure" if "dataset" in distillation.exposure else "noise"


def rows(run_directories: Iterable[Path]) -> list[dict[str, Any]]:
    """Quality of the networks of evaluated runs on test halves: a row per network."""
    runs = (
        read_run(directory)
        for directory in run_directories
        if all((directory / name).is_file() for name in ("manifest.json", "config.yaml"))
    )
    return [row for run in runs if run.metrics is not None for row in _rows(run, run.metrics)]


def _rows(run: RunFiles, metrics: Metrics) -> Iterator[dict[str, Any]]:
    config, known = run.config, _known(run.directory)
    seconds = sum(stage.duration_s or 0.0 for stage in run.manifest.stages.values())
    grid = {key: value for key, value in known.get("grid", {}).items() if key not in _KNOWN}
    epochs = int(run.history.epochs[-1]) if run.history and run.history.epochs else None
    differences = _differences(run)
    networks: dict[str, Any] = {TEACHER: metrics.teacher} if metrics.teacher else {}
    for name, quality in (networks | metrics.students).items():
        pairs = [p for p in run.pairs(name) if (p.reference, p.candidate) == ("exact", "csim")]
        yield {
            "group": known.get("group", ""),
            "run": run.directory.name,
            **grid,
            "data": config.data.source,
            "normal": getattr(config.data, "normal", None),
            "seed": config.seed,
            "mode": mode_of(config.distillation),
            "model": name,
            "weight_bits": getattr(quality, "weight_bits", _FLOAT_BITS),
            "epochs": epochs,
            "auc": quality.auc.get(POOLED),
            "efficiency": mean_over_signals(quality.efficiency),
            # A teacher has no distances, as None has none.
            **{column: value_of((None, quality), path) for column, path in _EMD.items()},
            "mae": differences.get(name),
            "spearman": getattr(quality, "spearman", None),
            "params": quality.params,
            "chosen": name == metrics.best,
            "mismatches": sum(pair.mismatches for pair in pairs) if pairs else None,
            "compared": sum(pair.events for pair in pairs) if pairs else None,
            "seconds": round(seconds, 3),
            "recipe": _recipe(config, name),
        }


def _known(directory: Path) -> dict[str, Any]:
    """The sweep's entry for one of its runs."""
    try:
        runs = read_json(directory.parent.parent / "sweep.json")["runs"]
        return dict(runs[directory.name])
    except Exception:
        return {}  # not of a sweep


def _recipe(config: Config, name: str) -> str:
    relevant = config.model_dump(mode="json", include={"data", "teacher", "distillation"})
    relevant["data"].pop("normal", None)
    own = [s.model_dump(mode="json") for s in config.students if s.name == name]
    return content_hash([relevant, own])[:12]


def _differences(run: RunFiles) -> dict[str, float]:
    """By student: mean |log(1 + teacher's raw score) - log(1 + student's)| over all test events."""
    if run.scores is None or run.metrics is None or run.metrics.teacher is None:
        return {}
    target, scores = load_target(run.directory), run.scores
    samples = ["test", *(name for name in run.metrics.teacher.auc if name != POOLED)]
    teacher = np.log1p(np.concatenate([scores.teacher(sample) for sample in samples]))
    found = {}
    for name in run.metrics.students:
        own = np.concatenate([scores.student(name, sample) for sample in samples])
        found[name] = float(np.mean(np.abs(np.log1p(target.inverse(own)) - teacher)))
    return found


def summarise(rows: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells: means and spreads over classes and seeds; of a class counts its mean over seeds."""
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for each in rows:
        groups[tuple(each.get(name) for name in (*_KEYS, "recipe"))].append(each)
    others = [name for name in dict.fromkeys(k for each in rows for k in each) if "." in name]
    return [_cell(own, others) for own in groups.values()]


def _cell(own: Sequence[Cell], others: Sequence[str]) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        values = [np.mean(seeds) for seeds in _by_class(own, name)]
        return float(np.mean(values)) if values else None

    classes = _by_class(own, "auc")
    std = float(np.std([np.mean(seeds) for seeds in classes], ddof=1)) if len(classes) > 1 else None
    variances = [np.var(seeds, ddof=1) for seeds in classes if len(seeds) > 1]
    counted = [each for each in own if each.get("compared") is not None]
    return {
        **{name: own[0][name] for name in _KEYS},
        "classes": sorted({each["normal"] for each in own} - {None}),
        "seeds": sorted({each["seed"] for each in own}),
        "epochs": max((each["epochs"] for each in own if each["epochs"] is not None), default=None),
        "auc_mean": mean("auc"),
        "auc_std": std,
        "auc_se": None if std is None else std / math.sqrt(len(classes)),
        "auc_seed_std": float(np.sqrt(np.mean(variances))) if variances else None,
        **{name: mean(name) for name in _MEANS},
        "mismatches": sum(each["mismatches"] for each in counted) if counted else None,
        "compared": sum(each["compared"] for each in counted) if counted else None,
        "group": ", ".join(dict.fromkeys(each.get("group", "") for each in own)),
        **{
            name: value if all(each.get(name) == value for each in own) else None
            for name in others
            for value in [own[0].get(name)]
        },
    }


def _by_class(own: Sequence[Cell], name: str) -> list[list[float]]:
    """The known values of each class, one for each seed."""
    values: dict[Any, dict[int, float]] = defaultdict(dict)
    for each in own:
        if each.get(name) is not None:
            values[each["normal"]][each["seed"]] = each[name]  # two groups may share a run's recipe
    return [list(seeds.values()) for seeds in values.values()]


def write_tables(directory: Path, run_directories: Sequence[Path]) -> str:
    """Write `runs.parquet`, `summary.parquet`, `summary.md` and figures; return the Markdown."""
    found = rows(run_directories)
    cells = summarise(found)
    text = markdown(cells, len({each["run"] for each in found}), len(run_directories))
    write_parquet(directory / "runs.parquet", found)
    write_parquet(directory / "summary.parquet", cells)
    with atomic(directory / "summary.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    draw(cells, directory)
    return text


def write_parquet(path: Path, records: Sequence[Cell]) -> None:
    """Write records as Parquet, atomically; a column of mixed kinds holds JSON texts."""
    import pyarrow
    from pyarrow import parquet

    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            columns[name] = pyarrow.array([None if v is None else json.dumps(v) for v in values])
    try:
        with atomic(path) as temporary:
            parquet.write_table(pyarrow.table(columns), temporary)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def markdown(cells: Sequence[Cell], runs: int, of: int) -> str:
    """The summary's tables: quality and likeness to the teacher, models as columns."""
    if not cells:
        return f"0 of {of} runs are evaluated.\n"
    by_line: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in cells:
        for like in [each for each in cells if taught(cell, each)] or [cell]:
            by_line.setdefault(_line(like), {})[cell["model"]] = cell
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    titles = ("data", "students learn by", "group", "bits", "classes", "seeds")
    columns = [Column(each, i, str, left=i < 3) for i, each in enumerate((*titles, *models))]
    parts = [f"{runs} of {of} runs are evaluated."]
    for title, show in _QUANTITIES.items():
        table = Table.of(
            columns,
            [
                (*line, *(show(own[model]) if model in own else "" for model in models))
                for line, own in by_line.items()
            ],
        )
        parts.append(f"**{title}**\n\n{table.markdown()}")
    if compared := [cell for cell in cells if cell["compared"] is not None]:
        parts.append(
            f"{sum(cell['mismatches'] for cell in compared)} mismatches of `exact` and `csim` in "
            f"{sum(cell['compared'] for cell in compared):,} comparisons."
        )
    parts.append("All on test halves; distances on log(1 + raw score).")
    return "\n\n".join(parts) + "\n"


def _line(cell: Cell) -> tuple[str, ...]:
    own = [f"{k.rsplit('.', 1)[-1]} {v}" for k, v in cell.items() if "." in k and v is not None]
    return (
        cell["data"],
        cell["mode"],
        "; ".join([cell["group"], *own]),
        str(cell["weight_bits"]),
        str(len(cell["classes"]) or 1),
        str(len(cell["seeds"])),
    )


def _auc_text(cell: Cell) -> str:
    if cell["auc_mean"] is None:
        return ""
    if cell["auc_std"] is None:
        return f"{cell['auc_mean']:.3f}"
    return f"{cell['auc_mean']:.3f} +- {cell['auc_se']:.3f} ({cell['auc_std']:.3f})"


def _four(name: str) -> Callable[[Cell], str]:
    return lambda cell: "" if cell[name] is None else f"{cell[name]:.4f}"


_QUANTITIES: dict[str, Callable[[Cell], str]] = {
    "AUC: mean over classes +- its standard error (spread over classes)": _auc_text,
    "EMD of the anomalies' scores to the teacher's": _four("emd_anomalous"),
    "The same of calibrated scores": _four("emd_anomalous_calibrated"),
    "Mean absolute difference to the teacher per event": _four("mae"),
}


@dataclass(frozen=True)
class _Figure:
    """A figure of every data set: its file, the keys of a cell, the axis."""

    file: str
    value: str
    error: str
    paper: str  # attribute of `paper_numbers.Published`
    label: str
    bottom: float | None
    unit: float = 1.0


_FIGURES = (
    _Figure("auc", "auc_mean", "auc_se", "auc", "AUC", None),
    _Figure(
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
        for quantity in _FIGURES:
            series = _series([cell for cell in own if cell.get(quantity.value) is not None])
            if series:
                # A page's `<svg>` as a file, on white.
                opening = '<svg xmlns="http://www.w3.org/2000/svg" style="background: #ffffff"'
                svg = _svg(data, series, quantity).replace("<svg", opening, 1)
                written.append(directory / f"{quantity.file}-{data}.svg")
                with atomic(written[-1]) as temporary:
                    temporary.write_text(svg + "\n", encoding="utf-8")
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


def _svg(data: str, series: Sequence[_Series], quantity: _Figure) -> str:
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
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=quantity.bottom)
        several = any(len(cell["classes"]) > 1 for each in series for cell in each.cells.values())
        over = ", mean over classes" if several else ""
        axes.set(xlim=(-0.6, len(models) - 0.4), ylabel=quantity.label + over, title=title)
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return group.drawings[0].svg
