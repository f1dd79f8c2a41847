"""Small students of the demo's events: quality against logic as Yosys counts it, and latency.

`python -m tests.benchmarks.bench_front [CONFIG] [--seeds 1 2] [--only NAME ...] [--epochs N]
[--teacher RUN] [--train] [--work DIR] [--page]` trains the students of CONFIG (default `front.yaml`
beside this file) against one frozen teacher, those that are asked for side by side; then writes the
Verilog of each, the least first, and synthesises it. Records `results/front.json`, and with --page
the table of docs/silicon.md: by student and seed AUC and band on validation and on test halves,
LUTs and flip-flops by Yosys, pipeline stages. A point of the front is one that no student beats in
LUTs and in the band of *validation* halves (at thresholds of training and validation normals: a
student learns scores, not who is normal), means over seeds. The teacher is that of a RUN, or
trained once by CONFIG; --train ends before the synthesis.

Every finished piece is kept in DIR (default `runs/bench-front`): stopped, it goes on where it was.
What is recorded are all pieces of CONFIG's students that are there, whatever their epochs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import l1kd
from l1kd.core import config_file
from l1kd.core.config import Student
from l1kd.core.context import Context
from l1kd.core.files import content_hash, file_hash, read_json, write_json
from l1kd.evaluation.evaluate import scorer
from l1kd.evaluation.metrics import mean_over_signals, quality
from l1kd.evaluation.scores import score_samples
from l1kd.firmware.run_firmware import stated_port
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.synthesize import synthesize
from l1kd.networks.load import save_model
from l1kd.networks.to_exact import read
from l1kd.runs.run import context_of
from l1kd.training.frozen_teacher import LabelledEvents, train_students
from tests.benchmarks.bench_ablations import environment
from tests.benchmarks.bench_students import labels, setting, taught

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "front.json", HERE.parents[1] / "docs" / "silicon.md"
MARKS = ("<!-- front: made by bench_front -->\n", "<!-- end of front -->")
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
QUALITY = ("auc", "band")
Row = dict[str, Any]


def taught_by(argument: str, run: Path | None, work: Path) -> Context:
    """A run with a trained teacher, its context with the students of a configuration."""
    if run is None:
        return taught(argument, work)
    return context_of(run, config_file.load(config_file.find(argument), ["threads=1"]))


def kept_labels(context: Context, work: Path, epochs: int) -> LabelledEvents:
    """Labelled events, made once for a teacher and a recipe."""
    recipe = context.config.distillation.model_dump(mode="json")
    key = content_hash([file_hash(context.teacher_file), recipe, context.config.seed, epochs])
    file = work / f"targets-{key[:12]}.npz"
    if not file.is_file():
        found: LabelledEvents = labels(context, epochs)
        found.save(file)
    return LabelledEvents.load(file)


def wanted(own: Student, seed: int, context: Context, epochs: int) -> dict[str, Any]:
    """All that a row follows from."""
    whole = setting(own, seed, context.config, epochs)
    return {**whole, "teacher": file_hash(context.teacher_file)}


def judged(model: Any, context: Context) -> Row:
    """Quality of a student on validation halves and on test halves, means over signals."""
    dataset = context.dataset
    parts = {"train": dataset.train, "val": dataset.val}
    parts |= {f"val:{name}": signal.val for name, signal in dataset.signals.items()}
    parts |= {f"test:{name}": sample for name, sample in dataset.judged.items()}
    arrays = score_samples({"own": scorer(model, dataset.shape)}, parts)
    scores = {name: arrays[f"own_{name}"] for name in parts}
    normal = {
        "validation": np.concatenate([scores["train"], scores["val"]]),
        "test": scores["test:test"],
    }
    found: Row = {}
    for half, first in (("validation", "val:"), ("test", "test:")):
        signals = {name: scores[f"{first}{name}"] for name in dataset.signals}
        own = quality({"test": normal[half], **signals})
        values = {key: mean_over_signals(getattr(own, key)) for key in QUALITY}
        found[half] = {key: round(value or 0.0, 4) for key, value in values.items()}
    return found


def train(
    students: Sequence[Student], seed: int, context: Context, work: Path, epochs: int
) -> None:
    """Train those students of a seed that are not there; keep models and figures."""
    missing = [
        own
        for own in students
        if not (file := work / f"{own.name}-{seed}.json").is_file()
        or read_json(file)["setting"] != wanted(own, seed, context, epochs)
    ]
    if not missing:
        return
    labelled, grid = kept_labels(context, work, epochs), context.dataset.grid
    trained = train_students(missing, labelled, context.config, grid, epochs=epochs, seed=seed)
    for own in missing:
        model = trained[own.name]
        save_model(model, work / f"{own.name}-{seed}.keras")
        row = {"setting": wanted(own, seed, context, epochs), **judged(model, context)}
        write_json(work / f"{own.name}-{seed}.json", row)
        say(f"{own.name} {seed}: {row['validation']}")


def synthesised(own: Student, seed: int, context: Context, work: Path) -> Row:
    """Logic of a student as Verilog, by Yosys; a result that is there is not made again."""
    model = l1kd.load_model(work / f"{own.name}-{seed}.keras")
    network = read(model)
    logic = alkaid_convert.to_verilog(
        network,
        work / "verilog" / f"{own.name}-{seed}",
        clock_ns=CLOCK_NS,
        part=PART,
        name=own.name,
        port=stated_port(context, network),
    )
    made = synthesize(logic.directory, logic.record.top, part=PART, time_limit_s=7200.0, say=say)
    return {
        "model": file_hash(work / f"{own.name}-{seed}.keras"),
        **{key: getattr(made, key) for key in ("lut", "ff", "dsp", "tool")},
        "stages": logic.record.latency_cycles,
        "weights": int(model.count_params()),
        "estimate": round(logic.record.lut or 0),
        "lut_by_layer": {layer.name: round(layer.lut) for layer in logic.record.layers},
    }


def size(own: Student, seed: int, work: Path) -> int:
    """Weights of a trained student: the least is synthesised first."""
    return int(l1kd.load_model(work / f"{own.name}-{seed}.keras").count_params())


def say(line: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def summary(rows: Mapping[str, Row]) -> Row:
    """Means over seeds; of the bands also their standard errors."""

    def mean(values: list[float], digits: int = 5) -> float:
        return round(statistics.mean(values), digits)

    found: Row = {
        half: {key: mean([row[half][key] for row in rows.values()]) for key in QUALITY}
        for half in ("validation", "test")
    }
    for half in ("validation", "test"):
        bands = [row[half]["band"] for row in rows.values()]
        error = statistics.stdev(bands) / len(bands) ** 0.5 if len(bands) > 1 else None
        found[half]["band_error"] = None if error is None else round(error, 5)
    for key in ("lut", "ff", "stages"):
        found[key] = mean([row["yosys"][key] for row in rows.values()], 1)
    found["weights"] = next(iter(rows.values()))["yosys"]["weights"]
    return found


def front(students: Mapping[str, Row]) -> list[str]:
    """Names of those that no other beats in LUTs and validation band, cheapest first."""
    ordered = sorted(students, key=lambda name: (students[name]["summary"]["lut"], name))
    best, found = -1.0, []
    for name in ordered:
        band = students[name]["summary"]["validation"]["band"]
        if band > best:
            best = band
            found.append(name)
    return found


def record(context: Context, work: Path) -> None:
    """Write what is there of the configuration's students."""
    students = {}
    for own in context.config.students:
        rows = {}
        for file in sorted(work.glob(f"{own.name}-*.json")):
            row, seed = read_json(file), file.stem.removeprefix(f"{own.name}-")
            if not seed.isdigit() or "yosys" not in row:
                continue
            made = row.pop("setting")
            if made == wanted(own, int(seed), context, made["epochs"]):
                rows[seed] = {**row, "epochs": made["epochs"]}
        if rows:
            described = own.model_dump(mode="json", exclude_defaults=True)
            students[own.name] = {
                "student": described,
                "summary": summary(rows),
                "seeds": rows,
            }
    about = {"environment": environment(), "part": PART, "clock_ns": CLOCK_NS}
    write_json(RESULTS, {**about, "students": students, "front": front(students)})


