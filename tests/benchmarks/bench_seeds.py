"""The chosen student against what a physicist would write down: several seeds, paired errors.

    python -m tests.benchmarks.bench_seeds [CONFIG] [--student NAME] [--seeds 7 8 9 10 11]
        [--independent DIR] [--pileup DIR] [--set KEY=VALUE ...] [--work DIR] [--page]

Trains CONFIG (default `l1toy`) once for each seed, until `evaluate`, and records
`results/seeds.json`: on test halves the band (mean efficiency over false-positive rates 3e-4 to
3e-3), the efficiency at 1e-3 and the AUC, means over signals and seeds, of the student,
the teacher, the other students and every baseline; the student minus each, with all signals and
without `suep`; the same on the test events and signals of `--independent`, a sample of
`l1kd data generate` with a seed of its own, with baselines as the embedded sample fitted and tuned
them, and whether each difference has the same sign there; what each score adds to the menu: events
that it accepts and the menu does not, at an additional rate of 3e-4, against a menu loosened by as
much; and by which factor each score's rate is another one on the normals of `--pileup`, a sample
generated at other pile-up, at the threshold that accepts 1 % of the test normals. An error is that
of the mean: the bootstrap's over events, which all seeds share, and the scatter over seeds.
Finished runs are kept in `--work` (default `runs/bench-seeds`). `--page` writes the tables to
docs/results.md.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core import config_file, run_files
from l1kd.core.files import read_arrays, read_json, write_arrays, write_json
from l1kd.data.calorimeter import _attributes, _distinct, region_table
from l1kd.data.dataset import Sample
from l1kd.evaluation.baselines import fit_baselines
from l1kd.evaluation.comparison import KINDS, Comparison
from l1kd.evaluation.scores import Scores, Values, score_samples
from l1kd.runs.run import context_of, run_configuration
from tests.benchmarks.bench_ablations import environment

RESULTS = Path(__file__).parent / "results" / "seeds.json"
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
LEFT_OUT = "suep"
MENU, MENU_RATE, ADDED_RATE = "menu", 1e-3, 3e-4
PILEUP_RATE = 1e-2
REPLICAS = 400

Arrays = Mapping[str, Values]


def by_score(arrays: Arrays, signals: Sequence[str]) -> dict[str, dict[str, Values]]:
    """Scores by name and sample (`test` and signals); the prefixes of `scores.npz` left out."""
    found: dict[str, dict[str, Values]] = {}
    for key, values in arrays.items():
        for sample in ("test", *signals):
            name = key.removesuffix(f"_{sample}")
            if name != key and not name.endswith("_val") and not name.startswith("target"):
                plain = name.removeprefix("baseline_").removeprefix("student_")
                found.setdefault(plain, {})[sample] = values
    whole = {"test", *signals}
    return {name: own for name, own in found.items() if own.keys() == whole}


def compared(scores: Mapping[str, Mapping[str, Values]], student: str, apart: float) -> Any:
    """Figures of every score, and the student minus each: values and bootstrap errors."""
    found = Comparison(scores, apart)
    rows: dict[str, Any] = {}
    differences = found.differences(student, {name: name for name in scores if name != student})
    for name in scores:
        own = found.qualities[name]
        rows[name] = {
            kind: (statistics.mean(getattr(own, kind).values()), own.error[kind]) for kind in KINDS
        }
        rows[name]["auc"] = (statistics.mean(v for k, v in own.auc.items() if k != "all"), 0.0)
        if name != student:
            mean = {kind: differences[name][kind]["mean"] for kind in KINDS}
            rows[name]["student_minus"] = {kind: (m.value, m.error) for kind, m in mean.items()}
    return rows


def beyond(scores: Mapping[str, Mapping[str, Values]], apart: float) -> dict[str, Any]:
    """Share of signals that each score adds to the menu, minus what a loosened menu adds.

    By bootstrap over events; `apart` normal events are drawn together.
    """
    random = np.random.default_rng(0xADD)
    samples = list(scores[MENU])
    shares: dict[str, list[float]] = {name: [] for name in scores}
    for replica in range(REPLICAS + 1):
        weights = {}
        for sample in samples:
            number, together = len(scores[MENU][sample]), apart if sample == "test" else 1.0
            drawn = random.poisson(1 / together, number) * together
            weights[sample] = drawn if replica else np.ones(number)  # the first: as measured
        normals = weights["test"].sum()
        cut = _cut(scores[MENU]["test"], weights["test"], MENU_RATE * normals)
        free = {sample: scores[MENU][sample] < cut for sample in samples}
        for name, own in scores.items():
            left = np.where(free["test"], own["test"], -np.inf)
            level = _cut(left, weights["test"], ADDED_RATE * normals)
            gained = [
                np.average(free[s] & (own[s] >= level), weights=weights[s])
                for s in samples
                if s != "test"
            ]
            shares[name].append(float(np.mean(gained)))
    return {
        name: {
            "added": (own[0], float(np.std(own[1:], ddof=1))),
            "minus_menu": (
                own[0] - shares[MENU][0],
                float(np.std(np.subtract(own[1:], shares[MENU][1:]), ddof=1)),
            ),
        }
        for name, own in shares.items()
    }


def _cut(values: Values, weights: Values, allowed: float) -> float:
    """The lowest threshold that accepts at most so much weight."""
    order = np.argsort(-values, kind="stable")[: int(20 * allowed) + 100]
    passed = np.searchsorted(np.cumsum(weights[order]), allowed, "right")
    return float(np.nextafter(values[order[min(passed, len(order) - 1)]], np.inf))


def judge(arrays: Arrays, signals: Sequence[str], student: str, apart: float) -> dict[str, Any]:
    """All figures of one training on one sample."""
    scores = by_score(arrays, signals)
    without = [name for name in signals if name != LEFT_OUT]
    return {
        "all": compared(scores, student, apart),
        f"without_{LEFT_OUT}": compared(by_score(arrays, without), student, apart),
        "beyond_menu": beyond(scores, apart),
    }


def samples_of(directory: Path) -> dict[str, Sample]:
    """Test events and signals of `l1kd data generate`."""
    tables = {p.stem: region_table(p) for p in sorted(directory.glob("*.h5"))}
    tables.pop("train", None)
    return {
        name: Sample.of(name, table.read(0, table.rows).astype(np.float32))
        for name, table in tables.items()
    }


def independent(directory: Path, run: Path, config: Any) -> Arrays:
    """Scores of a run's networks and of baselines, fitted where it was trained, on other events."""
    import l1kd
    from l1kd.evaluation.evaluate import scorer

    dataset = context_of(run, config).dataset
    models = {"teacher": l1kd.load_model(run / "teacher.keras")}
    models |= {s.name: l1kd.load_model(run / f"students/{s.name}.keras") for s in config.students}
    scorers = {name: scorer(model, dataset.shape) for name, model in models.items()}
    scorers |= {name: score for name, (score, _) in fit_baselines(dataset).items()}
    return score_samples(scorers, samples_of(directory))


