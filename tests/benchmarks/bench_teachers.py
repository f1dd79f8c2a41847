"""Teachers of the toy calorimeter, and the student `set` that learns from each, over seeds.

`python -m tests.benchmarks.bench_teachers [--teachers NAME ...] [--variants NAME ...]
[--seeds 1 2 3] [--set KEY=VALUE ...] [--test] [--record] [--page] [--work DIR]
[--further NAME ... --choice SAMPLE]` trains each of
`TEACHERS` with the student by the recipe of `l1toy` and the exposure in `TEACHERS`, once for every
seed; then, for each of `VARIANTS` of the distillation, the student again against the teacher
`FROZEN`. All is judged on signals' validation halves, at thresholds of training and validation
normals: 6,000 validation normals alone leave two events at the band's lower end. Records
`results/teachers.json`: AUC, efficiency and band, means over signals, all six and without SUEP, and
paired differences to the first of a table, of the same seed. `--test`, when the choice is made: the
runs of the teachers asked for are evaluated on test halves, and their students compared with the
baselines. `--further`: students of `FURTHER`, which learn side by side with the teacher that is the
default, baselines beside them; on the validation halves and on SAMPLE, made by `l1kd data generate`
with another seed, for nothing but that choice. `--record` trains nothing, `--page` writes the
tables into docs/training.md. Finished pieces are kept in DIR (default `runs/bench-teachers`);
tables of which DIR has no piece stay as recorded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import l1kd
from l1kd.core import config_file
from l1kd.core.context import Context
from l1kd.core.files import read_arrays, read_json, write_arrays, write_json
from l1kd.core.stages import Stage
from l1kd.evaluation.comparison import Comparison
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import events_per_collision
from l1kd.runs.run import context_of, run_configuration
from tests.benchmarks.bench_ablations import environment
from tests.benchmarks.bench_seeds import multiplicity, samples_of

RESULTS = Path(__file__).parent / "results" / "teachers.json"
PAGE = Path(__file__).parents[2] / "docs" / "training.md"
CONFIG, STUDENT = "l1toy", "{name: set, architecture: set, hidden: [12, 12]}"
_UNITS = "square_root: 1.0, standardise: true"
DENSE = f"{{architecture: dense, hidden: [128, 64], latent: 8, {_UNITS}, residual_power: 2.25}}"
PCA, MAHALANOBIS = (
    f"{{architecture: {name}, square_root: 1.0}}" for name in ("pca", "mahalanobis")
)


def _contrast(kinds: str) -> str:
    return f"{{architecture: contrast, hidden: [32], against: [{kinds}], {_UNITS}}}"


def _of(*members: str) -> str:
    return f"{{architecture: ensemble, of: [{', '.join(members)}]}}"


BOTH, HARD = "jets, soft", "jets, patch"
# By name: the teacher, and the exposure that its students see. The first is what the others are
# compared with: the default before there were classifiers, with its epochs.
BEFORE, WAITING = "dense_before", "head_start"
EPOCHS = {BEFORE: (16, 0, 8), WAITING: (8, 7, 32)}  # of the teacher, alone of these, then frozen
TEACHERS = {
    BEFORE: (DENSE, "patch, shuffle"),
    "dense": (DENSE, BOTH),
    "mahalanobis": (MAHALANOBIS, BOTH),
    "contrast": (_contrast(BOTH), BOTH),
    "mahalanobis_contrast": (_of(MAHALANOBIS, _contrast(BOTH)), BOTH),
    "mahalanobis_contrast_no_soft": (_of(MAHALANOBIS, _contrast(HARD)), HARD),
    "pca_contrast": (_of(PCA, _contrast(BOTH)), BOTH),
    "dense_contrast": (_of(DENSE, _contrast(BOTH)), BOTH),
    WAITING: (_of(MAHALANOBIS, _contrast(BOTH)), BOTH),
}
FROZEN = "mahalanobis_contrast"  # the teacher of the variants
# Settings of the distillation; `student` is the student's.
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "turned": {"exposure": ["jets", "soft", "turn"]},
    "patch_shuffle": {"exposure": ["patch", "shuffle"]},
    "double_exposure": {"exposure_ratio": 2.0},
    "rate_2e-2": {"student_learning_rate": 2e-2},
    "raw_weight": {"raw_weight": 0.3},
    "tail": {"_tail": 3.0},
    "ranking": {"_ranking": 1.0},
    "double_epochs": {"_epochs": 2.0},
    "12_filters": {"student": {"filters": 12}},
    "32_16": {"student": {"hidden": [32, 16]}},
    "3_starts": {"student": {"starts": 3}},
}
# Students that learn together, beside the default's teacher, and their frozen epochs; their rows
# are named by both. regions, p: windows of one region, so many thresholds; h: units of the layer
# before the last but one; bits: the architecture's own.
_WIDE = {"architecture": "set", "hidden": [16, 12]}
_REGIONS = {"architecture": "set", "kernel": [1, 1], "filters": 1}
_FEW_BITS = {
    "weight_bits": 5,
    "layers": {
        "conv1": {"weight_bits": 4, "activation_bits": 9},
        "conv2": {"weight_bits": 3, "activation_bits": 8},
        "output": {"weight_bits": 8},
    },
}
FURTHER: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
    "24_epochs": (
        24,
        {
            "cicada_v2": {"architecture": "cicada_v2", "learning_rate": 5e-3},
            "set": {"architecture": "set", "hidden": [12, 12]},
            "conv": {"architecture": "conv", "hidden": [16]},
            "regions_3": {**_REGIONS, "hidden": [16, 12], "pointwise": 3, **_FEW_BITS},
            "regions_4": {**_REGIONS, "hidden": [12, 12], "pointwise": 4, **_FEW_BITS},
        },
    ),
    "56_epochs": (
        56,
        {
            "set": {"architecture": "set", "hidden": [12, 12]},
            "h16": _WIDE,
            "h16n": {**_WIDE, "layers": {"conv1": {"weight_bits": 3}}},
        },
    ),
    "56_epochs_regions": (
        56,
        {
            "p3h16": {**_REGIONS, "hidden": [16, 12], "pointwise": 3, **_FEW_BITS},
            "p4h16": {**_REGIONS, "hidden": [16, 12], "pointwise": 4, **_FEW_BITS},
            "p4h16wide": {**_REGIONS, "hidden": [16, 12], "pointwise": 4},
            "p3h12": {**_REGIONS, "hidden": [12, 12], "pointwise": 3, **_FEW_BITS},
        },
    ),
}
FIRST, BESIDE = "set_24", ("mahalanobis", "pca", "pus_top16", "menu")


def settings(name: str, seed: int, more: Sequence[str]) -> list[str]:
    """Settings of a teacher's run."""
    teacher, exposure = TEACHERS[name]
    own = [f"teacher={teacher}", f"students=[{STUDENT}]", f"distillation.exposure=[{exposure}]"]
    keys = "epochs", "head_start", "final_epochs"
    given = zip(keys, EPOCHS.get(name, (8, 0, 24)), strict=True)
    own += [f"distillation.{key}={number}" for key, number in given]
    rate = ["distillation.learning_rate=1e-3"]
    return [*own, f"seed={seed}", "threads=1", *(rate if name == BEFORE else more)]


