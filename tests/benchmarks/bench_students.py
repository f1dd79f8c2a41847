"""Students of a configuration against one teacher, over seeds: quality, symmetry in phi, logic.

`python -m tests.benchmarks.bench_students [CONFIG] [--seeds 1 2 3] [--only NAME ...] [--epochs N]
[--work DIR]` trains the teacher of CONFIG (default `set`) once, then every student alone against
it, frozen, with the configuration's exposure, once for every seed. Records `results/students.json`:
by student and seed AUC, efficiency at a false-positive rate of 1e-3 and band (the mean efficiency
over rates from 3e-4 to 3e-3, weighted by their logarithm), means over signals, on validation halves
and on test halves; how far a rotation in phi moves ttbar's scores, in standard deviations of the
normal ones; expected LUTs, flip-flops and latency as Verilog. Finished students
are kept in DIR (default `runs/bench-students`), those of an earlier setting are trained again; all
that fits CONFIG is recorded, so that seeds may be added one by one.
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
from l1kd.core.config import Config, Student
from l1kd.core.context import Context
from l1kd.core.files import read_json, write_json
from l1kd.runs.run import context_of, run_configuration
from tests.benchmarks.bench_ablations import environment

RESULTS = Path(__file__).parent / "results" / "students.json"
BAND = 3e-4, 3e-3
ROTATED, ROTATED_SIGNAL = 500, "ttbar"  # events of one signal, or of the first

Scores = Mapping[str, Any]  # of `test`, the normal events, and of signals by name


def taught(argument: str, work: Path) -> Context:
    """A run whose teacher is trained."""
    own = config_file.load(config_file.find(argument)).students[0]
    overrides = (
        f"students=[{own.model_dump(mode='json', exclude_defaults=True)}]",  # somebody has to learn
        "distillation.final_epochs=1",
        "distillation.exposure=[]",
        "threads=1",
    )
    directory = work / f"teacher-{config_file.find(argument).stem}"
    if not (directory / "teacher.keras").is_file():
        run_configuration(argument, directory, until="train", overrides=overrides)
    return context_of(directory, config_file.load(config_file.find(argument), ["threads=1"]))


def band(normal: Any, anomalous: Any) -> float:
    """Mean efficiency over the rates of `BAND`, by their logarithm; exact."""
    ordered = np.sort(normal)
    above = len(ordered) - np.searchsorted(ordered, anomalous, "left")
    low, high = BAND
    rates = np.maximum(above / len(ordered), low)
    return float(np.clip(np.log(high / rates) / np.log(high / low), 0, 1).mean())


def judged(scores: Scores) -> dict[str, float]:
    """Means over signals."""
    from l1kd.evaluation.metrics import auc, efficiency

    normal, signals = scores["test"], [each for name, each in scores.items() if name != "test"]
    measures = {"auc": auc, "efficiency": efficiency, "band": band}
    return {
        name: round(statistics.mean(measure(normal, each) for each in signals), 5)
        for name, measure in measures.items()
    }


def figures(score: Any, context: Context) -> dict[str, Any]:
    """Figures of a score, a function of events, on both halves."""
    dataset = context.dataset
    halves = {
        "validation": {"test": dataset.val} | {n: s.val for n, s in dataset.signals.items()},
        "test": dataset.judged,
    }
    scores = {
        half: {name: np.ravel(score(sample.events())) for name, sample in samples.items()}
        for half, samples in halves.items()
    }
    found: dict[str, Any] = {half: judged(own) for half, own in scores.items()}
    first = ROTATED_SIGNAL if ROTATED_SIGNAL in dataset.signals else next(iter(dataset.signals))
    events, (axis,) = dataset.signals[first].test.events(ROTATED), dataset.standardise_axes
    moved = [
        np.abs(np.ravel(score(np.roll(events, by, axis + 1))) - scores["test"][first][:ROTATED])
        for by in range(1, events.shape[axis + 1])
    ]
    found["rotation"] = round(float(np.mean(moved) / np.std(scores["test"]["test"])), 4)
    return found


def cost(model: Any) -> dict[str, Any]:
    """Expected logic of a student as Verilog."""
    from l1kd.firmware.verilog.alkaid_convert import estimate

    found = estimate(l1kd.read(model))
    layers = {layer.name: round(layer.lut) for layer in found.layers}
    return {
        "lut": round(found.lut),
        "ff": round(found.ff),
        "latency_cycles": found.latency_cycles,
        "lut_by_layer": layers,
        "weights": model.count_params(),
    }


def piece(own: Student, seed: int, context: Context, labelled: Any, epochs: int) -> dict[str, Any]:
    """A student, trained alone from the drawing of a seed; its model is kept too."""
    from l1kd.evaluation.evaluate import scorer
    from l1kd.networks.load import save_model
    from l1kd.training.frozen_teacher import train_students

    dataset = context.dataset
    single = own.model_copy(update={"starts": 1})
    trained = train_students(
        [single], labelled, context.config, dataset.grid, epochs=epochs, seed=seed
    )
    model = trained[own.name]
    save_model(model, context.directory.parent / f"{own.name}-{seed}.keras")
    return {**figures(scorer(model, dataset.shape), context), **cost(model)}


def labels(context: Context, epochs: int) -> Any:
    """Normal events and their exposure with the teacher's word on them."""
    from l1kd.training.frozen_teacher import LabelledEvents
    from l1kd.training.target_transform import load_target

    config, dataset = context.config, context.dataset
    return LabelledEvents.label(
        config.distillation,
        config.seed,
        dataset,
        l1kd.load_model(context.teacher_file),
        load_target(context.directory),
        draws=min(config.distillation.draws, epochs),
        limit=len(dataset.train),
    )


