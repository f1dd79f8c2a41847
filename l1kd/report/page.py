"""The stage `report`: one self-contained page about a run, from the run's files alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from l1kd import __version__
from l1kd.core.context import Context
from l1kd.core.files import atomic
from l1kd.core.run_files import FirmwareRecord
from l1kd.core.stages import order
from l1kd.evaluation.rates import REPORTED_FPR
from l1kd.firmware.budgets import of_best
from l1kd.firmware.hls.backends import backend_named
from l1kd.report import costs, figures, number_format, tables
from l1kd.report.load_run import RunFiles, read_run
from l1kd.report.table import Table
from l1kd.report.verdict import faults_of, judge

ENOUGH = 50  # distinct collisions behind a false-positive rate that may be quoted


def events(run: RunFiles) -> list[tuple[str, str]]:
    """Facts about the events, as labels and texts."""
    if run.metrics is None:
        return [("source", run.config.data.source)]
    described = dict(run.metrics.dataset)
    described.pop("events", None)
    shape, grid = described.pop("shape", None), described.pop("grid", None)
    distinct = described.pop("distinct_collisions", None)
    facts = list(_flat(described))
    if isinstance(distinct, dict):
        for role, by_rate in distinct.items():
            if isinstance(by_rate, dict) and by_rate:
                text = ", ".join(f"{_text(number)} at {rate}" for rate, number in by_rate.items())
                facts.append((f"distinct collisions behind a false-positive rate, {role}", text))
    if isinstance(shape, list):
        facts.append(("shape of an event", " x ".join(map(str, shape))))
    if isinstance(grid, dict):
        kind = "ap_fixed" if grid.get("signed") else "ap_ufixed"
        facts.append(("grid of the inputs", f"{kind}<{grid.get('word')},{grid.get('integer')}>"))
    return facts


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    facts = []
    for key, value in values.items():
        label = f"{above} {key.replace('_', ' ')}".strip()
        if isinstance(value, dict) and all(
            isinstance(each, (int, float, str)) or each is None for each in value.values()
        ):
            text = ", ".join(
                f"{name.replace('_', ' ')}: {_text(each)}" for name, each in value.items()
            )
            facts.append((label, text or number_format.DASH))
        elif isinstance(value, dict):
            facts += _flat(value, label)
        else:
            facts.append((label, _text(value)))
    return facts


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value) or "none"
    return number_format.DASH if value is None else str(value)


def rate_note(run: RunFiles) -> tuple[bool, str]:
    """Events behind a false-positive rate of 1e-3: whether they are enough to quote, and a text."""
    if run.metrics is None or not run.signals:
        return True, ""
    test = run.metrics.dataset.get("events", {}).get("test", 0)
    accepted = int(test * REPORTED_FPR + 1e-9)
    known = run.metrics.dataset.get("distinct_collisions")
    distinct = known.get("test", {}).get("1e-3") if isinstance(known, dict) else None
    text = (
        f"A false-positive rate of 1e-3 lets {number_format.plural(accepted, 'event')} of "
        f"{number_format.count(test)} normal test events pass"
    )
    if isinstance(distinct, (int, float)):
        text += (
            f", made of effectively {number_format.count(distinct)} distinct simulated collisions"
        )
        accepted = min(accepted, int(distinct))
    if accepted < ENOUGH:
        text += f": fewer than {ENOUGH}, too few to quote an efficiency on"
    return accepted >= ENOUGH, f"{text}."


def uncertainty(run: RunFiles) -> str:
    """The statistical uncertainty of an efficiency, from the smallest signal."""
    if run.metrics is None or not run.signals:
        return ""
    sizes = run.metrics.dataset.get("events", {}).get("signals", {})
    tested = [each.get("test") for each in sizes.values() if each.get("test")]
    if not tested:
        return ""
    largest = 0.5 / min(tested) ** 0.5
    return f"Binomial uncertainty of one signal's efficiency: at most {100 * largest:.1f} points."


def recipe(run: RunFiles) -> list[tuple[str, str]]:
    """Training in a few lines."""
    config, teacher = run.config, run.config.teacher
    distillation, score = config.distillation, config.distillation.score
    students = (
        each.name + (f" ({each.architecture})" if each.name != each.architecture else "")
        for each in config.students
    )
    inputs = ", inputs standardised" if teacher.standardise else ""
    return [
        (
            "teacher",
            f"{teacher.architecture}, latent size {teacher.latent}, residual power "
            f"{teacher.residual_power:g}{inputs}",
        ),
        ("students", ", ".join(students)),
        (
            "training",
            f"{distillation.mode}, {distillation.epochs} epochs and {distillation.final_epochs} "
            f"with the best teacher frozen, batch {distillation.batch}",
        ),
        ("exposure of the students", ", ".join(distillation.exposure) or "none"),
        (
            "target transform",
            f"{distillation.target}, onto ap_ufixed<{score.word},{score.integer}>",
        ),
        ("seed", str(run.manifest.seed)),
    ]


@dataclass(frozen=True)
class Card:
    """A key figure at the top of the page."""

    title: str
    value: str
    note: str
    bad: bool = False


@dataclass(frozen=True)
class Project:
    """A written HLS project and the commands to work with it."""

    record: FirmwareRecord
    layers: Table
    commands: list[tuple[str, str]]
    open: bool


def report(context: Context) -> None:
    """Write `report.html`; missing stages are named, failures stand out."""
    path = context.directory / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(render(read_run(context.directory)), encoding="utf-8")
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
    environment.filters["svg"] = Markup  # what l1kd.report.plots drew
    environment.globals["count"] = number_format.count
    template = environment.get_template("report.html.j2")
    style = Path(__file__).parent / "templates" / "report.css"
    page = template.render(
        run=run,
        css=Markup(style.read_text(encoding="utf-8")),
        version=__version__,
        verdict=judge(run),
        cards=_cards(run),
        intro=_intro(run),
        facts=events(run),
        samples=tables.sample_table(run),
        rate_note=rate_note(run),
        uncertainty=uncertainty(run),
        figures={name: draw(run) for name, draw in _FIGURES.items()},
        qualities=[tables.quality_table(run, each) for each in tables.QUALITIES],
        likeness=tables.likeness_table(run),
        points={name: tables.working_point_table(run, name) for name in _evaluated(run)},
        ladder=tables.ladder_table(run),
        agreement=tables.agreement_table(run),
        certificates=tables.certificate_table(run),
        float32=tables.float32_table(run),
        resources=costs.resource_table(run),
        beside=costs.beside_tables(run),
        layer_costs=costs.layer_cost_tables(run),
        cost_notes=costs.cost_notes(run),
        timing=costs.TIMING,
        spacing_ns=costs.SPACING_NS,
        choice=costs.choice_table(run),
        verilog=costs.verilog_table(run),
        projects=_projects(run),
        recipe=recipe(run) if run.taught else _imported(run),
        repairs=tables.repair_table(run),
        stages=_stages(run),
        configuration=(run.directory / "config.yaml").read_text(encoding="utf-8"),
        students=_evaluated(run),
    )
    return page.strip() + "\n"  # macros leave empty lines before the doctype


_FIGURES: dict[str, Callable[[RunFiles], figures.Group | None]] = {
    "learning": figures.learning,
    "distributions": figures.distributions,
    "roc": figures.roc,
    "density": figures.density,
    "quality": figures.quality,
    "ladders": figures.ladders,
    "cost": figures.cost,
}


def _evaluated(run: RunFiles) -> list[str]:
    return [name for name in run.students if run.metrics and name in run.metrics.students]


def _intro(run: RunFiles) -> str:
    about = run.metrics.dataset.get("about") if run.metrics else None
    source = f"{run.config.data.source}" + (f" ({about})" if isinstance(about, str) else "")
    firmware = f"firmware for {run.config.firmware.backend}, part {run.config.firmware.part}."
    if run.manifest.imported is not None:
        file = Path(run.manifest.imported.file).name
        return (
            f"A trained quantized network, imported from {file}, on {source}; {firmware} "
            "There is no teacher: nothing here was trained, and no score is compared with one."
        )
    students = number_format.plural(len(run.config.students), "quantized student")
    return (
        f"A float autoencoder, the teacher, and {students} that learn its anomaly score, trained "
        f"on {source}; {firmware}"
    )


def _cards(run: RunFiles) -> list[Card]:
    metrics = run.metrics
    if metrics is None:
        return []
    best, teacher = metrics.students[metrics.best], metrics.teacher
    taught = teacher is not None
    size = f"{number_format.count(best.params)} parameters, {best.weight_bits}-bit weights"
    cards = [Card("Best student" if taught else "Imported network", metrics.best, size)]
    if run.signals:
        for each in tables.MEANS:
            note = f"teacher {each.show(each.mean(teacher))}" if teacher else "no teacher"
            cards.append(Card(f"Mean {each.short}", each.show(each.mean(best)), note))
    elif taught:
        correlation = number_format.area(best.spearman)
        cards.append(Card("Rank correlation", correlation, "with the teacher, test normals"))
    pairs = run.pairs()
    if pairs:
        different = sum(faults_of(pair) for pair in pairs)
        compared = number_format.count(sum(pair.events for pair in pairs))
        note = f"in {compared} comparisons, all students"
        cards.append(Card("Mismatches", number_format.count(different), note, bad=different > 0))
    proofs = run.certificates()
    if proofs:
        proved = sum(each.certified for each in proofs)
        value = f"{proved} of {len(proofs)}"
        refused = any(found.state == "refused" for each in proofs for found in each.findings)
        cards.append(Card("Certified for all inputs", value, "HLS projects", bad=refused))
    return cards + _cost_cards(run)


def _cost_cards(run: RunFiles) -> list[Card]:
    """Costs of the best student by the best founded numbers, with their source."""
    if run.metrics is None:
        return []
    found = of_best(run.metrics, run.costs, run.config.choose.budgets)
    shown: dict[str, tuple[str, Callable[[float], str]]] = {
        "lut": ("LUT", number_format.count),
        "latency_ns": ("Latency", lambda value: f"{number_format.quantity(value)} ns"),
        "share": ("Share of the part", number_format.share),
    }
    cards = [
        Card(title, show(found.amounts[name]), found.sources[name])
        for name, (title, show) in shown.items()
        if name in found.amounts
    ]
    interval = found.amounts.get("interval_ns")
    if interval is not None and interval > costs.SPACING_NS:
        value = f"{number_format.quantity(interval)} ns"
        cards.append(Card("Interval", value, costs.CANNOT_FOLLOW, bad=True))
    return cards


def _imported(run: RunFiles) -> list[tuple[str, str]]:
    """Facts of an imported network: the file, and scores that its repairs change."""
    imported = run.manifest.imported
    if imported is None:
        return []
    rows = [("file", imported.file), ("SHA-256", imported.sha256)]
    rows.append(("lossy repairs", "asked for" if imported.lossy else "not asked for"))
    if (price := imported.price) is not None:
        text = f"{number_format.count(price.different)} of {number_format.count(price.events)}"
        if price.different:
            text += f", by up to {price.max_lsb:g} LSB, {price.mean_lsb:.3g} in the mean"
        differ = "would differ" if imported.findings else "differ"
        rows.append((f"scores that {differ} from the file's", text))
        if "all" in price.auc:
            before, after = price.auc_file["all"], price.auc["all"]
            rows.append(("AUC, all signals", f"{before:.4f} before, {after:.4f} after"))
    return rows


def _projects(run: RunFiles) -> list[Project]:
    records = sorted(run.firmware or [], key=lambda record: record.student != run.best)
    return [
        Project(
            record,
            tables.layer_table(record),
            backend_named(record.backend).commands(record.directory, record.top),
            index == 0,
        )
        for index, record in enumerate(records)
    ]


def _stages(run: RunFiles) -> list[tuple[str, str, str]]:
    """Every stage but this one: name, state, duration."""
    rows: list[tuple[str, str, str]] = []
    for stage in order(run.config.imported)[:-1]:
        record = run.manifest.stages.get(stage)
        state = {"running": "not finished"}.get(record.state, record.state) if record else "not run"
        rows.append((stage, state, number_format.duration(record.duration_s if record else None)))
    return rows
