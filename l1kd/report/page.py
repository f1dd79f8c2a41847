"""The stage `report`: one self-contained page about a run, from the run's files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from l1kd import __version__
from l1kd.core.context import Context
from l1kd.core.files import atomic
from l1kd.core.stages import order
from l1kd.evaluation.rates import REPORTED_FPR
from l1kd.firmware.budgets import of_best
from l1kd.firmware.hls.backends import backend_named
from l1kd.report import energy, number_format, tables
from l1kd.report.figures import FIGURES, SMALL_COUNT
from l1kd.report.load_run import SPACING_NS, RunFiles, read_run
from l1kd.report.number_format import count, plural
from l1kd.report.verdict import good, judge


def report(context: Context) -> None:
    """Write `report.html`; missing stages are named, failures stand out."""
    path, run = context.directory / "report.html", read_run(context.directory)
    with atomic(path) as temporary:
        temporary.write_text(render(run), encoding="utf-8")
    context.say(good(run).detail)
    context.say(f"report: {path}")


def render(run: RunFiles) -> str:
    """The page as text. Whatever comes from files is escaped; only our own SVG is not."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("l1kd.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # what l1kd.report.figures drew
    page = environment.get_template("report.html.j2").render(
        run=run,
        tables=tables,
        energy=energy,
        numbers=number_format,
        backend_named=backend_named,
        version=__version__,
        verdict=judge(run),
        good=good(run),
        cards=list(_cards(run)),
        facts=events(run),
        rate_note=rate_note(run),
        figures={name: draw(run) for name, draw in FIGURES.items()},
        spacing_ns=SPACING_NS,
        projects=sorted(run.firmware or [], key=lambda record: record.student != run.best),
        stages=order(run.config.imported)[:-1],
        configuration=(run.directory / "config.yaml").read_text(encoding="utf-8"),
        students=[n for n in run.students if run.metrics and n in run.metrics.students],
    )
    return page.strip() + "\n"  # macros leave empty lines before the doctype


def events(run: RunFiles) -> list[tuple[str, str]]:
    """Facts about the events, as labels and texts."""
    if run.metrics is None:
        return [("source", run.config.data.source)]
    known = {"events", "shape", "grid", "distinct_collisions"}
    described = run.metrics.dataset
    facts = list(_flat({key: value for key, value in described.items() if key not in known}))
    if isinstance(distinct := described.get("distinct_collisions"), dict):
        for role, by_rate in distinct.items():
            if isinstance(by_rate, dict) and by_rate:
                text = ", ".join(f"{_text(number)} at {rate}" for rate, number in by_rate.items())
                facts.append((f"distinct collisions behind a false-positive rate, {role}", text))
    if isinstance(shape := described.get("shape"), list):
        facts.append(("shape of an event", " x ".join(map(str, shape))))
    if isinstance(grid := described.get("grid"), dict):
        kind = "ap_fixed" if grid.get("signed") else "ap_ufixed"
        facts.append(("grid of the inputs", f"{kind}<{grid.get('word')},{grid.get('integer')}>"))
    return facts


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Labels and texts; mappings of plain values are one text, others one for each entry."""
    for key, value in values.items():
        label = f"{above} {key.replace('_', ' ')}".strip()
        inner = value.values() if isinstance(value, dict) else ()
        if any(isinstance(each, (dict, list)) for each in inner):
            yield from _flat(value, label)
        else:
            yield label, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        texts = (f"{name.replace('_', ' ')}: {_text(each)}" for name, each in value.items())
        return ", ".join(texts) or number_format.DASH
    return number_format.DASH if value is None else str(value)


def rate_note(run: RunFiles) -> tuple[bool, str]:
    """Events behind a false-positive rate of 1e-3: whether they are enough to quote, and a text."""
    if run.metrics is None or not run.signals:
        return True, ""
    test = run.events.get("test", 0)
    accepted = int(test * REPORTED_FPR + 1e-9)
    known = run.metrics.dataset.get("distinct_collisions")
    distinct = known.get("test", {}).get("1e-3") if isinstance(known, dict) else None
    text = (
        f"A false-positive rate of 1e-3 lets {plural(accepted, 'event')} of {count(test)} normal "
        "test events pass"
    )
    if isinstance(distinct, (int, float)):
        text += f", made of effectively {count(distinct)} distinct simulated collisions"
        accepted = min(accepted, int(distinct))
    if accepted < SMALL_COUNT:
        text += f": fewer than {SMALL_COUNT}, too few to quote an efficiency on"
    return accepted >= SMALL_COUNT, f"{text}."


@dataclass(frozen=True)
class Card:
    """A key figure at the top of the page."""

    title: str
    value: str
    note: str
    bad: bool = False


def _cards(run: RunFiles) -> Iterator[Card]:
    if run.metrics is None:
        return
    best, teacher = run.metrics.students[run.metrics.best], run.metrics.teacher
    size = f"{count(best.params)} parameters, {best.weight_bits}-bit weights"
    yield Card("Best student" if teacher else "Imported network", run.metrics.best, size)
    if run.signals:
        for each in tables.MEANS:
            note = f"teacher {each.show(each.mean(teacher))}" if teacher else "no teacher"
            yield Card(f"Mean {each.short}", each.show(each.mean(best)), note)
    elif teacher:
        correlation = number_format.area(best.spearman)
        yield Card("Rank correlation", correlation, "with the teacher, test normals")
    if pairs := run.pairs():
        different = sum(map(tables.faults_of, pairs))
        note = f"in {count(sum(pair.events for pair in pairs))} comparisons, all students"
        yield Card("Mismatches", count(different), note, bad=different > 0)
    if proofs := run.certificates():
        value = f"{sum(each.certified for each in proofs)} of {len(proofs)}"
        refused = any(found.state == "refused" for each in proofs for found in each.findings)
        yield Card("Certified for all inputs", value, "HLS projects and Verilog", bad=refused)
    # Costs by the best founded numbers, with their source.
    found = of_best(run.metrics, run.costs, run.config.choose.budgets)
    shown: dict[str, tuple[str, Callable[[float], str]]] = {
        "lut": ("LUT", count),
        "latency_ns": ("Latency", lambda value: f"{number_format.quantity(value)} ns"),
        "share": ("Share of the part", number_format.share),
    }
    for name, (title, show) in shown.items():
        if name in found.amounts:
            yield Card(title, show(found.amounts[name]), found.sources[name])
    interval = found.amounts.get("interval_ns", 0.0)
    if interval > SPACING_NS:
        value = f"{number_format.quantity(interval)} ns"
        yield Card("Interval", value, tables.CANNOT_FOLLOW, bad=True)
