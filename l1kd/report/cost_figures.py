"""What students cost as figures: the share of the part, and where in a network its logic goes."""

from __future__ import annotations

from collections.abc import Sequence

from l1kd.evaluation.svg import FAINT, Line, inline, lines, panel
from l1kd.report import numbers
from l1kd.report.cost import Cost, costs, part_name
from l1kd.report.figures import Drawing, Group, legend
from l1kd.report.files import RunFiles

__all__ = ["cost"]

_LAYERS = 24  # more bars than these do not read; the table has them all


def cost(run: RunFiles) -> Group | None:
    """The largest share of the part by every source, and the best student's LUTs by layer."""
    found = costs(run)
    styles = lines(list(dict.fromkeys(each.implementation for each in found)))
    drawings = []
    shared = [each for each in found if each.largest_share is not None]
    if shared:
        drawings.append(Drawing(_shares(shared, styles), "largest share of the part, by source"))
    for number, each in enumerate(found):
        if each.chosen and any(layer.lut for layer in each.record.layers):
            svg = _layers(f"cost-layers-{number}", each, styles[each.implementation])
            caption = f"{each.record.student}: LUT by layer, {each.source}"
            drawings.append(Drawing(svg, caption))
    if not drawings:
        return None
    drawn = {each.implementation for each in shared} | {e.implementation for e in found if e.chosen}
    return Group(drawings, legend({name: styles[name] for name in styles if name in drawn}))


def _shares(found: Sequence[Cost], styles: dict[str, Line]) -> str:
    figure, axes = panel(height=0.75 + 0.27 * len(found))
    widest = max(each.largest_share or 0.0 for each in found)
    for place, each in enumerate(found):
        share = each.largest_share or 0.0
        axes.barh(place, 100 * share, height=0.62, color=styles[each.implementation].colour,
                  alpha=0.55, linewidth=0)  # fmt: skip
        axes.text(100 * (share + 0.015 * widest), place, numbers.share(share), size=8, va="center")
    labels = [f"{each.record.student}, {each.record.source}" for each in found]
    axes.set_yticks(range(len(found)), labels)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0, 118 * widest or 1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    names = dict.fromkeys(str(part_name(each.record.part)) for each in found)
    axes.set_xlabel(f"largest share of a {' or '.join(names)} [%]")
    return inline(figure, "cost-shares", f"Share of the part: {', '.join(labels)}")


def _layers(name: str, cost: Cost, style: Line) -> str:
    layers = [layer for layer in cost.record.layers if layer.lut is not None]
    rest = layers[_LAYERS:]
    bars = [(layer.name, layer.lut or 0.0) for layer in layers[:_LAYERS]]
    if rest:
        bars.append((f"{len(rest)} others", sum(layer.lut or 0.0 for layer in rest)))
    figure, axes = panel(height=0.75 + 0.27 * len(bars))
    widest = max(value for _, value in bars)
    for place, (_, value) in enumerate(bars):
        axes.barh(place, value, height=0.62, color=style.colour, alpha=0.55, linewidth=0)
        axes.text(value + 0.015 * widest, place, numbers.count(value), size=8, va="center",
                  color=FAINT)  # fmt: skip
    axes.set_yticks(range(len(bars)), [label for label, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 1.18 * widest)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: numbers.count(value))
    axes.set_xlabel("LUT")
    return inline(figure, name, f"LUT of {cost.record.student} by layer: {cost.source}")