def setting(own: Student, seed: int, config: Config, epochs: int) -> dict[str, Any]:
    """All that a student's figures depend on beside the teacher."""
    recipe = config.distillation.model_dump(mode="json")
    # `epochs` is the student's number, not the recipe's key of the same name.
    return {**recipe, "student": own.model_dump(mode="json"), "seed": seed, "epochs": epochs}


def summary(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds and standard errors of the means."""

    def over(values: list[float]) -> list[float]:
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return [round(statistics.mean(values), 5), round(error, 5)]

    found: dict[str, Any] = {
        half: {key: over([row[half][key] for row in rows.values()]) for key in keys}
        for half, keys in dict.fromkeys(
            ("validation", "test"), ("auc", "efficiency", "band")
        ).items()
    }
    for key in ("rotation", "lut", "ff", "latency_cycles"):
        found[key] = over([row[key] for row in rows.values()])
    return found


def main() -> int:
    """Train, record, print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("config", nargs="?", default="set")
    arguments.add_argument("--seeds", nargs="*", type=int, default=[1])
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--epochs", type=int, help="default: all those of the configuration")
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-students"))
    options = arguments.parse_args()
    context = taught(options.config, options.work)
    config, labelled = context.config, None
    recipe = config.distillation
    epochs = options.epochs or recipe.epochs + recipe.final_epochs
    chosen = [own for own in config.students if not options.only or own.name in options.only]
    for seed in options.seeds:
        for own in chosen:
            file = options.work / f"{own.name}-{seed}.json"
            wanted = setting(own, seed, config, epochs)
            if file.is_file() and read_json(file)["setting"] == wanted:
                continue
            labelled = labelled or labels(context, epochs)
            row = piece(own, seed, context, labelled, epochs)
            write_json(file, {"setting": wanted, **row})
            sys.stdout.write(f"{own.name} {seed}: {row}\n")
            sys.stdout.flush()
    record(context, options.work, epochs)
    return 0


def record(context: Context, work: Path, epochs: int) -> None:
    """Write what is there of the configuration's students."""
    from l1kd.evaluation.evaluate import scorer

    config, found = context.config, {}
    for own in config.students:
        rows = {}
        for file in sorted(work.glob(f"{own.name}-*.json")):
            row, seed = read_json(file), file.stem.removeprefix(f"{own.name}-")
            if seed.isdigit() and row.pop("setting") == setting(own, int(seed), config, epochs):
                rows[seed] = row
        if rows:
            found[own.name] = {"summary": summary(rows), "seeds": rows}
            sys.stdout.write(f"{own.name}: {found[own.name]['summary']}\n")
    teacher = figures(scorer(l1kd.load_model(context.teacher_file), context.dataset.shape), context)
    about = {"environment": environment(), "epochs": epochs, "data": config.data.source}
    write_json(RESULTS, {**about, "teacher": teacher, "students": found})


if __name__ == "__main__":
    raise SystemExit(main())
