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

import l1kd
from l1kd import configfile
from l1kd.config import Config, Student
from l1kd.context import Context, cores
from l1kd.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "starts.json"
DRAWINGS = {"s5": 9, "s6": 8, "s7": 15}
CASES = tuple(f"{source}-normal{n}" for n in (0, 4, 8) for source in ("mnist", "fashion_mnist"))
EPOCHS, SEED = 12, 7
VALUES = ("auc", "emd", "never_fires")
# What could choose among drawings without an anomaly, and whether less of it is better. Both are of
# validation normals and their exposure; `starts` goes by the loss.
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
    from l1kd.distill.feed import AT_ONCE
    from l1kd.distill.frozen import Lessons, learn
    from l1kd.distill.learners import Learners
    from l1kd.distill.targets import load_target
    from l1kd.evaluation.calibration import Calibration, calibration_sample
    from l1kd.evaluation.evaluate import scorer
    from l1kd.evaluation.metrics import auc, emd, spearman

    config = configfile.load(run / "config.yaml", ["threads=1"])
    context = Context(run, config, run)
    dataset, own = context.dataset, config.distillation
    teacher, target = l1kd.load_model(context.teacher_file), load_target(run)
    draws = min(own.draws, EPOCHS)
    lessons = Lessons.of(config, dataset, teacher, target, draws=draws, limit=len(dataset.train))
    drawn = drawings(config)
    settings = [each for group in drawn.values() for each in group]
    models = learn(settings, lessons, config, dataset.grid, epochs=EPOCHS, draws=draws, seed=SEED)

    learners = Learners(models, own, settings)
    judged = (lessons.val * dataset.grid.lsb).astype(np.float32)  # normals and their exposure
    losses: Any = 0.0
    for start in range(0, len(judged), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found = learners.losses(judged[part], lessons.val_targets[part]).numpy()
        losses = losses + found.astype(np.float64) * (len(judged[part]) / len(judged))
    loss = dict(zip(learners.names, map(float, losses), strict=True))

    normal = dataset.val.events()
    anomalous = np.concatenate([signal.val.events() for signal in dataset.signals.values()])
    apart = calibration_sample(config, dataset)
    assert apart is not None  # nothing but runs with exposure
    samples = (normal, anomalous, apart.events(), judged)

    def scores(model: Any) -> list[Any]:
        score = scorer(model, dataset.shape)
        return [np.ravel(score(events)) for events in samples]

    truth = scores(teacher)
    rows: dict[str, list[Row]] = {}
    for name, group in drawn.items():
        rows[name] = []
        for each in group:
            given = scores(models[each.name])
            calibration = Calibration.fit(given[2], target.forward(truth[2]))
            raw = target.inverse(calibration(given[1]))
            rows[name].append(
                {
                    "loss": loss[each.name],
                    "spearman": spearman(given[3], truth[3]) or 0.0,
                    "auc": auc(given[0], given[1]),
                    "emd": emd(np.log1p(raw), np.log1p(truth[1])),
                    "never_fires": float(never_fires(models[each.name], normal)),
                }
            )
    return rows


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
    starts: dict[str, int] = {}
    for name in options.cases:
        file, run = options.work / f"{name}.json", options.sweep / "runs" / f"exposure-{name}"
        if not file.is_file():
            options.work.mkdir(parents=True, exist_ok=True)
            write_json(file, case(run))
        starts = {each.name: each.starts for each in configfile.load(run / "config.yaml").students}
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
    about = {"cores": cores(), "epochs": EPOCHS, "seed": SEED, "judged_on": "validation halves"}
    write_json(RESULTS, {**about, "cases": cases, "changes": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