def multiplicity(directory: Path | None, run: Path, config: Any, rate: float) -> float:
    """Normal events per distinct collision of a sample, of those accepted at a rate."""
    if directory is None:
        dataset = context_of(run, config).dataset
        known, events = dataset.description["distinct_collisions"]["test"], len(dataset.test)
    else:
        file = directory / "test.h5"
        known, events = _distinct(_attributes(file), 1.0), region_table(file).rows
    distinct = known[np.format_float_scientific(rate, trim="-", exp_digits=1)]
    return max(float(events * rate / distinct), 1.0)


def factors(
    usual: Mapping[str, Mapping[str, Values]],
    other: Mapping[str, Mapping[str, Values]],
    aparts: tuple[float, float],
) -> dict[str, Any]:
    """Rate on other normals over the usual one, at the threshold that accepts 1 % of the usual."""
    found = {}
    for name, own in other.items():
        normals = usual[name]["test"]
        cut = _cut(normals, np.ones(len(normals)), PILEUP_RATE * len(normals))
        passed = [int(np.sum(values >= cut)) for values in (normals, own["test"])]
        factor = passed[1] / len(own["test"]) / (passed[0] / len(normals))
        spread = sum(apart / max(n, 1) for apart, n in zip(aparts, passed, strict=True))
        found[name] = (factor, factor * spread**0.5)
    return found


def over_seeds(rows: Sequence[Any]) -> Any:
    """Means over seeds of (value, error) at the leaves: errors of events and of seeds together."""
    if isinstance(rows[0], Mapping):
        return {key: over_seeds([row[key] for row in rows]) for key in rows[0]}
    values, errors = zip(*rows, strict=True)
    scatter = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    events = statistics.mean(error**2 for error in errors)
    return [round(statistics.mean(values), 5), round((events + scatter**2) ** 0.5, 5)]


def signs(found: Mapping[str, Any]) -> dict[str, Any]:
    """By score: the difference of the bands has the same sign on both samples."""
    parts = [found["embedded"], found["independent"]]
    return {
        key: {
            name: len({np.sign(part[key][name]["student_minus"]["band"][0]) for part in parts}) == 1
            for name in parts[0][key]
            if name != found["student"]
        }
        for key in ("all", f"without_{LEFT_OUT}")
    }


