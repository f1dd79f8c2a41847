"""The stage `report`: one self-contained page about a run, from the run's files alone."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from l1kd import __version__
from l1kd.core.context import Context
from l1kd.core.files import atomic
from l1kd.core.stages import order
from l1kd.evaluation.rates import REPORTED_FPR
from l1kd.firmware.budgets import of_best
from l1kd.firmware.hls.backends import backend_named
from l1kd.report import energy, number_format, tables
from l1kd.report.figures import (
    BASELINE,
    COLOURS,
    FAINT,
    FIGURES,
    GRID,
    INK,
    NORMAL,
    SHADE,
    SMALL_COUNT,
)
from l1kd.report.load_run import SPACING_NS, RunFiles, read_run
from l1kd.report.number_format import count, plural
from l1kd.report.verdict import compared, good, judge


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
    environment.filters["ours"] = Markup  # markup of ours
    environment.filters["themed"] = themed  # what l1kd.report.figures drew
    page = environment.get_template("report.html.j2").render(
        run=run,
        tables=tables,
        energy=energy,
        numbers=number_format,
        backend_named=backend_named,
        version=__version__,
        name=run.directory.resolve().name,
        verdict=judge(run),
        good=good(run),
        compared=list(intervals(run)),
        drawn=drawn(run),
        next=next_steps(run),
        cards=list(cards(run)),
        facts=events(run),
        rate_note=rate_note(run),
        figures={name: draw(run) for name, draw in FIGURES.items()},
        spacing_ns=SPACING_NS,
        projects=sorted(run.firmware or [], key=lambda record: record.student != run.best),
        stages=order(run.config.imported)[:-1],
        configuration=yaml.safe_dump(
            _placed(run.config.model_dump(mode="json")), sort_keys=False, allow_unicode=True
        ),
        students=[n for n in run.students if run.metrics and n in run.metrics.students],
    )
    return page.strip() + "\n"  # macros leave empty lines before the doctype


# Colours of figures that are others on a dark ground, by the variable that has them there.
_THEME = dict(zip(COLOURS, (f"c{place}" for place in range(len(COLOURS))), strict=True)) | {
    INK: "ink",
    FAINT: "soft",
    GRID: "grid",
    SHADE: "shade",
    NORMAL.colour: "normal",
    BASELINE.colour: "baseline",
}


def themed(drawn: str) -> Markup:
    """Our SVG, or a colour, with colours that follow the page's; alone it looks as it did."""

    def variable(found: re.Match[str]) -> str:
        name = _THEME.get(found[0])
        return f"var(--{name}, {found[0]})" if name else found[0]

    return Markup(re.sub(r"#[0-9a-f]{6}\b", variable, drawn))


@dataclass(frozen=True)
class Interval:
    """A comparison as a row: texts, and the places of its intervals from -100 to 100."""

    other: str
    outcome: str  # better | alike | worse
    points: str
    centre: float
    one: tuple[float, float]  # a standard error on either side
    two: tuple[float, float]
    beyond: int  # -1, 1: the centre is off the scale there


def intervals(run: RunFiles) -> Iterator[Interval]:
    """The best student against others, on a scale that shows the close ones."""
    found = compared(run)
    reach = [abs(each.value) + 2 * each.error for each in found]
    scale = 2 * median(reach) / 100 if any(reach) else 1.0

    def place(value: float) -> float:
        return round(min(max(value / scale, -100.0), 100.0), 1)

    for each in found:
        one, two = (
            (place(each.value - n * each.error), place(each.value + n * each.error)) for n in (1, 2)
        )
        value, centre = each.value / scale, place(each.value)
        points = f"{100 * each.value:+.1f} ± {100 * each.error:.1f}"
        beyond = 0 if abs(value) <= 100 else 1 if value > 0 else -1
        yield Interval(each.other, each.outcome, points, centre, one, two, beyond)


@dataclass
class Block:
    """A layer as it is drawn, with those behind it that change no shape."""

    name: str
    shape: str
    width: float  # per cent of the widest, by the logarithm of its values
    weights: str
    then: list[str]  # what follows, in words