def taught(
    name: str, seed: int, work: Path, more: Sequence[str], until: Stage = "train"
) -> Context:
    """A run whose teacher and student are trained."""
    directory, given = work / f"{name}-{seed}", settings(name, seed, more)
    run_configuration(CONFIG, directory, until=until, overrides=given)
    return context_of(directory, config_file.load(config_file.find(CONFIG), given))


def scored(
    model: Any, context: Context, file: Path, samples: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Scores by sample, `test` of normals, kept in a file; of None those of validation halves."""
    from tensorflow import keras

    from l1kd.evaluation.evaluate import scorer

    dataset = context.dataset
    if not file.is_file():
        if samples is None:
            samples = {"train": dataset.train, "test": dataset.val}
            samples |= {name: own.val for name, own in dataset.signals.items()}
        score = scorer(model, dataset.shape) if isinstance(model, keras.Model) else model
        write_arrays(
            file,
            {
                name: np.concatenate([np.ravel(score(chunk)) for chunk in own.chunks(1024)])
                for name, own in samples.items()
            },
        )
    found = dict(read_arrays(file))
    if "train" in found:
        found["test"] = np.concatenate([found.pop("train"), found["test"]])
    return found


def varied(name: str, context: Context) -> Any:
    """The student, trained against a run's teacher, frozen, by a variant of the recipe."""
    from l1kd.training import frozen_teacher
    from l1kd.training.frozen_teacher import LabelledEvents
    from l1kd.training.target_transform import load_target

    config, change = context.config, dict(VARIANTS[name])
    student = config.students[0].model_copy(update=change.pop("student", {}))
    own = {key: change.pop(key) for key in ("_tail", "_ranking", "_epochs") if key in change}
    recipe = config.distillation.model_copy(update=change)
    config = config.model_copy(update={"distillation": recipe})
    epochs = round((recipe.epochs + recipe.final_epochs) * own.pop("_epochs", 1.0))
    labelled = LabelledEvents.label(
        recipe,
        config.seed,
        context.dataset,
        l1kd.load_model(context.teacher_file),
        load_target(context.directory),
        draws=min(recipe.draws, epochs),
    )
    trainer = frozen_teacher.StudentTrainer
    try:
        frozen_teacher.StudentTrainer = _trainer(trainer, labelled, **own)  # type: ignore[misc]
        trained = frozen_teacher.train_students(
            [student], labelled, config, context.dataset.grid, epochs=epochs, seed=config.seed
        )
    finally:
        frozen_teacher.StudentTrainer = trainer  # type: ignore[misc]
    return trained[student.name]


def _trainer(base: Any, labelled: Any, _tail: float = 0.0, _ranking: float = 0.0) -> Any:
    """Student losses with weight on the tail, or on the order of events around a threshold."""
    import tensorflow as tf

    from l1kd.training.student_losses import clip_below

    low, high = np.quantile(labelled.normal_targets, (0.95, 0.999))

    class Trainer(base):  # type: ignore[misc]
        """Of one student."""

        def losses(self, events: Any, target: Any, *rest: Any, **options: Any) -> Any:
            found = super().losses(events, target, *rest, **options)
            if not options.get("training") or not (_tail or _ranking):
                return found
            quantize = options.get("quantize", True)
            weights = self.stack.weights(self.vector[: self.stack.size], quantize=quantize)
            seen = self.stack.forward(weights, events, quantize=quantize)
            reached = clip_below(seen.scores[self.names[0]], target, self.score.low)
            # Exposure beyond the normals' tail has no say: its order decides nothing.
            near = tf.cast((target > low) & (target < high + (high - low)), tf.float32)
            if _tail:
                missed = tf.abs(reached - target) * near
                found += _tail * tf.reduce_mean(missed)
            if _ranking:
                order = tf.sign(target[:, None] - target[None, :])
                unit = (high - low) / 4
                wrong = tf.nn.relu(unit - order * (reached[:, None] - reached[None, :]))
                pairs = near[:, None] * near[None, :] * tf.abs(order)
                found += _ranking * tf.reduce_sum(wrong * pairs) / (tf.reduce_sum(pairs) + 1.0)
            return found

    return Trainer


def figures(
    scores: Mapping[str, Mapping[str, Any]], context: Context, apart: float | None = None
) -> Any:
    """Of networks judged together: means over signals, and paired differences to the first.

    `apart`: normal events per distinct collision; of None those that train.
    """
    if apart is None:
        known = context.dataset.description["distinct_collisions"]
        description = {"distinct_collisions": {"test": known["train"]}}
        apart = events_per_collision(description, len(next(iter(scores.values()))["test"]))
    first = next(iter(scores))
    found = {}
    for without in ((), ("suep",)):
        kept = {
            name: {key: own for key, own in each.items() if key not in without}
            for name, each in scores.items()
        }
        compared = Comparison(kept, apart)
        for name in kept:
            row = found.setdefault(name, {})
            own = compared.qualities[name]
            key = "no_suep" if without else "all"
            row[key] = {
                kind: round(mean_over_signals(getattr(own, kind)) or 0.0, 5)
                for kind in ("auc", "efficiency", "band")
            }
            if name != first:
                mean = compared.differences(name, {first: first})[first]["band"]["mean"]
                row[key]["minus_first"] = [round(mean.value, 5), round(mean.error, 5)]
            if not without:
                row["signals"] = {k: round(v, 4) for k, v in own.band.items()}
    return found


def over(values: Iterable[float]) -> list[float]:
    """Mean and its standard error."""
    each = list(values)
    error = statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else 0.0
    return [round(statistics.mean(each), 5), round(error, 5)]


def summary(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds by network; errors are the seeds', `events` those of the bootstrap."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for rows in seeds.values() for name in rows):
        rows = [own[name] for own in seeds.values() if name in own]
        found[name] = {"seeds": len(rows)}
        for key in ("all", "no_suep"):
            found[name][key] = {
                kind: over(row[key][kind] for row in rows) for kind in ("auc", "efficiency", "band")
            }
            if apart := [row[key]["minus_first"] for row in rows if "minus_first" in row[key]]:
                mean, error = over(value for value, _ in apart)
                events = round(statistics.mean(own for _, own in apart), 5)
                found[name][key]["minus_first"] = {"value": mean, "seeds": error, "events": events}
        found[name]["signals"] = {
            signal: round(statistics.mean(row["signals"][signal] for row in rows), 4)
            for signal in rows[0]["signals"]
        }
    return found


def against_baselines(work: Path, name: str) -> dict[str, Any]:
    """Of evaluated runs of a teacher: their students' bands, and minus teacher and baselines."""
    files = sorted(work.glob(f"{name}-*/metrics.json"))
    rows = [read_json(file) for file in files]
    if not rows:
        return {}
    students = [row["students"]["set"] for row in rows]
    found: dict[str, Any] = {"seeds": len(rows)}
    for kind in ("auc", "efficiency", "band"):
        found[kind] = over(
            statistics.mean(v for k, v in own[kind].items() if k != "all") for own in students
        )
    found["minus"] = {}
    for other in students[0]["difference"]:
        row = found["minus"][other] = {}
        for key, left_out in (("all", ()), ("no_suep", ("suep", "mean"))):
            parts = [own["difference"][other]["band"] for own in students]
            if key == "all":
                row[key] = {
                    "value": over(part["mean"]["value"] for part in parts)[0],
                    "seeds": over(part["mean"]["value"] for part in parts)[1],
                    "events": over(part["mean"]["error"] for part in parts)[0],
                }
            else:
                each = [
                    statistics.mean(v["value"] for k, v in part.items() if k not in left_out)
                    for part in parts
                ]
                row[key] = dict(zip(("value", "seeds"), over(each), strict=True))
    return found


def baseline_table(found: Mapping[str, Any]) -> list[str]:
    """Lines of the table of students on test halves."""
    lines = ["| `set` taught by | minus | band | events | without SUEP |", "|---|---|---|---|---|"]
    for name, own in found.items():
        mean, error = own["band"]
        lines.append(
            f"| `{name}`, {own['seeds']} seeds | | {100 * mean:.1f} +- {100 * error:.1f} | | |"
        )
        for other, row in own["minus"].items():
            whole, rest = row["all"], row["no_suep"]
            cells = [
                f"{100 * whole['value']:+.1f} +- {100 * whole['seeds']:.1f}",
                f"{100 * whole['events']:.1f}",
                f"{100 * rest['value']:+.1f} +- {100 * rest['seeds']:.1f}",
            ]
            lines.append(f"| | `{other}` | {' | '.join(cells)} |")
    return lines


def table(found: Mapping[str, Any]) -> list[str]:
    """Lines of a table in docs/training.md."""
    lines = ["| network | seeds | AUC | band | minus first | band without SUEP | minus first |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, row in found.items():
        cells = [f"`{name}`", str(row["seeds"]), f"{row['all']['auc'][0]:.3f}"]
        for key in ("all", "no_suep"):
            mean, error = row[key]["band"]
            cells.append(f"{100 * mean:.1f} +- {100 * error:.1f} %")
            apart = row[key].get("minus_first")
            text = "{:+.1f} +- {:.1f} (events {:.1f})"
            cells.append(text.format(*(100 * own for own in apart.values())) if apart else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_page(tables: Mapping[str, list[str]]) -> None:
    """Put the tables between their marks in docs/training.md."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: made by bench_teachers -->", f"<!-- end of {name} -->"
        if begin not in text:
            continue
        head, _, rest = text.partition(begin)
        text = "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{rest.partition(end)[2]}"])
    PAGE.write_text(text, encoding="utf-8")


def main() -> int:
    """Train what is missing, record, print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("--teachers", nargs="*", default=list(TEACHERS), choices=list(TEACHERS))
    arguments.add_argument("--variants", nargs="*", default=[], choices=list(VARIANTS))
    arguments.add_argument("--further", nargs="*", default=[], choices=list(FURTHER))
    arguments.add_argument("--choice", type=Path)
    arguments.add_argument("--seeds", nargs="*", type=int, default=[1])
    arguments.add_argument("--set", nargs="*", default=[], dest="more")
    arguments.add_argument("--test", action="store_true")
    arguments.add_argument("--page", action="store_true")
    arguments.add_argument("--record", action="store_true", help="train nothing")
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-teachers"))
    options = arguments.parse_args()
    work, more = options.work, options.more
    contexts: dict[tuple[str, int], Context] = {}
    for seed in () if options.record else options.seeds:
        for name in options.teachers:
            until: Stage = "evaluate" if options.test else "train"
            context = contexts[name, seed] = taught(name, seed, work, more, until)
            judge(l1kd.load_model(context.teacher_file), context, f"{name}-{seed}-teacher", work)
            student = l1kd.load_model(context.student_file("set"))
            judge(student, context, f"{name}-{seed}-student", work)
        for name in options.variants:
            if not (work / f"variant-{name}-{seed}.npz").is_file():
                context = contexts.get((FROZEN, seed)) or taught(FROZEN, seed, work, more)
                judge(varied(name, context), context, f"variant-{name}-{seed}", work)
        if options.further:
            further(options.further, seed, work, options.choice)
    record(work, more, options.choice, page=options.page)
    return 0


def further(names: Sequence[str], seed: int, work: Path, choice: Path | None) -> None:
    """Train students of `FURTHER`; score them, their teacher and baselines."""
    from l1kd.evaluation.baselines import fit_baselines

    models: dict[str, Any] = {}
    for name in names:
        epochs, students = FURTHER[name]
        own = [{"name": key, **student} for key, student in students.items()]
        given = [f"students={own}", f"distillation.final_epochs={epochs}", f"seed={seed}"]
        directory = work / f"further-{name}-{seed}"
        run_configuration(CONFIG, directory, until="train", overrides=given)
        context = context_of(directory, config_file.load(config_file.find(CONFIG), given))
        models["teacher"] = l1kd.load_model(context.teacher_file)
        for key in students:
            models[f"{key}_{epochs}"] = l1kd.load_model(context.student_file(key))
    models |= {n: own[0] for n, own in fit_baselines(context.dataset).items() if n in BESIDE}
    for name, model in models.items():
        judge(model, context, f"further-{name}-{seed}", work)
        if choice:
            judge(model, context, f"choice-{name}-{seed}", work, samples_of(choice))


def judge(
    model: Any, context: Context, name: str, work: Path, samples: Mapping[str, Any] | None = None
) -> None:
    """Score what has no scores yet."""
    if not (file := work / f"{name}.npz").is_file():
        scored(model, context, file, samples)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


def record(work: Path, more: Sequence[str], choice: Path | None, *, page: bool) -> None:
    """Write and print what is there."""
    before = read_json(RESULTS) if RESULTS.is_file() else {}
    found: dict[str, Any] = {}
    groups = {
        "teachers": {name: f"{name}-{{}}-teacher.npz" for name in TEACHERS},
        "students": {name: f"{name}-{{}}-student.npz" for name in TEACHERS},
        "variants": {name: f"variant-{name}-{{}}.npz" for name in VARIANTS},
    }
    students = [f"{key}_{epochs}" for epochs, own in FURTHER.values() for key in own]
    tried = dict.fromkeys([FIRST, *students, "teacher", *BESIDE])
    groups |= {g: {n: f"{g}-{n}-{{}}.npz" for n in tried} for g in ("further", "choice")}
    aparts = {"choice": choice and multiplicity(choice, work, None, 1e-3)}
    for group, patterns in groups.items():
        rows = {}
        first = next(iter(patterns))
        for path in sorted(work.glob(patterns[first].format("*"))):
            seed = next(part for part in reversed(path.stem.split("-")) if part.isdigit())
            files = {name: work / pattern.format(seed) for name, pattern in patterns.items()}
            there = {name: file for name, file in files.items() if file.is_file()}
            given = config_file.load(config_file.find(CONFIG), [f"seed={seed}"])
            context = context_of(work, given)
            scores = {name: scored(None, context, file) for name, file in there.items()}
            cached = work / f"figures-{group}-{seed}.json"
            if not cached.is_file() or list(read_json(cached)) != list(scores):
                write_json(cached, figures(scores, context, aparts.get(group)))
            rows[seed] = read_json(cached)
        if rows:
            found[group] = {"summary": summary(rows), "seeds": rows}
    found = {name: before[name] for name in groups if name in before} | found
    tables = {name: table(own["summary"]) for name, own in found.items()}
    judged = {name: own for name in TEACHERS if (own := against_baselines(work, name))}
    judged = judged or before.get("test_halves", {})
    tables["judged"] = baseline_table(judged)
    settings = {"environment": environment(), "settings": list(more) or before.get("settings", [])}
    write_json(RESULTS, {**settings, "test_halves": judged, **found})
    for name, lines in tables.items():
        sys.stdout.write("\n".join([f"{name}:", *lines, ""]))
    if page:
        write_page(tables)


if __name__ == "__main__":
    raise SystemExit(main())
