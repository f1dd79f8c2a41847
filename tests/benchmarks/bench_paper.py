"""The paper's table with quantized students: does a finished sweep hold what was asked of it?

    l1kd sweep paper
    python -m tests.benchmarks.bench_paper runs/paper-sweep --page

reads `runs.parquet` of the sweep, records `results/paper.json`, prints every bar with its figure,
and with `--page` writes the tables of docs/results.md. Exit 1 if a bar is missed. Without one the
recorded figures are judged. The paper's numbers are those of `l1kd.report.paper_numbers`.

A sweep may be done in parts (`--only`), on machines that do not share a disk: the rows of all parts
are kept in `results/paper_runs.json`, and a row is replaced by a later one of the same run and
recipe; `--fresh` forgets what was kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from l1kd.core.context import cores
from l1kd.core.files import read_json, write_json
from l1kd.data.mnist import KNOWN
from l1kd.report import paper_numbers
from l1kd.report.paper_numbers import DATA, MODELS, MODES, SOURCE, STUDENTS, TEACHER

RESULTS = Path(__file__).parent / "results" / "paper.json"
KEPT = RESULTS.with_name("paper_runs.json")
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
MARKS = ("<!-- paper: made by bench_paper -->\n", "<!-- end of paper -->")
HEADING, FOLLOWING = "## The paper, quantized", "## Logic"
SWEEP = "L1KD_PAPER_SWEEP"  # `make bench` records this sweep, if it is set

Row = dict[str, Any]

EXPOSURE = "exposure"
ALONE = "alone"  # the sweep's group that is like for like
ALL_CLASSES, COMMON_CLASSES = tuple(range(10)), (0, 4, 8)
WIDEST, NARROW, NARROW_STUDENTS = 8, 4, STUDENTS[:4]
GAIN, NARROW_LOSS, MAX_EPOCHS = 0.01, 0.02, 100
ROUNDING = 1e-9  # of a mean
CELL = (
    *("data", "mode", "model", "weight_bits", "classes", "seeds", "epochs"),
    *("auc_mean", "auc_std", "auc_se", "emd_anomalous", "emd_normal", "mae", "spearman"),
)
DISTANCES = ("emd_anomalous", "emd_normal")
NAMES = {name: known.title for name, known in KNOWN.items()}


@dataclass(frozen=True)
class Bar:
    """Something that has to hold: what it is about, its figure, and whether it holds.

    A bar that nothing was recorded for is not met, and not measured either.
    """

    name: str
    figure: str
    met: bool
    measured: bool = True


def selected(rows: Sequence[Row]) -> list[Row]:
    """Rows of the paper's data and models; of several recipes the one with the most classes."""
    kinds: dict[tuple[Any, ...], dict[Any, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["data"] in DATA and row["model"] in MODELS and row["mode"] in MODES:
            kind = tuple(row[key] for key in ("data", "mode", "model", "weight_bits"))
            kinds[kind][row.get("recipe")].append(row)
    found = []
    for recipes in kinds.values():
        found += max(recipes.values(), key=lambda own: len({row["normal"] for row in own}))
    return found


def cells_of(rows: Sequence[Row]) -> list[Row]:
    """Means and spreads, in the order of the paper's tables.

    Distances are those of calibrated scores where students saw exposure (`l1kd.evaluation.
    evaluate`: by training normals and exposure, by no test event); `_uncalibrated` of all.
    """
    from l1kd.report.sweep_tables import summarise

    found = []
    for cell in summarise(rows):
        own = {key: cell[key] for key in CELL}
        for name in DISTANCES:
            own[f"{name}_uncalibrated"] = cell[name]
            if (calibrated := cell.get(f"{name}_calibrated")) is not None:
                own[name] = calibrated
        found.append(own)
    order = (DATA, MODES, MODELS)
    found.sort(
        key=lambda cell: (
            *(names.index(cell[key]) for names, key in zip(order, CELL, strict=False)),
            -cell["weight_bits"],
        )
    )
    return found


def collected(sweeps: Sequence[Path], earlier: Sequence[Row] = ()) -> list[Row]:
    """The rows of sweeps and those that were kept earlier, one of a kind."""
    from pyarrow import parquet

    kind = ("data", "normal", "seed", "mode", "model", "weight_bits", "recipe")
    read = [
        row for sweep in sweeps for row in parquet.read_table(sweep / "runs.parquet").to_pylist()
    ]
    found = {tuple(row.get(key) for key in kind): row for row in (*earlier, *read)}
    return [found[key] for key in sorted(found, key=repr)]  # means do not depend on the order


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """What the runs of a sweep found."""
    alone = [row for row in rows if row.get("group") == ALONE]
    rows = selected([row for row in rows if row.get("group") != ALONE])
    common = [row for row in rows if row["normal"] in COMMON_CLASSES]
    widths = {(c["data"], c["model"]): c["weight_bits"] for c in main_cells(cells_of(rows))}
    chosen = [
        row
        for row in rows
        if row["mode"] == EXPOSURE
        and row["chosen"]
        and row["weight_bits"] == widths.get((row["data"], row["model"]))
    ]
    chosen.sort(key=lambda row: (DATA.index(row["data"]), row["normal"], row["seed"]))
    versions = ("tensorflow", "qkeras", "hls4ml", "numpy")
    seconds = {(row["data"], row["normal"], row["seed"]): row["seconds"] for row in chosen}
    return {
        "environment": {
            "cores": cores(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in versions},
        },
        "cells": cells_of(rows),
        "common": {"classes": list(COMMON_CLASSES), "cells": cells_of(common)},
        "alone": cells_of(alone),
        "chosen": [
            {key: row[key] for key in ("data", "normal", "seed", "model", "mismatches", "compared")}
            for row in chosen
        ],
        "exposure_run_seconds": round(sum(seconds.values())),
    }


def main_cells(cells: Sequence[Row]) -> list[Row]:
    """Co-learning with exposure: teachers, and students of at most 8 bits, the widest of each."""
    found: dict[tuple[str, str], Row] = {}
    for cell in cells:
        if cell["mode"] == EXPOSURE and (cell["model"] == TEACHER or cell["weight_bits"] <= WIDEST):
            key = (cell["data"], cell["model"])
            if key not in found or found[key]["weight_bits"] < cell["weight_bits"]:
                found[key] = cell
    return list(found.values())


def one(cells: Sequence[Row], **wanted: Any) -> Row | None:
    """The first cell like this."""
    alike = (cell for cell in cells if all(cell[key] == value for key, value in wanted.items()))
    return next(alike, None)


def paper(data: str, mode: str, model: str) -> paper_numbers.Published:
    """The paper's number."""
    found = paper_numbers.find(data, mode, model)
    assert found is not None
    return found


def bars(found: dict[str, Any]) -> list[Bar]:
    """All that was asked, from what was recorded."""
    return [
        *quality_bars(found),
        *comparison_bars(found),
        *narrow_bars(found),
        *epoch_bars(found),
        *chosen_bars(found),
    ]


def quality_bars(found: dict[str, Any]) -> Iterator[Bar]:
    """AUC and EMD of the 14 cells, and the means over students."""
    cells = [
        cell for cell in main_cells(found["cells"]) if set(ALL_CLASSES) <= set(cell["classes"])
    ]
    for data in DATA:
        ours, theirs = [], []
        for model in STUDENTS:
            cell, published_cell = one(cells, data=data, model=model), paper(data, EXPOSURE, model)
            name = f"{NAMES[data]} {model}"
            if cell is None:
                yield Bar(f"{name}: AUC, EMD", "no cell of ten classes", False, measured=False)
                continue
            ours.append(cell["auc_mean"])
            theirs.append(published_cell.auc)
            yield Bar(
                f"{name}: AUC, one standard error allowed",
                f"{cell['auc_mean']:.4f} +- {cell['auc_se']:.4f}, paper {published_cell.auc:.3f}",
                cell["auc_mean"] + cell["auc_se"] >= published_cell.auc - ROUNDING,
            )
            emd, limit = cell["emd_anomalous"], published_cell.emd_anomalous
            assert limit is not None
            yield Bar(f"{name}: EMD", f"{emd:.4f}, paper {limit:.3f}", emd <= limit + ROUNDING)
        if len(ours) == len(STUDENTS):
            gain = statistics.mean(ours) - statistics.mean(theirs)
            figure = (
                f"{statistics.mean(ours):.4f}, paper {statistics.mean(theirs):.4f}: {gain:+.4f}"
            )
            yield Bar(
                f"{NAMES[data]}: mean AUC over students, +{GAIN}", figure, gain >= GAIN - ROUNDING
            )
        else:
            figure = f"{len(ours)} of 7 cells"
            name = f"{NAMES[data]}: mean AUC over students"
            yield Bar(name, figure, False, measured=False)


def comparison_bars(found: dict[str, Any]) -> Iterator[Bar]:
    """The paper's other ways to train, on classes 0, 4 and 8 at least."""
    for data in DATA:
        for mode in MODES:
            if mode == EXPOSURE:
                continue
            there = [
                model
                for model in STUDENTS
                if (cell := one(found["cells"], data=data, mode=mode, model=model))
                and set(COMMON_CLASSES) <= set(cell["classes"])
            ]
            figure = f"{len(there)} of {len(STUDENTS)} students"
            name = f"{NAMES[data]}: {mode} on classes 0, 4, 8"
            yield Bar(name, figure, len(there) == 7, measured=bool(there))


def narrow_bars(found: dict[str, Any]) -> Iterator[Bar]:
    """4-bit weights against the widest, on the same classes."""
    cells = found["common"]["cells"]
    for data in DATA:
        for model in NARROW_STUDENTS:
            wide = one(main_cells(cells), data=data, model=model)
            narrow = one(cells, data=data, mode=EXPOSURE, model=model, weight_bits=NARROW)
            name = f"{NAMES[data]} {model}: AUC of {NARROW}-bit weights, at most {NARROW_LOSS} less"
            if (
                wide is None
                or narrow is None
                or wide is narrow
                or (narrow["classes"] != wide["classes"])
            ):
                yield Bar(name, "no pair of cells on the same classes", False, measured=False)
                continue
            loss = wide["auc_mean"] - narrow["auc_mean"]
            figure = (
                f"{narrow['auc_mean']:.4f}, {wide['weight_bits']} bits {wide['auc_mean']:.4f}: "
                f"{-loss:+.4f}"
            )
            yield Bar(name, figure, loss <= NARROW_LOSS + ROUNDING)


def epoch_bars(found: dict[str, Any]) -> Iterator[Bar]:
    """How long the table's networks learned."""
    epochs = [cell["epochs"] for cell in main_cells(found["cells"])]
    met = bool(epochs) and None not in epochs and max(epochs) <= MAX_EPOCHS
    yield Bar(f"epochs, at most {MAX_EPOCHS}", f"{max(epochs) if epochs else None}", met)


def chosen_bars(found: dict[str, Any]) -> Iterator[Bar]:
    """Bit equality of the chosen students of the class runs."""
    compared = [each for each in found["chosen"] if each["compared"]]
    runs = {(each["data"], each["normal"]) for each in compared}
    wrong = sum(each["mismatches"] for each in compared)
    figure = (
        f"{wrong} in {sum(each['compared'] for each in compared):,} comparisons, "
        f"students of {len(runs)} class runs"
    )
    met = len(runs) == len(DATA) * len(ALL_CLASSES) and not wrong
    yield Bar("mismatches, exact and csim, chosen students", figure, met)


def _auc(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def table(found: dict[str, Any]) -> str:
    """Markdown: ours beside the paper's, and the ways to train on the same classes."""
    lines = [
        "| normal classes of | network | weights | AUC | paper, float | | EMD | uncalibrated | "
        "paper |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for data in DATA:
        cells = [c for c in main_cells(found["cells"]) if c["data"] == data]
        pairs = [(c, paper(data, EXPOSURE, c["model"])) for c in cells]
        for cell, theirs in pairs:
            bits = "float" if cell["model"] == TEACHER else f"{cell['weight_bits']} bits"
            emd = ("", "", "")
            if cell["emd_anomalous"] is not None and theirs.emd_anomalous is not None:
                names = ("emd_anomalous", "emd_anomalous_uncalibrated")
                emd = (*(f"{cell[name]:.4f}" for name in names), f"{theirs.emd_anomalous:.3f}")
            lines.append(
                f"| {NAMES[data]} | {cell['model']} | {bits} | **{_auc(cell['auc_mean'])}** +- "
                f"{_auc(cell['auc_se'])} ({_auc(cell['auc_std'])}) | {_auc(theirs.auc)} "
                f"({_auc(theirs.auc_std)}) | {cell['auc_mean'] - theirs.auc:+.3f} | "
                f"{' | '.join(emd)} |"
            )
        students = [(c["auc_mean"], p.auc) for c, p in pairs if c["model"] != TEACHER]
        if students:
            own, other = (statistics.mean(values) for values in zip(*students, strict=True))
            lines.append(
                f"| {NAMES[data]} | mean of students | | **{_auc(own)}** | {_auc(other)} | "
                f"{own - other:+.3f} | | | |"
            )
    classes = ", ".join(map(str, found["common"]["classes"]))
    lines += [
        "",
        f"AUC: mean over ten classes +- its standard error (spread over classes); paper: {SOURCE}, "
        "its spread. EMD: the anomalies' scores to the teacher's, on log(1 + raw score), of scores "
        "that training normals and exposure calibrated (docs/training.md).",
        "",
        f"Ways to train, all on classes {classes} (the paper's numbers are over ten classes):",
        "",
        f"| data | way | {' | '.join(MODELS)} |",
        f"|---|---|{'---|' * len(MODELS)}",
    ]
    for data in DATA:
        for mode in MODES:
            lines += _ways(found["common"]["cells"], data, mode)
    return "\n" + "\n".join([*lines, *like_for_like(found["alone"])]) + "\n\n"


def like_for_like(cells: Sequence[Row]) -> Iterator[str]:
    """Markdown: the paper's exposure alone, scores as they are, one drawing of each student."""
    if not cells:
        return
    yield from (
        "",
        "Like for like (`l1kd sweep paper --only 'alone-*'`): exposure is the other data",
    )
    yield "set and nothing else, one drawing of each student, scores not calibrated:"
    yield from (
        "",
        "| normal classes of | network | weights | AUC | paper, float | | EMD | paper |",
    )
    yield "|---|---|---|---|---|---|---|---|"
    for data in DATA:
        if not (own := [cell for cell in cells if cell["data"] == data]):
            continue
        higher = lower = nearer = 0
        for cell in own:
            theirs, se = paper(data, EXPOSURE, cell["model"]), cell["auc_se"]
            gain, emd = cell["auc_mean"] - theirs.auc, ("", "")
            bits = "float" if cell["model"] == TEACHER else f"{cell['weight_bits']} bits"
            if theirs.emd_anomalous is not None:
                higher, lower = higher + (gain > se), lower + (gain < -se)
                distance = cell["emd_anomalous_uncalibrated"]
                nearer += distance <= theirs.emd_anomalous + ROUNDING
                emd = (f"{distance:.4f}", f"{theirs.emd_anomalous:.3f}")
            yield (
                f"| {NAMES[data]} | {cell['model']} | {bits} | {_auc(cell['auc_mean'])} +- "
                f"{_auc(se)} | {_auc(theirs.auc)} | {gain:+.3f} | {' | '.join(emd)} |"
            )
        students = len(own) - any(cell["model"] == TEACHER for cell in own)
        classes = max(len(cell["classes"]) for cell in own)
        yield (
            f"| {NAMES[data]} | {classes} classes | | higher by a standard error "
            f"{higher}, lower {lower}, of {students} | | | nearer {nearer} of {students} | |"
        )


def _ways(cells: Sequence[Row], data: str, mode: str) -> Iterator[str]:
    own = [cell for cell in cells if (cell["data"], cell["mode"]) == (data, mode)]
    if not own:
        return
    teacher = one(own, model=TEACHER)
    widths = {cell["weight_bits"] for cell in own if cell["model"] != TEACHER}
    for bits in sorted(widths, reverse=True):
        shown = [teacher, *(one(own, model=model, weight_bits=bits) for model in STUDENTS)]
        values = " | ".join("" if cell is None else _auc(cell["auc_mean"]) for cell in shown)
        yield f"| {NAMES[data]} | {mode}, {bits} bits | {values} |"
    theirs = " | ".join(_auc(paper(data, mode, model).auc) for model in MODELS)
    yield f"| {NAMES[data]} | {mode}, paper | {theirs} |"


def in_page(text: str, found: dict[str, Any]) -> str:
    """The page of results with the tables in their place; a section is made if there is none."""
    start, end = MARKS
    if start not in text:
        text = text.replace(FOLLOWING, f"{HEADING}\n\n{start}{end}\n\n{FOLLOWING}", 1)
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit("docs/results.md has no place for the paper's tables")
    return pattern.sub(lambda _: f"{start}{table(found)}{end}", text)


def told(judged: Sequence[Bar]) -> str:
    """All bars, a line each."""
    words = {(True, True): "met   ", (False, True): "MISSED", (False, False): "no run"}
    lines = [f"{words[bar.met, bar.measured]} {bar.name}: {bar.figure}" for bar in judged]
    met, unmeasured = sum(bar.met for bar in judged), sum(not bar.measured for bar in judged)
    lines.append(f"{met} of {len(judged)} bars are met, {unmeasured} have no run")
    return "\n".join(lines) + "\n"


def test_the_sweep_holds_what_was_asked() -> None:
    """What `make bench` runs: of `$L1KD_PAPER_SWEEP`, or of what is recorded."""
    if sweep := os.environ.get(SWEEP):
        write_json(RESULTS, record(collected([Path(sweep)])))
    if not RESULTS.exists():
        pytest.skip(f"nothing is recorded: set {SWEEP} to a finished sweep")
    assert not [bar for bar in bars(read_json(RESULTS)) if not bar.met]


def main() -> int:
    """Record, judge, print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("sweeps", nargs="*", type=Path, metavar="SWEEP")
    arguments.add_argument("--fresh", action="store_true", help="forget what was kept earlier")
    arguments.add_argument(
        "--page", action="store_true", help="write the tables of docs/results.md"
    )
    options = arguments.parse_args()
    if options.sweeps:
        earlier = [] if options.fresh or not KEPT.exists() else read_json(KEPT)
        rows = collected(options.sweeps, earlier)
        write_json(KEPT, rows)
        write_json(RESULTS, record(rows))
    found = read_json(RESULTS)
    judged = bars(found)
    sys.stdout.write(told(judged))
    if options.page:
        PAGE.write_text(in_page(PAGE.read_text(), found))
    return int(not all(bar.met for bar in judged))


if __name__ == "__main__":
    raise SystemExit(main())
