"""What several drawings of a student's first weights are worth, over many drawings.

    l1kd sweep paper --only 'exposure-*'
    python -m tests.benchmarks.bench_starts runs/paper-sweep

One drawing against several, once, says which of two drawings was luckier. Here many drawings of
each of the smallest students learn side by side from the teacher of a finished run, by the run's
own recipe; then follows exactly what `starts` gives on average: of k drawings, each set of k as
likely as another, the one with the lowest validation loss, or by another criterion. Judged on
*validation* halves, anomalies' too. Records `results/starts.json`: per case and student AUC, EMD
(calibrated) and the share with a filter that never fires, of one drawing and of the best of k; and
the mean changes with their standard errors over cases. Finished cases are kept in `--work`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core import config_file
from l1kd.core.config import Config, Student
from l1kd.core.files import read_json, write_json
from l1kd.runs.run import context_of
from tests.benchmarks.bench_ablations import EPOCHS, SEED, environment, taught

RESULTS = Path(__file__).parent / "results" / "starts.json"
DRAWINGS = {"s5": 9, "s6": 8, "s7": 15}
CASES = tuple(f"{source}-normal{n}" for n in (0, 4, 8) for source in ("mnist", "fashion_mnist"))
VALUES = ("auc", "emd", "never_fires")
# What could choose among drawings without an anomaly, and the sign with which less is better. Both
# are of validation normals and their exposure; `starts` goes by the loss.
CRITERIA = {"loss": 1, "spearman": -1}

Row = dict[str, float]


def chances(count: int, starts: int) -> list[float]:
    """How likely the best of `starts` out of `count` drawings is the first, second... of all."""
    sets = math.comb(count, starts)
    return [math.comb(count - rank - 1, starts - 1) / sets for rank in range(count)]


def best_of(losses: Sequence[float], values: Sequence[float], starts: int) -> float:
    """The mean of a value of the drawing with the lowest loss, over all sets of `starts`."""
    order = sorted(range(len(losses)), key=lambda each: losses[each])
    weights = chances(len(losses), starts)
    return sum(w * values[each] for w, each in zip(weights, order, strict=True))


def drawings(config: Config) -> dict[str, list[Student]]:
    """By student, itself under as many names as it is drawn."""
    return {
        own.name: [
            own.model_copy(update={"name": f"{own.name}x{number}", "starts": 1})
            for number in range(DRAWINGS[own.name])
        ]
        for own in config.students
        if own.name in DRAWINGS
    }


def never_fires(model: Any, events: Any) -> bool:
    """Whether one of the first convolution's filters is 0 wherever it looks."""
    from tensorflow import keras

    first = next(
        number for number, layer in enumerate(model.layers) if layer.__class__.__name__ == "QConv2D"
    )
    seen = keras.Model(model.input, model.layers[first + 1].output)(events).numpy()
    return bool((seen.reshape(-1, seen.shape[-1]).max(axis=0) <= 0).any())


def case(run: Path) -> dict[str, list[Row]]:
    """The drawings of a run's smallest students against its teacher, by student."""
    from l1kd.evaluation.evaluate import scorer
    from l1kd.evaluation.metrics import spearman
    from l1kd.training.frozen_teacher import frozen_epochs
    from l1kd.training.student_losses import StudentTrainer

    config = config_file.load(run / "config.yaml", ["threads=1"])
    drawn = drawings(config)
    config = config.model_copy(update={"students": [s for own in drawn.values() for s in own]})
    context = context_of(run, config)
    labelled, models, judge = taught(context, config)
    own, grid, shape = config.distillation, context.dataset.grid, context.dataset.shape
    trainer = StudentTrainer(models, own, config.students)
    course = frozen_epochs(trainer, labelled, seed=SEED, batch=own.batch)
    loss, known = course.validate(), (labelled.val * grid.lsb).astype(np.float32)

    def row(name: str) -> Row:
        found, said = judge(models[name]), np.ravel(scorer(models[name], shape)(known))
        return {
            "loss": loss[name],
            "spearman": spearman(said, labelled.val_targets) or 0.0,
            "auc": found["auc"],
            "emd": found["emd_calibrated"],
            "never_fires": float(never_fires(models[name], judge.normal)),
        }

    return {student: [row(each.name) for each in group] for student, group in drawn.items()}


def judged(rows: Sequence[Row], starts: int) -> dict[str, Any]:
    """One drawing, on average, and the best of `starts` by each of `CRITERIA`."""
    found: dict[str, Any] = {"drawings": len(rows), "starts": starts}
    for key in VALUES:
        values = [row[key] for row in rows]
        found[key] = {"one": round(statistics.mean(values), 5)}
        for criterion, sign in CRITERIA.items():
            losses = [sign * row[criterion] for row in rows]
            found[key][criterion] = round(best_of(losses, values, starts), 5)
    found["auc_spread"] = round(statistics.stdev(row["auc"] for row in rows), 5)
    found["auc_worst"] = round(min(row["auc"] for row in rows), 5)
    return found


def changes(cases: dict[str, Any]) -> dict[str, Any]:
    """By student and of all: what several starts add, mean and standard error over cases."""
    found: dict[str, Any] = {}
    for name in [*DRAWINGS, "all"]:
        students = list(DRAWINGS) if name == "all" else [name]
        found[name] = {}
        for criterion in CRITERIA:
            for key in ("auc", "emd"):
                gains = [
                    statistics.mean(own[s][key][criterion] - own[s][key]["one"] for s in students)
                    for own in cases.values()
                ]
                error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
                found[name][f"{key} by {criterion}"] = [
                    round(statistics.mean(gains), 5),
                    round(error, 5),
                ]
    return found


def main() -> int:
    """Train, record, print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("sweep", type=Path)
    arguments.add_argument("--cases", nargs="*", default=CASES)
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-starts"))
    options = arguments.parse_args()
    if not os.environ.get("L1KD_DATA"):
        sys.stderr.write("bench_starts: set L1KD_DATA to where the images are\n")
        return 2
    cases: dict[str, Any] = {}
    for name in options.cases:
        file, run = options.work / f"{name}.json", options.sweep / "runs" / f"exposure-{name}"
        if not file.is_file():
            options.work.mkdir(parents=True, exist_ok=True)
            write_json(file, case(run))
        starts = {each.name: each.starts for each in config_file.load(run / "config.yaml").students}
        cases[name] = {
            student: judged(rows, starts[student]) for student, rows in read_json(file).items()
        }
        for student, own in cases[name].items():
            sys.stdout.write(f"{name} {student}: {own}\n")
        sys.stdout.flush()
    found = changes(cases)
    for student, own in found.items():
        said = ", ".join(f"{key} {mean:+.4f} +- {error:.4f}" for key, (mean, error) in own.items())
        sys.stdout.write(f"{student}: {said}\n")
    about = {"environment": environment(), "judged_on": "validation halves", "epochs": EPOCHS}
    write_json(RESULTS, {**about, "seeds": [SEED], "cases": cases, "changes": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
