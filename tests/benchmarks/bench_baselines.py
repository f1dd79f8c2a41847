"""Every baseline on the embedded sample, with band and errors: what a network has to beat.

    python -m tests.benchmarks.bench_baselines

No network is trained. Records `results/baselines.json`: AUC, efficiency at a false-positive rate of
1e-3 and band, each per signal, the errors of the means by bootstrap, what was tuned, and the
difference of every baseline to the sum of the four highest.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from l1kd.core.files import write_json
from l1kd.data.calorimeter import ToyData, open_toy
from l1kd.evaluation.baselines import fit_baselines
from l1kd.evaluation.comparison import Comparison, outcome, points
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import events_per_collision
from l1kd.evaluation.scores import score_samples
from tests.benchmarks.bench_ablations import environment

RESULTS = Path(__file__).parent / "results" / "baselines.json"
REFERENCE = "top4"
SEED = 7  # of the signals' halves, as in the demo


def measure() -> dict[str, Any]:
    """The baselines' qualities, settings and differences, and the seconds that it took."""
    began = time.perf_counter()
    dataset = open_toy(ToyData(source="l1toy"), SEED)
    baselines = fit_baselines(dataset)
    fitted = time.perf_counter()
    arrays = score_samples({name: score for name, (score, _) in baselines.items()}, dataset.judged)
    samples = {n: {s: arrays[f"{n}_{s}"] for s in dataset.judged} for n in baselines}
    scored = time.perf_counter()
    multiplicity = events_per_collision(dataset.description, len(dataset.test))
    found = Comparison(samples, multiplicity)
    ended = time.perf_counter()
    rows = {}
    for name, (_, settings) in baselines.items():
        own, apart = (
            found.qualities[name],
            found.differences(name, {REFERENCE: REFERENCE})[REFERENCE],
        )
        rows[name] = {
            **{
                f"mean_{kind}": round(mean_over_signals(getattr(own, kind)) or 0.0, 4)
                for kind in ("auc", "efficiency", "band")
            },
            "error": {kind: round(error, 4) for kind, error in own.error.items()},
            "settings": dict(settings),
            f"minus_{REFERENCE}": {
                "band": points(apart["band"]["mean"]),
                "efficiency": points(apart["efficiency"]["mean"]),
                "outcome": outcome(apart),
            },
            "signals": own.model_dump(include={"auc", "efficiency", "band"}),
        }
    seconds = {"fit": fitted - began, "score": scored - fitted, "bootstrap": ended - scored}
    return {"baselines": rows, "seconds": {key: round(each, 1) for key, each in seconds.items()}}


def table(found: dict[str, Any]) -> list[str]:
    """Lines of the table in docs/results.md."""
    lines = [f"| score | AUC | efficiency at 1e-3 | band | band minus {REFERENCE} | tuned |"]
    lines.append("|---|---|---|---|---|---|")
    for name, row in found["baselines"].items():
        shares = (
            f"{100 * row[f'mean_{kind}']:.1f} ± {100 * row['error'][kind]:.1f} %"
            for kind in ("efficiency", "band")
        )
        tuned = ", ".join(f"{key} {value:g}" for key, value in row["settings"].items())
        apart = row[f"minus_{REFERENCE}"]["band"] if name != REFERENCE else ""
        cells = (f"`{name}`", f"{row['mean_auc']:.3f}", *shares, apart, tuned)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Measure, record, print."""
    found = {"environment": environment(), "seed": SEED, **measure()}
    write_json(RESULTS, found)
    sys.stdout.write("\n".join([*table(found), f"seconds: {found['seconds']}", ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