def table(found: Row) -> str:
    """Markdown of all students, cheapest first."""
    lines = [
        "| student | weights | LUT | FF | stages | validation band | test band | test AUC | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    own = found["students"]
    for name in sorted(own, key=lambda each: float(own[each]["summary"]["lut"])):
        row = own[name]["summary"]
        bands = [
            f"{100 * row[half]['band']:.1f}"
            + (f" +- {100 * error:.1f} %" if (error := row[half]["band_error"]) else " %")
            for half in ("validation", "test")
        ]
        mark = "front" if name in found["front"] else ""
        lines.append(
            f"| `{name}` | {row['weights']:,} | {row['lut']:,.0f} | {row['ff']:,.0f} | "
            f"{row['stages']:g} | {' | '.join(bands)} | {row['test']['auc']:.3f} | {mark} |"
        )
    return "\n".join(lines) + "\n"


def in_page(text: str, found: Row) -> str:
    """The page with the table in its place."""
    start, end = MARKS
    before, rest = text.split(start)
    return f"{before}{start}{table(found)}{end}{rest.split(end)[1]}"


def main() -> int:
    """Train, synthesise, record."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("config", nargs="?", default=str(HERE / "front.yaml"))
    arguments.add_argument("--seeds", nargs="*", type=int, default=[1])
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--epochs", type=int, help="default: all those of the configuration")
    arguments.add_argument("--teacher", type=Path, help="a run whose teacher is taken")
    arguments.add_argument("--train", action="store_true", help="no synthesis")
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-front"))
    arguments.add_argument("--page", action="store_true", help="write the table of docs/silicon.md")
    options = arguments.parse_args()
    context = taught_by(options.config, options.teacher, options.work)
    recipe = context.config.distillation
    epochs = options.epochs or recipe.epochs + recipe.final_epochs
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = [o for o in context.config.students if not options.only or o.name in options.only]
    for seed in options.seeds:
        train(chosen, seed, context, options.work, epochs)
        least = chosen if not options.train else []
        for own in sorted(least, key=lambda own: size(own, seed, options.work)):
            file = options.work / f"{own.name}-{seed}.json"
            row, model = read_json(file), file.with_suffix(".keras")
            if row.get("yosys", {}).get("model") != file_hash(model):
                write_json(file, {**row, "yosys": synthesised(own, seed, context, options.work)})
                record(context, options.work)
    if not options.train:
        record(context, options.work)
    if options.page:
        PAGE.write_text(in_page(PAGE.read_text(encoding="utf-8"), read_json(RESULTS)), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
