"""Cheaper students: CICADA v2 at its authors' widths against one that `l1kd search` found.

`python -m tests.benchmarks.bench_search [WORK]` searches on the embedded sample (the shipped
configuration `search`), chooses on validation halves, trains both students with three seeds in the
demo's recipe, writes their Verilog for one part and clock, synthesises it with Yosys, and records
`results/search.json`.
Everything is kept in WORK (default `runs/bench-search`): stopped, it goes on where it was.
"""

from __future__ import annotations

import platform
import statistics
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import l1kd
from l1kd import configfile, schemas
from l1kd.context import Context, cores
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.files import read_json, write_json
from l1kd.firmware import rtl
from l1kd.firmware.convert import stated_port
from l1kd.firmware.synthesis import synthesize
from l1kd.orchestrate.search import search
from l1kd.run import run_configuration

RESULTS = Path(__file__).parent / "results" / "search.json"
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
SEEDS = (7, 8, 9)
AUTHORS = "cicada_v2"
# A candidate trains half as long as a run's students: what it lacks to the reference, it gains.
MARGIN = {"auc": 0.0, "efficiency": 0.0}


def choose(front: dict[str, Any]) -> dict[str, Any]:
    """The cheapest point that is as good as the reference on validation halves."""
    (reference,) = (point for point in front["references"] if point["label"] == AUTHORS)
    good = [
        point
        for point in front["front"]
        if all(point[key] >= reference[key] + margin for key, margin in MARGIN.items())
        and point["latency_cycles"] <= reference["latency_cycles"]
    ]
    if not good:
        raise SystemExit("no point of the front is as good as the reference; search on")
    return min(good, key=lambda point: float(point["lut"]))


def trained(work: Path, found: dict[str, Any], seed: int) -> Path:
    """A run of the demo's recipe with both students."""
    directory = work / f"seed{seed}"
    file = work / f"seed{seed}.yaml"
    students = [{"architecture": AUTHORS}, found]
    file.write_text(
        yaml.safe_dump(
            {"data": {"source": "l1toy"}, "seed": seed, "threads": 1, "students": students}
        )
    )
    run_configuration(str(file), directory, until="evaluate")
    return directory


def measured(directory: Path, student: str) -> dict[str, Any]:
    """Quality on test halves, cost by estimate and by Yosys."""
    config = configfile.load_resolved(directory / "config.yaml")
    context = Context(directory, config, directory / "firmware")
    metrics: schemas.Metrics = schemas.read(directory, "metrics.json")
    own, validation = metrics.students[student], metrics.validation[student]
    model = l1kd.load_model(context.student_file(student))
    logic = rtl.convert(
        model,
        context.projects / f"{student}-rtl",
        clock_ns=CLOCK_NS,
        part=PART,
        name=student,
        port=stated_port(context, model),
    )
    made = synthesize(
        logic.directory, logic.record.top, part=PART, time_limit_s=7200.0, say=context.say
    )
    return {
        "auc": mean_over_signals(own.auc),
        "efficiency": mean_over_signals(own.efficiency),
        "validation_auc": mean_over_signals(validation.auc),
        "validation_efficiency": mean_over_signals(validation.efficiency),
        "lut": made.lut,
        "ff": made.ff,
        "dsp": made.dsp,
        "latency_cycles": logic.record.latency_cycles,
        "latency_ns": logic.record.latency_cycles * CLOCK_NS,
        "estimate": {"lut": logic.record.lut, "ff": logic.record.ff},
        "tool": made.tool,
        "signals": {"auc": own.auc, "efficiency": own.efficiency},
    }


def compared(seeds: dict[str, dict[str, dict[str, Any]]], found: str) -> dict[str, Any]:
    """Found minus reference, by seed, with the standard error of the mean difference."""
    verdict: dict[str, Any] = {}
    for key in ("auc", "efficiency"):
        differences = [by[found][key] - by[AUTHORS][key] for by in seeds.values()]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        mean = statistics.mean(differences)
        verdict[key] = {
            "differences": differences,
            "mean": mean,
            "standard_error": error,
            "not_worse": mean >= -error,
        }
    for key in ("lut", "ff", "latency_cycles"):
        theirs = statistics.mean(by[AUTHORS][key] for by in seeds.values())
        verdict[f"{key}_ratio"] = statistics.mean(by[found][key] for by in seeds.values()) / theirs
    return verdict


def main(work: Path) -> None:
    """Search, choose, train, synthesise, record."""
    study = search("search", work / "study", overrides=["threads=1"])
    front = read_json(study / "front.json")
    point = choose(front)
    found = point["student"]
    seeds: dict[str, dict[str, dict[str, Any]]] = {}
    for seed in SEEDS:
        directory = trained(work, found, seed)
        seeds[str(seed)] = {name: measured(directory, name) for name in (AUTHORS, found["name"])}
        recorded = {
            "environment": {
                "cores": cores(),
                "machine": platform.machine(),
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("alkaid", "optuna", "tensorflow")},
            },
            "part": PART,
            "clock_ns": CLOCK_NS,
            "chosen": point["label"],
            "front": front,
            "seeds": seeds,
            "compared": compared(seeds, found["name"]) if len(seeds) == len(SEEDS) else None,
        }
        write_json(RESULTS, recorded)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs") / "bench-search")
