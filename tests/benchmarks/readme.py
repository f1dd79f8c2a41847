"""The table and the pictures of README and docs/tour.md, from a finished run of the demo.

    python -m tests.benchmarks.readme runs/demo

Records `results/readme.json`, writes the pages' parts between their marks, and draws the pictures,
each with the record's hash in it. `tests/test_readme.py` holds all of them to the record.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from l1kd.core.files import content_hash, write_json
from l1kd.core.run_files import Measured, StudentMetrics
from l1kd.data.sources import open_dataset
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.comparison import outcome, points
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.report.figures import STYLE
from l1kd.report.load_run import RunFiles, read_run
from l1kd.runs.open_run import Run, open_run

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "readme.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "tour.md")
PICTURES = tuple(
    ROOT / "docs" / f"{name}.png"
    for name in ("demo", "tour_events", "tour_learning", "tour_scores", "tour_comparison")
)
MARKS = (
    "<!-- demo: made by `python -m tests.benchmarks.readme runs/demo` -->\n",
    "<!-- end of demo -->",
)
SHOWN = ("top4", "pus_top16", "pca", "mahalanobis", "menu")  # of the baselines
SIGNALS = ("ttbar", "suep")  # of those that are drawn
KHZ = 30  # of the threshold that is drawn
_KEY = "Description"  # of a picture's metadata


def measured(run: RunFiles) -> dict[str, Any]:
    """Everything that the pages say of the demo."""
    metrics = run.metrics
    assert metrics and metrics.teacher
    best = metrics.students[metrics.best]
    others = {name: each for name, each in metrics.students.items() if name != metrics.best}
    rows = {"teacher": metrics.teacher, metrics.best: best, **others}
    rows |= {name: metrics.baselines[name] for name in SHOWN}
    table = {}
    for name, own in rows.items():
        apart = best.difference.get(name, {}).get("band", {}).get("mean")
        table[name] = {
            "parameters": getattr(own, "params", None),
            **{
                kind: mean_over_signals(getattr(own, kind))
                for kind in ("auc", "efficiency", "band")
            },
            "error": own.error,
            "best_minus_it": apart and apart.model_dump(),
        }
    pairs = [pair for record in run.agreement or [] for pair in record.pairs]
    proofs = [proof for record in run.agreement or [] for proof in record.certificates]
    cost = max((each for each in run.costs if each.student == run.best), key=lambda e: e.trust)
    events = metrics.dataset["events"]
    return {
        "seed": run.config.seed,
        "best": metrics.best,
        "weight_bits": best.weight_bits,
        "events": {key: events[key] for key in ("train", "test")},
        "signals": len(events["signals"]),
        "table": table,
        "outcomes": [outcome(each) for name, each in best.difference.items() if name != "teacher"],
        "comparisons": sum(pair.events for pair in pairs),
        "mismatches": sum(pair.mismatches for pair in pairs if pair.excused is None),
        "certified": [sum(proof.certified for proof in proofs), len(proofs)],
        "cost": {key: getattr(cost, key) for key in ("source", "tool", *_COST)},
    }


_COST = ("lut", "ff", "dsp", "latency_cycles", "interval_cycles", "clock_ns")


def table(found: dict[str, Any]) -> str:
    """The pages' part: the table, the verdict, the bits, the logic."""
    best, cost, events = found["best"], found["cost"], found["events"]
    lines = [
        f"| score | AUC | efficiency | band | `{best}` minus it, band |",
        "|---|---|---|---|---|",
    ]
    for name, row in found["table"].items():
        size = f" ({row['parameters']:,} parameters)" if row["parameters"] else ""
        title = {"teacher": "**teacher**", best: f"**`{best}`**, the chosen student"}.get(name)
        title = title or BASELINES.get(name, f"`{name}`, a student")
        apart = row["best_minus_it"]
        shares = (
            f"{100 * row[k]:.1f} ± {100 * row['error'][k]:.1f} %" for k in ("efficiency", "band")
        )
        cells = (
            title + size,
            f"{row['auc']:.3f}",
            *shares,
            points(Measured(**apart)) if apart else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    proved, projects = found["certified"]
    outcomes = found["outcomes"]
    words = (
        f"Of {len(outcomes)} scores without a network the student is better than "
        f"{outcomes.count('better')} and **worse than {outcomes.count('worse')}**, at two standard "
        f"errors. Seed {found['seed']}, {events['train']:,} events to train on, "
        f"{events['test']:,} held out; means over {found['signals']} signals.",
        f"**{proved} of {projects}** HLS and Verilog projects certified for all inputs; "
        f"**{found['mismatches']} mismatches** in {found['comparisons']:,} comparisons. The chosen "
        f"student's Verilog takes {cost['lut']:,.0f} LUT, {cost['ff']:,.0f} FF and "
        f"{cost['dsp'] or 0:.0f} DSP ({cost['tool']}), {cost['latency_cycles']} cycles of "
        f"{cost['clock_ns']:g} ns, and an event every {_times(cost['interval_cycles'])}.",
    )
    for each in words:
        lines += ["", *textwrap.wrap(each, 110)]
    lines.append("")
    return "\n".join(lines)


def _times(cycles: int) -> str:
    return "cycle" if cycles == 1 else f"{cycles} cycles"


def in_page(text: str, found: dict[str, Any]) -> str:
    """A page with the part in its place."""
    start, end = MARKS
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit("a page has no place for the demo's table")
    return pattern.sub(lambda _: f"{start}{table(found)}{end}", text)


def hash_in(picture: Path) -> str:
    """The record's hash that a picture was drawn with."""
    from PIL import Image

    with Image.open(picture) as image:
        return str(image.info.get(_KEY))


def hash_of(found: dict[str, Any]) -> str:
    """The hash of a record."""
    return content_hash(json.dumps(found, sort_keys=True))


class Drawing:
    """The pictures of a run."""

    def __init__(self, directory: Path) -> None:
        self.run: Run = open_run(directory)
        self.files = read_run(directory, scores=False)
        self.dataset = open_dataset(self.run.config.data, self.run.config.seed)
        self.scores = self.run.test_scores()

    def event(self, sample: str, share: float) -> Any:
        """The event whose score is above a share of its sample's."""
        events = self.dataset.test if sample == "test" else self.dataset.signals[sample].test
        place = int(np.argsort(self.scores[sample], kind="stable")[int(share * (len(events) - 1))])
        return events.events(place + 1)[place].reshape(events.shape[:2])

    def events(self, axes: Any, texts: dict[str, tuple[str, float]]) -> None:
        """Events as images, one colour scale for all."""
        for axis, (title, where) in zip(axes, texts.items(), strict=True):
            image = axis.imshow(self.event(*where), cmap="cividis", vmin=0, vmax=80)
            axis.set(title=title, xlabel="eta region", ylabel="phi region", xticks=[], yticks=[])
            axis.grid(False)
        axes[0].figure.colorbar(
            image, ax=list(axes), label="counts of 0.5 GeV", extend="max", shrink=0.6
        )

    def distributions(self, axis: Any) -> None:
        """The student's score of normal events and two signals, and the threshold of a rate."""
        level, lsb = self.run.threshold(rate_khz=KHZ), self.run.network().output_types[0].lsb
        edges = np.linspace(0, max(own.max() for own in self.scores.values()) * lsb, 80)
        for name, colour in zip(("test", *SIGNALS), ("#9aa5b1", "#0072b2", "#d55e00"), strict=True):
            own = self.scores[name] * lsb
            label = "zero bias" if name == "test" else name
            axis.hist(
                own,
                edges,
                weights=np.full(len(own), 1 / len(own)),
                color=colour,
                histtype="stepfilled" if name == "test" else "step",
                label=label,
            )
        axis.axvline(int(level) * lsb, color="#1f2933", ls="--", lw=1, label=f"{KHZ} kHz")
        axis.set(yscale="log", xlabel="anomaly score", ylabel="share of events")
        axis.set_ylim(top=2)
        axis.legend(loc="upper right", ncols=2)

    def comparison(self, axis: Any, baselines: Sequence[str] = tuple(BASELINES)) -> None:
        """The band of teacher, students and baselines, the worst below."""
        metrics = self.files.metrics
        assert metrics and metrics.teacher
        rows: dict[str, Any] = {"teacher": metrics.teacher, **metrics.students}
        rows |= {name: metrics.baselines[name] for name in baselines}
        values = {name: 100 * (mean_over_signals(own.band) or 0) for name, own in rows.items()}
        order = sorted(rows, key=lambda name: values[name])
        for place, name in enumerate(order):
            own = rows[name]
            colour = "#1f2933" if name == "teacher" else "#9aa5b1"
            colour = "#0072b2" if isinstance(own, StudentMetrics) else colour
            axis.errorbar(
                values[name], place, xerr=100 * own.error["band"], fmt="o", ms=4, color=colour
            )
        texts = [BASELINES.get(name, name) for name in order]
        axis.set(yticks=range(len(order)), yticklabels=texts)
        axis.set_xlabel("mean efficiency in the band [%]", loc="right")

    def learning(self, axis: Any) -> None:
        """Validation losses by epoch."""
        with (self.run.directory / "history.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for name in ("teacher", *self.run.students):
            points = [
                (int(r["epoch"]), float(r[f"{name}_val_loss"]))
                for r in rows
                if r[f"{name}_val_loss"]
            ]
            first = points[0][1]
            axis.plot([x for x, _ in points], [y / first for _, y in points], label=name)
        frozen = [int(row["epoch"]) for row in rows if row["phase"] == "frozen"]
        if frozen:
            axis.axvline(frozen[0] - 0.5, color="#52606d", ls=":", lw=1)
            axis.text(frozen[0] - 0.3, 1, "teacher frozen", fontsize=8, va="top")
        axis.set(xlabel="epoch", ylabel="validation loss, of the first epoch's", yscale="log")
        axis.legend()


def draw(directory: Path, text: str) -> None:
    """Draw and write the pictures; `text` is kept in each."""
    drawing = Drawing(directory)
    three = {
        "normal: most crossings": ("test", 0.5),
        "normal, and rare": ("test", 1.0),
        "ttbar, a typical one": ("ttbar", 0.5),
    }
    with matplotlib.rc_context(fname=STYLE):
        for picture, figure in _figures(drawing, three):
            metadata = {"Software": None, _KEY: text}
            figure.savefig(picture, dpi=110, metadata=metadata, facecolor="white")


def _figures(drawing: Drawing, three: dict[str, Any]) -> Iterator[tuple[Path, Figure]]:
    whole, events, learning, scores, comparison = PICTURES
    figure = Figure((11, 3))
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 0.9, 1.2))
    left.suptitle("252 numbers an event", fontsize=10)
    middle.suptitle("one score, of integers", fontsize=10)
    right.suptitle("students (blue), teacher, and no network (grey)", fontsize=10)
    drawing.events(left.subplots(1, 2), {"normal": ("test", 0.5), "ttbar": ("ttbar", 0.5)})
    drawing.distributions(middle.subplots())
    drawing.comparison(right.subplots(), SHOWN)
    yield whole, figure
    figure = Figure((8, 3))
    drawing.events(figure.subplots(1, 3), three)
    yield events, figure
    for path, method, size in (
        (learning, drawing.learning, (5.5, 3)),
        (scores, drawing.distributions, (6, 3.2)),
        (comparison, drawing.comparison, (7, 3.6)),
    ):
        figure = Figure(size)
        method(figure.subplots())
        yield path, figure


def main(directory: Path) -> None:
    """Record, write, draw."""
    found = measured(read_run(directory, scores=False))
    for page in PAGES:
        page.write_text(in_page(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(directory, hash_of(found))
    write_json(RESULTS, found)
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