def drawn(run: RunFiles) -> dict[str, list[Block]]:
    """Teacher and best student, layer by layer; empty for runs that do not have them."""
    networks = run.display.networks if run.display else {}
    kept = {name: networks[name] for name in ("teacher", run.best) if name in networks}
    most = max((prod(layer.shape) for layers in kept.values() for layer in layers), default=1)
    found: dict[str, list[Block]] = {}
    for name, layers in kept.items():
        blocks, before = found.setdefault(name, []), 0
        for layer in layers:
            size = prod(layer.shape)
            bits = f" {layer.output_bits} bits" if layer.output_bits else ""
            if size == before and not layer.params:
                blocks[-1].then.append(f"{layer.name}{bits}")
                continue
            weights = plural(layer.params, "weight") if layer.params else ""
            weights += f" of {layer.weight_bits} bits" if weights and layer.weight_bits else ""
            shape, then = " x ".join(map(str, layer.shape)) or "1", [bits.strip()] * bool(bits)
            width = round(100 * math.log1p(size) / math.log1p(most), 1)
            blocks.append(Block(f"{layer.name} ({layer.kind})", shape, width, weights, then))
            before = size
    return found


@dataclass(frozen=True)
class Step:
    """Next steps of a reader: commands, each after its purpose."""

    title: str
    about: str
    commands: list[tuple[str, str]]


def next_steps(run: RunFiles) -> Iterator[Step]:
    """Next steps for each reader; commands run in the parent of the run's directory."""
    place = run.directory.resolve()
    here = shlex.quote(f"runs/{place.name}" if place.parent.name == "runs" else place.name)
    best = run.metrics.students[run.metrics.best] if run.metrics else None
    open_stages = [
        stage
        for stage in order(run.config.imported)[1:-1]
        if (record := run.manifest.stages.get(stage)) is None or record.state != "done"
    ]
    if open_stages:
        again = [(str(stage), f"l1kd {stage} {here}") for stage in open_stages]
        yield Step("Finish the run", "What has not run, or failed.", again)
    if best is None or "convert" in open_stages:
        return
    point = next(iter(best.working_points[-1:]), None)
    level = f" --threshold {point.threshold}" if point else ""
    score = [("scores and decisions, as Parquet or HDF5", f"l1kd score {here} FILE...{level}")]
    if run.of_crossings:
        score.insert(0, ("thresholds for rates, with 68 % intervals", f"l1kd rates {here}"))
    yield Step("Score events", "Bit by bit as the firmware does, without TensorFlow.", score)
    build = f"l1kd emulator {here}"
    yield Step(
        "Deliver the emulator",
        "The shared library that trigger software loads, compared with the network.",
        [("build and check it", build)],
    )
    written = [each.backend for each in run.firmware or [] if each.student == run.best]
    tool = backend_named((*written, run.config.firmware.backend)[0]).tool
    synth = f"l1kd synth {here}"
    yield Step(
        "Run the vendor's tool",
        "Its numbers come into this page; nothing here was placed or routed.",
        [
            ("where the tool is", f"{synth} --tool {tool} --steps csynth,vsynth"),
            ("or bring a project's directory back from there", f"{synth} --collect DIR"),
        ],
    )
    yield Step(
        "Integrate the block",
        "One archive: HLS, Verilog, vectors, thresholds, certificates, a README with ports and "
        "latency.",
        [
            ("write it", f"l1kd export {here}"),
            ("where it arrives", "l1kd check ARCHIVE"),
            ("or without Python, in the unpacked archive", "make check"),
        ],
    )


def _placed(value: Any) -> Any:
    """A value of JSON whose paths do not name directories of the machine."""
    if isinstance(value, dict):
        return {key: _placed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_placed(each) for each in value]
    return number_format.place(value) if isinstance(value, str) else value


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
    return number_format.DASH if value is None else number_format.place(str(value))


def rate_note(run: RunFiles) -> tuple[bool, str]:
    """Events behind a false-positive rate of 1e-3: whether they are enough to quote, and a text."""
    if run.metrics is None or not run.signals:
        return True, ""
    test = run.events.get("test", 0)
    accepted = int(test * REPORTED_FPR + 1e-9)
    distinct = run.distinct.get("1e-3")
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


def cards(run: RunFiles) -> Iterator[Card]:
    """Key figures, each with who says it."""
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
    cycles = {each.origin_of("latency_ns"): each.cycles_by for each in run.costs if each.best}
    for name, (title, show) in shown.items():
        if name in found.amounts:
            note = found.sources[name]
            note = cycles.get(note) or note if name == "latency_ns" else note
            yield Card(title, show(found.amounts[name]), note)
    interval = found.amounts.get("interval_ns", 0.0)
    if interval > SPACING_NS:
        value = f"{number_format.quantity(interval)} ns"
        yield Card("Interval", value, tables.CANNOT_FOLLOW, bad=True)
