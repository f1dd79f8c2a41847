"""Cheaper students: CICADA v2 at its authors' widths against one that `l1kd search` found.

`python -m tests.benchmarks.bench_search [WORK]` searches on the embedded sample
(`search_conv.yaml` beside this file), chooses on validation halves, trains both students with three
seeds in the demo's recipe, writes their Verilog for one part and clock, synthesises it with Yosys,
and records `results/search.json` and the tables of docs/results.md.
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
from l1kd.core import config_file, run_files
from l1kd.core.context import Context, cores
from l1kd.core.files import read_json, write_json
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.firmware.run_firmware import stated_port
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.synthesize import synthesize
from l1kd.networks.inspect import model_hash
from l1kd.networks.to_exact import read
from l1kd.runs.run import context_of, run_configuration
from l1kd.runs.search import search

RESULTS = Path(__file__).parent / "results" / "search.json"
SPACE = Path(__file__).parent / "search_conv.yaml"
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
MARKS = ("<!-- search: made by bench_search -->", "<!-- end of search -->")
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
SEEDS = (7, 8, 9)
AUTHORS = "cicada_v2"
QUALITY = ("auc", "efficiency")


def candidates(front: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name: the cheapest point as good as the reference on validation halves, and the best one.

    Neither may have more than half of its logic or a longer latency, by the estimate. The best one
    is that of the highest sum of AUC and efficiency.
    """
    (reference,) = (point for point in front["references"] if point["label"] == AUTHORS)
    frugal = [
        point
        for point in front["front"]
        if point["lut"] <= reference["lut"] / 2
        and point["latency_cycles"] <= reference["latency_cycles"]
    ]
    good = [p for p in frugal if all(p[key] >= reference[key] for key in QUALITY)]
    if not good:
        raise SystemExit("no point of the front is as good as the reference; search on")
    cheapest = min(good, key=lambda point: float(point["lut"]))
    best = max(good, key=lambda point: float(sum(point[key] for key in QUALITY)))
    return {f"front{point['label']}": point for point in (cheapest, best)}


def trained(work: Path, found: dict[str, dict[str, Any]], seed: int) -> Path:
    """A run of the demo's recipe with the reference and what was found."""
    directory = work / f"seed{seed}"
    file = work / f"seed{seed}.yaml"
    students: list[dict[str, Any]] = [{"architecture": AUTHORS}]
    students += [{**point["student"], "name": name} for name, point in found.items()]
    raw = {"data": {"source": "l1toy"}, "seed": seed, "threads": 1, "students": students}
    file.write_text(yaml.safe_dump(raw))
    run_configuration(str(file), directory, until="evaluate")
    return directory


def choose(directories: list[Path], found: dict[str, dict[str, Any]]) -> str:
    """The cheapest of what was found that is as good on validation halves, mean over the seeds."""

    def mean(student: str, key: str) -> float:
        metrics = [run_files.read(directory, "metrics.json") for directory in directories]
        values = [mean_over_signals(getattr(m.validation[student], key)) for m in metrics]
        return statistics.mean(value for value in values if value is not None)

    cheapest_first = sorted(found, key=lambda name: float(found[name]["lut"]))
    for name in cheapest_first:
        if all(mean(name, key) >= mean(AUTHORS, key) for key in QUALITY):
            return name
    return cheapest_first[-1]


def written(directory: Path, model: Any, student: str, context: Context) -> alkaid_convert.Logic:
    """The Verilog project of a student, as it was if it is there: with it goes Yosys' result."""
    if (directory / "l1kd.json").exists():
        there = alkaid_convert.open_logic(directory)
        if there.description.model == model_hash(model) and there.record.clock_ns == CLOCK_NS:
            return there
    return alkaid_convert.to_verilog(
        model,
        directory,
        clock_ns=CLOCK_NS,
        part=PART,
        name=student,
        port=stated_port(context, read(model)),
    )


def measured(directory: Path, student: str) -> dict[str, Any]:
    """Quality on test halves, cost by estimate and by Yosys."""
    config = config_file.load_resolved(directory / "config.yaml")
    context = context_of(directory, config)
    metrics: run_files.Metrics = run_files.read(directory, "metrics.json")
    own, validation = metrics.students[student], metrics.validation[student]
    model = l1kd.load_model(context.student_file(student))
    logic = written(context.firmware(student) / "verilog", model, student, context)
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
    for key in QUALITY:
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
    study = search(str(SPACE), work / "study", overrides=["threads=1"])
    front = read_json(study / "front.json")
    found = candidates(front)
    directories = {seed: trained(work, found, seed) for seed in SEEDS}
    chosen = choose(list(directories.values()), found)
    seeds: dict[str, dict[str, dict[str, Any]]] = {}
    for seed, directory in directories.items():
        seeds[str(seed)] = {name: measured(directory, name) for name in (AUTHORS, *found)}
        recorded = {
            "environment": {
                "cores": cores(),
                "machine": platform.machine(),
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("alkaid", "optuna", "tensorflow")},
            },
            "part": PART,
            "clock_ns": CLOCK_NS,
            "chosen": chosen,
            "front": front,
            "seeds": seeds,
            "compared": (
                {name: compared(seeds, name) for name in found}
                if len(seeds) == len(SEEDS)
                else None
            ),
        }
        write_json(RESULTS, recorded)


def table(found: dict[str, Any]) -> str:
    """Markdown of what was compared and of the front."""
    lines = [
        "| student | mean AUC | mean efficiency at 1e-3 | LUT | FF | cycles |",
        "|---|---|---|---|---|---|",
    ]
    seeds = list(found["seeds"].values())
    whole = {key: statistics.mean(by[AUTHORS][key] for by in seeds) for key in ("lut", "ff")}
    for name in seeds[0]:
        values = {key: [by[name][key] for by in seeds] for key in seeds[0][name] if key != "tool"}
        auc, efficiency = (
            (statistics.mean(values[key]), statistics.stdev(values[key]) / len(seeds) ** 0.5)
            for key in QUALITY
        )
        logic = " | ".join(
            f"{statistics.mean(values[key]):,.0f} ({statistics.mean(values[key]) / whole[key]:.0%})"
            for key in ("lut", "ff")
        )
        told = f"**{name}** (chosen)" if name == found["chosen"] else name
        lines.append(
            f"| {told} | {auc[0]:.4f} +- {auc[1]:.4f} | {100 * efficiency[0]:.1f} +- "
            f"{100 * efficiency[1]:.1f} % | {logic} | "
            f"{statistics.mean(values['latency_cycles']):.1f} |"
        )
    lines += [
        "",
        "The front, one seed: means over the signals' validation halves, thresholds by training "
        "and validation normals, logic by the estimate:",
        "",
        "| point | AUC | efficiency | LUT | FF | cycles | weights, not 0 |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in (*found["front"]["references"], *found["front"]["front"]):
        lines.append(
            f"| {point['label']} | {point['auc']:.3f} | {100 * point['efficiency']:.1f} % | "
            f"{point['lut']:,.0f} | {point['ff']:,.0f} | {point['latency_cycles']} | "
            f"{point['weights'] - point['zeros']:,} |"
        )
    return "\n" + "\n".join(lines) + "\n"


def in_page(text: str, found: dict[str, Any]) -> str:
    """The page of results with the tables in their place."""
    start, end = MARKS
    before, rest = text.split(start)
    return f"{before}{start}{table(found)}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs") / "bench-search")
    PAGE.write_text(in_page(PAGE.read_text(), read_json(RESULTS)))
