"""What lifts a small quantized student: one change of the recipe at a time, all else equal.

`python -m tests.benchmarks.bench_ablations [--cases mnist:4 ...] [--only NAME ...] [--work DIR]`
trains one teacher per case by the shipped configuration `paper`, then its students against this
frozen teacher, once for every variant, and judges them on *validation* halves, anomalies' too: the
test halves choose no recipe. Records `results/ablations.json`: per variant and student the AUC and
the EMD of the anomalies, and the mean change against the base with its standard error over cases
and students. Needs `$L1KD_DATA`. Every finished piece and teacher is kept in DIR (default
`runs/bench-ablations`): stopped, it goes on where it was. What is recorded are all pieces in DIR.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import l1kd
from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.context import Context, cores
from l1kd.core.files import read_json, write_json
from l1kd.runs.run import context_of, run_configuration

if TYPE_CHECKING:
    from l1kd.training.frozen_teacher import LabelledEvents

RESULTS = Path(__file__).parent / "results" / "ablations.json"
CONFIGURATION = "paper"
CASES = ("mnist:4", "fashion_mnist:4", "mnist:8", "fashion_mnist:0")
STUDENTS = ("s3", "s4", "s5", "s6", "s7")  # s1 and s2 cost ten times as much and need help least
EPOCHS, SEED = 12, 7
EXPOSURE = ["dataset", "warp", "pieces"]
# What everything is compared with; `paper` has since taken what helped.
BASE: dict[str, Any] = {"exposure": EXPOSURE, "student_learning_rate": 3e-3}
RECIPE = "base"
# Name -> what is laid over the distillation, and over every student.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    RECIPE: ({}, {}),
    "no exposure": ({"exposure": []}, {}),
    "exposure: the other data set": ({"exposure": ["dataset"]}, {}),
    "exposure: noise": ({"exposure": ["noise"]}, {}),
    "exposure: other data set, noise": ({"exposure": ["dataset", "noise"]}, {}),
    "exposure: warp, pieces": ({"exposure": ["warp", "pieces"]}, {}),
    "exposure: all but noise, shuffle": ({"exposure": [*EXPOSURE, "patch"]}, {}),
    "twice the exposure": ({"exposure_ratio": 2.0}, {}),
    "target of the paper": ({"target": "paper"}, {}),
    "batch 100": ({"batch": 100}, {}),
    "rate 1e-3": ({"student_learning_rate": 1e-3}, {}),
    "rate 1e-2": ({"student_learning_rate": 1e-2}, {}),
    "rate 3e-2": ({"student_learning_rate": 3e-2}, {}),
    "weight average": ({"average": 0.99}, {}),
    "float epochs": ({"float_epochs": 4}, {}),
    "rate 1e-2, raw scores": ({"student_learning_rate": 1e-2, "raw_weight": 1.0}, {}),
    "three starts": ({}, {"starts": 3}),
    "rate 1e-2, raw scores, three starts": (
        {"student_learning_rate": 1e-2, "raw_weight": 1.0},
        {"starts": 3},
    ),
    "feature heads": ({"feature_weight": 0.3}, {}),
    "4-bit weights": ({}, {"weight_bits": 4}),
    "8-bit activations": ({}, {"activation_bits": 8}),
    "12-bit activations": ({}, {"activation_bits": 12}),
}


def configured(case: str, variant: str, students: Sequence[str]) -> Config:
    """The configuration of a case with a variant laid over it."""
    source, normal = case.split(":")
    own, widths = VARIANTS[variant]
    described = [{"architecture": name, "weight_bits": 8, **widths} for name in students]
    values = {**BASE, **own}
    overrides = [
        f"data={{source: {source}, normal: {normal}}}",
        f"students={described}",
        f"seed={SEED}",
        "threads=1",
        *(f"distillation.{key}={value}" for key, value in values.items()),
    ]
    return config_file.load(config_file.find(CONFIGURATION), overrides)


def teacher_of(case: str, work: Path) -> Context:
    """A run whose teacher is trained."""
    source, normal = case.split(":")
    directory = work / f"{source}{normal}"
    overrides = (
        f"data={{source: {source}, normal: {normal}}}",
        "students=[{architecture: s7}]",  # somebody has to learn
        "distillation.final_epochs=1",
        "distillation.exposure=[]",
        f"seed={SEED}",
        "threads=1",
    )
    if not (directory / "teacher.keras").is_file():
        run_configuration(CONFIGURATION, directory, until="train", overrides=overrides)
    return context_of(directory, configured(case, RECIPE, STUDENTS))


def taught(context: Context, config: Config) -> tuple[LabelledEvents, dict[str, Any], Judge]:
    """What a run's teacher says, a configuration's students that learned it, and their judge."""
    from l1kd.training.frozen_teacher import LabelledEvents, train_students
    from l1kd.training.target_transform import TARGETS, load_target

    dataset, own = context.dataset, config.distillation
    teacher, target = l1kd.load_model(context.teacher_file), load_target(context.directory)
    if own.target != "fitted":
        target = TARGETS[own.target](own.score.type)
    draws = min(own.draws, EPOCHS)
    labelled = LabelledEvents.label(
        config.distillation,
        config.seed,
        dataset,
        teacher,
        target,
        draws=draws,
        limit=len(dataset.train),
    )
    models = train_students(
        config.students, labelled, config, dataset.grid, epochs=EPOCHS, seed=SEED
    )
    return labelled, models, Judge(context, config, teacher, target)


class Judge:
    """Validation events, normal ones and anomalies, and what the teacher says of them."""

    def __init__(self, context: Context, config: Config, teacher: Any, target: Any) -> None:
        from l1kd.evaluation.evaluate import calibration_sample

        self.shape, self.target = context.dataset.shape, target
        signals = context.dataset.signals.values()
        self.normal = context.dataset.val.events()
        self.anomalous = np.concatenate([signal.val.events() for signal in signals])
        apart = calibration_sample(config, context.dataset)
        self.apart = None if apart is None else apart.events()
        self.truth, self.wanted = self._scores(teacher)

    def _scores(self, model: Any) -> tuple[list[Any], Any]:
        """Of the normal events and the anomalies; and of those that a calibration is fitted to."""
        from l1kd.evaluation.evaluate import scorer

        score = scorer(model, self.shape)
        judged = [np.ravel(score(events)) for events in (self.normal, self.anomalous)]
        return judged, None if self.apart is None else np.ravel(score(self.apart))

    def teacher(self) -> float:
        """The teacher's AUC."""
        from l1kd.evaluation.metrics import auc

        return auc(*self.truth)

    def __call__(self, model: Any) -> dict[str, Any]:
        """A student's figures."""
        from l1kd.evaluation.evaluate import Calibration
        from l1kd.evaluation.metrics import auc, emd, spearman

        given, own = self._scores(model)
        target, calibrated = self.target, given[1]
        if own is not None:
            calibrated = Calibration.fit(own, target.forward(self.wanted))(given[1])

        def distance(scores: Any, truth: Any) -> float:
            return emd(np.log1p(target.inverse(scores)), np.log1p(truth))

        return {
            "auc": auc(*given),
            "emd_anomalous": distance(given[1], self.truth[1]),
            "emd_calibrated": distance(calibrated, self.truth[1]),
            "emd_normal": distance(given[0], self.truth[0]),
            "spearman": spearman(np.concatenate(given), np.concatenate(self.truth)),
        }


