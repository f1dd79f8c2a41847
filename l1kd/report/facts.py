"""What stands beside the numbers of a report: which events, which networks, how far to trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l1kd.evaluation.rates import REPORTED_FPR
from l1kd.report import numbers
from l1kd.report.files import RunFiles

__all__ = ["events", "rate_note", "recipe", "uncertainty"]

ENOUGH = 50  # distinct collisions behind a false-positive rate that may be quoted


def events(run: RunFiles) -> list[tuple[str, str]]:
    """What is known of the events, as labels and texts."""
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
            facts.append((label, text or numbers.DASH))
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
    return numbers.DASH if value is None else str(value)


def rate_note(run: RunFiles) -> tuple[bool, str]:
    """What stands behind a false-positive rate of 1e-3, and whether it is enough to quote."""
    if run.metrics is None or not run.signals:
        return True, ""
    test = run.metrics.dataset.get("events", {}).get("test", 0)
    accepted = int(test * REPORTED_FPR + 1e-9)
    known = run.metrics.dataset.get("distinct_collisions")
    distinct = known.get("test", {}).get("1e-3") if isinstance(known, dict) else None
    text = (
        f"A false-positive rate of 1e-3 lets {numbers.plural(accepted, 'event')} of "
        f"{numbers.count(test)} normal test events pass"
    )
    if isinstance(distinct, (int, float)):
        text += f", made of effectively {numbers.count(distinct)} distinct simulated collisions"
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
    """How the networks were trained, in a few lines; the whole configuration stands below."""
    config = run.config
    distillation, score = config.distillation, config.distillation.score
    return [
        (
            "teacher",
            f"{config.teacher.architecture}, latent size {config.teacher.latent}, residual power "
            f"{config.teacher.residual_power:g}"
            + (", inputs standardised" if config.teacher.standardise else ""),
        ),
        (
            "students",
            ", ".join(
                each.name + (f" ({each.architecture})" if each.name != each.architecture else "")
                for each in config.students
            ),
        ),
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