def figures(part: str, directory: Path | None, run: Path, config: Any, student: str) -> Any:
    """One training on one sample."""
    embedded: Arrays = Scores.load(run / "scores.npz").arrays
    if directory is None:
        signals = list(context_of(run, config).dataset.signals)
        return judge(embedded, signals, student, multiplicity(None, run, config, MENU_RATE))
    file = run.with_name(f"{part}-{run.name}.npz")  # beside the run: students share it
    if not file.is_file():
        write_arrays(file, independent(directory, run, config))
    arrays = read_arrays(file)
    first = "teacher_"
    signals = [key.removeprefix(first) for key in arrays if key.startswith(first)]
    signals.remove("test")
    if part == "independent":
        return judge(arrays, signals, student, multiplicity(directory, run, config, MENU_RATE))
    usual, other = (multiplicity(d, run, config, PILEUP_RATE) for d in (None, directory))
    return factors(by_score(embedded, []), by_score(arrays, []), (usual, other))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train, score and compare for every seed."""
    rows: dict[str, list[Any]] = {}
    parts = {"embedded": None, "independent": options.independent, "pileup": options.pileup}
    for seed in options.seeds:
        given = [*options.set, f"seed={seed}"]
        run = options.work / f"seed-{seed}"
        run_configuration(options.config, run, until="evaluate", overrides=given)
        config = config_file.load(config_file.find(options.config), given)
        student = options.student or run_files.read(run, "metrics.json").best
        for part, directory in parts.items():
            if directory is None and part != "embedded":
                continue
            file = options.work / f"{part}-{seed}-{student}.json"
            if not file.is_file():
                write_json(file, figures(part, directory, run, config, student))
            rows.setdefault(part, []).append(read_json(file))
            sys.stdout.write(f"seed {seed}, {part}: done\n")
            sys.stdout.flush()
    found = {
        "config": options.config,
        "set": options.set,
        "seeds": options.seeds,
        "student": student,
        **{part: over_seeds(own) for part, own in rows.items()},
    }
    if "independent" in found:
        found["same_sign"] = signs(found)
    return found


def table(found: Mapping[str, Any], part: str) -> list[str]:
    """Lines of one sample's table."""
    student, own = found["student"], found[part]
    less = own[f"without_{LEFT_OUT}"]

    def points(pair: Sequence[float], sign: str = "+") -> str:
        return f"{100 * pair[0]:{sign}.1f} ± {100 * pair[1]:.1f}"

    lines = [
        f"| score | AUC | efficiency | band | `{student}` minus it, band | efficiency "
        f"| band without {LEFT_OUT} | beyond the menu |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(own["all"].items(), key=lambda item: -item[1]["band"][0]):
        added = points(own["beyond_menu"][name]["minus_menu"]) if name != MENU else ""
        apart = row.get("student_minus")
        cells = [
            f"`{name}`",
            f"{row['auc'][0]:.3f}",
            *(points(row[k], "") for k in reversed(KINDS)),
        ]
        cells += [points(apart[kind]) for kind in KINDS] if apart else ["", ""]
        cells += [points(less[name]["student_minus"]["band"]) if apart else "", added]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def pileup_table(found: Mapping[str, Any]) -> list[str]:
    """Lines of the table of rates at another pile-up."""
    lines = ["| score | factor |", "|---|---|"]
    for name, (factor, error) in sorted(found["pileup"].items(), key=lambda item: item[1]):
        lines.append(f"| `{name}` | {factor:.2f} ± {error:.2f} |")
    return lines


def told_signs(found: Mapping[str, Any]) -> str:
    """A sentence on the differences whose sign is another one on independent events."""
    told = []
    for key, own in found["same_sign"].items():
        other = [name for name, same in own.items() if not same]
        words = "with all signals" if key == "all" else f"without {LEFT_OUT}"
        named = ": all but " + ", ".join(f"`{name}`" for name in other) if other else ""
        told.append(f"{words} {len(own) - len(other)} of {len(own)}{named}")
    return f"Differences of the band with the same sign on both samples: {'; '.join(told)}."


def page(found: Mapping[str, Any]) -> None:
    """Replace the sections of docs/results.md."""
    seeds = ", ".join(map(str, found["seeds"]))
    parts = {
        part: [f"{part.capitalize()} sample, seeds {seeds}, in per cent:", "", *table(found, part)]
        for part in ("embedded", "independent")
        if part in found
    }
    if "same_sign" in found:
        parts["independent"] += ["", told_signs(found)]
    _replace("seeds", "\n\n".join("\n".join(lines) for lines in parts.values()))
    if "pileup" in found:
        _replace("pileup", "\n".join(pileup_table(found)))


def _replace(name: str, body: str) -> None:
    """Put lines between the marks of a section."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    assert begin in text, f"{PAGE} has no section {begin}"
    own = f"{begin}\n\n{body}\n\n{end}"
    changed = re.sub(f"{begin}.*{end}", lambda _: own, text, flags=re.DOTALL)
    PAGE.write_text(changed, encoding="utf-8")


def main() -> int:
    """Measure, record, print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("config", nargs="?", default="l1toy")
    arguments.add_argument("--student")
    arguments.add_argument("--seeds", nargs="*", type=int, default=[7, 8, 9, 10, 11])
    arguments.add_argument("--independent", type=Path)
    arguments.add_argument("--pileup", type=Path)
    arguments.add_argument("--set", action="append", default=[])
    arguments.add_argument("--work", type=Path, default=Path("runs/bench-seeds"))
    arguments.add_argument("--page", action="store_true")
    options = arguments.parse_args()
    found = {"environment": environment(), **measure(options)}
    write_json(RESULTS, found)
    if options.page:
        page(found)
    for part in ("embedded", "independent"):
        if part in found:
            sys.stdout.write("\n".join([part, *table(found, part), ""]))
    if "same_sign" in found:
        sys.stdout.write(told_signs(found) + "\n")
    if "pileup" in found:
        sys.stdout.write("\n".join(["pile-up", *pileup_table(found), ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