def piece(context: Context, config: Config) -> dict[str, Any]:
    """Students of a variant, judged on validation events."""
    _, models, judge = taught(context, config)
    students = {name: judge(model) for name, model in models.items()}
    return {"teacher": judge.teacher(), "students": students}


def environment() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cores": cores(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("tensorflow", "qkeras", "numpy")},
    }


def piece_file(work: Path, case: str, variant: str) -> Path:
    """Where a variant's students of a case are kept."""
    slug = "".join(c if c.isalnum() else "-" for c in f"{case} {variant}")
    return work / f"{slug}.json"


def summary(pieces: dict[str, dict[str, Any]], students: Sequence[str]) -> list[dict[str, Any]]:
    """Of pieces by variant and case: means by student, and changes against the recipe."""
    found = []
    for variant, cases in pieces.items():
        shared = [case for case in cases if case in pieces[RECIPE]]

        def values(key: str, case: str, of: str = variant) -> list[float]:
            own = pieces[of][case]["students"]
            return [own[name][key] for name in students]

        row: dict[str, Any] = {"variant": variant, "cases": shared}
        keys = ["auc", "emd_anomalous", "emd_normal"]
        # Of calibrated scores; pieces made before there were any do not have it.
        if all("emd_calibrated" in s for c in shared for s in cases[c]["students"].values()):
            keys.append("emd_calibrated")
        for key in keys:
            by_student = zip(*(values(key, case) for case in shared), strict=True)
            row[key] = {
                name: round(statistics.mean(own), 5)
                for name, own in zip(students, by_student, strict=True)
            }
        changes = [
            a - b
            for case in shared
            for a, b in zip(values("auc", case), values("auc", case, RECIPE), strict=True)
        ]
        row["auc_change"] = round(statistics.mean(changes), 5)
        error = statistics.stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else 0.0
        row["auc_change_se"] = round(error, 5)
        found.append(row)
    return found


def main() -> int:
    """Train what is missing, record, print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("--cases", nargs="*", default=CASES)
    arguments.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-ablations"))
    options = arguments.parse_args()
    if not os.environ.get("L1KD_DATA"):
        sys.stderr.write("bench_ablations: set L1KD_DATA to where the images are\n")
        return 2
    for variant in dict.fromkeys([RECIPE, *options.only]):
        for case in options.cases:
            file = piece_file(options.work, case, variant)
            if not file.is_file():
                context = teacher_of(case, options.work)
                write_json(file, piece(context, configured(case, variant, STUDENTS)))
    pieces: dict[str, dict[str, Any]] = {}
    for variant in VARIANTS:
        for case in CASES:
            if (file := piece_file(options.work, case, variant)).is_file():
                pieces.setdefault(variant, {})[case] = read_json(file)
    rows = summary(pieces, STUDENTS)
    for row in rows:
        own = " ".join(f"{name} {value:.3f}" for name, value in row["auc"].items())
        change = f"{row['auc_change']:+.4f} +- {row['auc_change_se']:.4f}"
        sys.stdout.write(f"{row['variant']} ({', '.join(row['cases'])}): {own}; change {change}\n")
    write_json(
        RESULTS,
        {
            "environment": environment(),
            "judged_on": "validation halves",
            "base": BASE,
            "epochs": EPOCHS,
            "seeds": [SEED],
            "teachers": {case: own["teacher"] for case, own in pieces[RECIPE].items()},
            "variants": rows,
        },
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
