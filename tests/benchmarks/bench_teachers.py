"""Teachers of the toy calorimeter and the student `set` that learns from each, over seeds.

`python -m tests.benchmarks.bench_teachers [--teachers NAME ...] [--variants NAME ...]
[--seeds 1 2 3] [--test] [--work DIR]` trains each of `TEACHERS` with the student of the demo, by
the recipe of `l1toy` and the exposure in `TEACHERS`, once for every seed; then, for `VARIANTS` of
the distillation, the student again against that teacher, frozen. Judged on signals' validation
halves, at thresholds of training and validation normals; with `--test` what is finished is judged
on test halves, too: once, when the choice is made. Records `results/teachers.json`: AUC, efficiency
and band, means over signals, all six and without SUEP, and paired differences. Finished pieces are
kept in DIR (default `runs/bench-teachers`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import l1kd
from l1kd.core import config_file
from l1kd.core.context import Context
from l1kd.core.files import read_arrays, read_json, write_arrays, write_json
from l1kd.runs.run import context_of, run_configuration
from tests.benchmarks.bench_ablations import environment

RESULTS = Path(__file__).parent / "results" / "teachers.json"
CONFIG = "l1toy"
STUDENT = "set"
_UNITS = "square_root: 1.0, standardise: true"
DENSE = f"{{architecture: dense, hidden: [128, 64], latent: 8, {_UNITS}, residual_power: 2.25}}"
PCA = "{architecture: pca, square_root: 1.0}"


def _contrast(kinds: str, more: str = "") -> str:
    return f"{{architecture: contrast, hidden: [32], against: [{kinds}], {_UNITS}{more}}}"


def _both(first: str, second: str, combine: str = "soft_maximum") -> str:
    return f"{{architecture: ensemble, of: [{first}, {second}], combine: {combine}}}"


ALL, HARD = _contrast("jets, soft, patch, shuffle"), _contrast("jets, patch, shuffle")
# By name: the teacher, and the exposure that its students see.
TEACHERS = {
    "dense": (DENSE, "patch, shuffle"),
    "pca": (PCA, "patch, shuffle"),
    "contrast": (ALL, "jets, soft, patch, shuffle"),
    "contrast_no_soft": (HARD, "jets, patch, shuffle"),
    "dense_contrast": (_both(DENSE, ALL), "jets, soft, patch, shuffle"),
    "pca_contrast": (_both(PCA, ALL), "jets, soft, patch, shuffle"),
}


def overrides(name: str, seed: int, more: list[str]) -> list[str]:
    """Settings of a teacher's run."""
    teacher, exposure = TEACHERS[name]
    student = f"{{name: {STUDENT}, architecture: set, hidden: [12, 12]}}"
    own = [f"teacher={teacher}", f"students=[{student}]", f"distillation.exposure=[{exposure}]"]
    return [*own, f"seed={seed}", "threads=1", *more]


def taught(name: str, seed: int, work: Path, more: list[str]) -> Context:
    """A run whose teacher and student are trained."""
    directory, given = work / f"{name}-{seed}", overrides(name, seed, more)
    run_configuration(CONFIG, directory, until="train", overrides=given)
    return context_of(directory, config_file.load(config_file.find(CONFIG), given))


def halves(context: Context, *, test: bool) -> dict[str, Any]:
    """Samples to judge on: `test` are normal events, the rest are signals."""
    dataset = context.dataset
    if test:
        return dict(dataset.judged)
    return {"train": dataset.train, "val": dataset.val} | {
        name: own.val for name, own in dataset.signals.items()
    }


def scored(model: Any, context: Context, file: Path, *, test: bool) -> dict[str, Any]:
    """Scores by sample, kept in a file."""
    from l1kd.evaluation.evaluate import scorer

    if not file.is_file():
        score, samples = scorer(model, context.dataset.shape), halves(context, test=test)
        found = {
            name: np.concatenate([np.ravel(score(chunk)) for chunk in own.chunks(2048)])
            for name, own in samples.items()
        }
        write_arrays(file, {name: own.astype(np.float32) for name, own in found.items()})
    found = dict(read_arrays(file))
    if not test:  # 6,000 validation normals alone leave two events at the band's lower end
        found["test"] = np.concatenate([found.pop("train"), found.pop("val")])
    return found
