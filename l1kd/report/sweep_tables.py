"""Tables of a sweep: a row per network of every run; means and spreads over classes and seeds.

`docs/sweep.md` explains the columns; None stands for what is unknown.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.config import Config, Distillation
from l1kd.core.errors import UserError
from l1kd.core.files import atomic, content_hash, read_json
from l1kd.core.run_files import Metrics
from l1kd.evaluation.metrics import POOLED, mean_over_signals
from l1kd.report.load_run import RunFiles, read_run
from l1kd.report.paper_numbers import TEACHER
from l1kd.report.sweep_figures import Cell, draw, taught
from l1kd.report.tables import Column, Table, value_of
from l1kd.training.target_transform import load_target

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
    except (OSError, ValueError, KeyError, TypeError):
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
    auc, spread = _by_class(own, "auc")
    std = float(np.std(auc, ddof=1)) if len(auc) > 1 else None
    compared = [each for each in own if each.get("compared") is not None]
    return {
        **{name: own[0][name] for name in _KEYS},
        "classes": sorted({each["normal"] for each in own} - {None}),
        "seeds": sorted({each["seed"] for each in own}),
        "epochs": max((each["epochs"] for each in own if each["epochs"] is not None), default=None),
        "auc_mean": _mean(auc),
        "auc_std": std,
        "auc_se": None if std is None else std / math.sqrt(len(auc)),
        "auc_seed_std": spread,
        **{name: _mean(_by_class(own, name)[0]) for name in _MEANS},
        "mismatches": sum(each["mismatches"] for each in compared) if compared else None,
        "compared": sum(each["compared"] for each in compared) if compared else None,
        "group": ", ".join(dict.fromkeys(each.get("group", "") for each in own)),
        **{name: _common(own, name) for name in others},
    }


def _by_class(own: Sequence[Cell], name: str) -> tuple[list[float], float | None]:
    """A value per class, its mean over seeds; and the spread over seeds within a class."""
    values: dict[Any, dict[int, float]] = defaultdict(dict)
    for each in own:
        if each.get(name) is not None:
            values[each["normal"]][each["seed"]] = each[name]  # two groups may share a run's recipe
    means = [float(np.mean(list(seeds.values()))) for seeds in values.values()]
    variances = [np.var(list(s.values()), ddof=1) for s in values.values() if len(s) > 1]
    return means, float(np.sqrt(np.mean(variances))) if variances else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _common(own: Sequence[Cell], name: str) -> Any:
    values = [each.get(name) for each in own]
    return values[0] if all(value == values[0] for value in values) else None


def write_tables(directory: Path, run_directories: Sequence[Path]) -> str:
    """Write `runs.parquet`, `summary.parquet`, `summary.md` and figures; return the Markdown."""
    found = rows(run_directories)
    cells = summarise(found)
    runs = len({each["run"] for each in found})
    text = markdown(cells, runs, len(run_directories))
    write_parquet(directory / "runs.parquet", found)
    write_parquet(directory / "summary.parquet", cells)
    with atomic(directory / "summary.md") as temporary:
        temporary.write_text(text)
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
    lines: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in cells:
        for like in [each for each in cells if taught(cell, each)] or [cell]:
            lines.setdefault(_line(like), {})[cell["model"]] = cell
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    titles = ("data", "students learn by", "group", "bits", "classes", "seeds")
    columns = [Column(each, i, str, left=i < 3) for i, each in enumerate((*titles, *models))]
    parts = [f"{runs} of {of} runs are evaluated."]
    for title, show in _QUANTITIES.items():
        table = Table.of(
            columns,
            [
                (*line, *(show(own[model]) if model in own else "" for model in models))
                for line, own in lines.items()
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
