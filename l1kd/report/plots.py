"""Figures as inline SVG: binned data drawn by matplotlib in the style of `l1kd.mplstyle`.

Every figure takes its `name` first: it makes the ids inside it unique on a page. Text stays text in
the page's own font, sizes follow the page, and nothing points outside.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from l1kd.core.run_files import PerSignal
from l1kd.evaluation.metrics import POOLED, mean_over_signals
from l1kd.evaluation.rates import CROSSING_RATE_KHZ, REPORTED_FPR

STYLE = Path(__file__).parent / "templates" / "l1kd.mplstyle"
INK, FAINT = "#1f2933", "#52606d"
# Okabe and Ito's colours, which people with any colour vision can tell apart; yellow left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#6b4c2a")
_DASHES = ("", "6 2", "2 2", "8 2 2 2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
SMALL_COUNT = 50  # fewer accepted events than this say little about a rate

Values = NDArray[np.float64]
_P = ParamSpec("_P")


@dataclass(frozen=True)
class Line:
    """Colour, dash (SVG's stroke-dasharray, in points), width and marker of one thing."""

    colour: str
    dash: str = ""
    width: float = 1.6
    marker: str = "o"

    def options(self) -> dict[str, Any]:
        """As matplotlib's keyword arguments."""
        style: Any = "-"
        if self.dash:
            style = (0, tuple(float(part) / self.width for part in self.dash.split()))
        return {"color": self.colour, "linestyle": style, "linewidth": self.width}


TEACHER = Line(INK, "", 2.2, "*")
BASELINE = Line("#8a949e", "5 2", 1.8, "_")
NORMAL = Line("#9aa5b1")


def lines(names: Sequence[str]) -> dict[str, Line]:
    """A line for each name: colours first, then the same colours dashed."""
    return {
        name: Line(
            _COLOURS[index % len(_COLOURS)],
            _DASHES[index // len(_COLOURS) % len(_DASHES)],
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        )
        for index, name in enumerate(names)
    }


def swatch(line: Line) -> str:
    """A short piece of a line, for the legends of a page."""
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    stroke = f'stroke="{line.colour}" stroke-width="{line.width + 0.4:g}"{dash}'
    return (
        '<svg class="swatch" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">'
        f'<path d="M1 4H25" {stroke}/></svg>'
    )


def drawing(draw: Callable[Concatenate[Any, _P], str]) -> Callable[Concatenate[str, _P], str]:
    """Makes a figure `f(name, ...) -> SVG` of a function `(axes, ...)` that returns a description.

    The description is for those who do not see the figure; equal figures give equal text.
    """

    @wraps(draw)
    def figure(name: str, /, *args: _P.args, **kwargs: _P.kwargs) -> str:
        with matplotlib.rc_context({"svg.hashsalt": name}, STYLE):
            canvas, buffer = Figure(), io.StringIO()
            label = draw(canvas.add_subplot(), *args, **kwargs)
            canvas.savefig(buffer, format="svg", metadata={"Date": None})
        return _inline(buffer.getvalue(), name, label)

    return figure


def _inline(text: str, name: str, label: str) -> str:
    """matplotlib's SVG as an element of a page: no prolog, no fixed size, ids of its own."""
    box = re.search(r'viewBox="([^"]*)"', text)
    text = text[text.index("<svg") :]
    text = text[text.index(">") + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    # Matplotlib names every group; only what is pointed at needs its id.
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", name)

    def own(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\sid="([^"]*)"', own, text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\1{prefix}-", text)
    # Widths were measured in matplotlib's own font, which is wider than what pages use.
    text = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", r"font\1: \2system-ui, sans-serif", text)
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", text)
    text = re.sub(r"\n\s*", "\n", text)
    description = html.escape(label, quote=True)
    size = box[1] if box else "0 0 1 1"
    return f'<svg viewBox="{size}" role="img" aria-label="{description}">{text}'.strip()


@drawing
def learning_curves(
    axes: Any,
    epochs: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    styles: Mapping[str, Line],
    *,
    phase_starts: Sequence[float] = (),
    loss: str,
) -> str:
    """Loss by epoch, logarithmic; `curves`: training (thin) and validation, (E,), NaN: unknown."""
    for network, (training, validation) in curves.items():
        options = styles[network].options()
        axes.plot(epochs, _positive(training), **{**options, "linewidth": 0.8, "alpha": 0.55})
        axes.plot(epochs, _positive(validation), **options)
    for start in phase_starts:
        axes.axvline(start - 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yscale("log")
    # The axis may span less than a decade.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    if epochs:
        margin = 0.03 * max(epochs[-1] - epochs[0], 1)
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.set(xlabel="epoch", ylabel=loss)
    return f"Learning curves of {', '.join(curves)}: {loss} by epoch"


def bins(samples: Sequence[Values], count: int = 44) -> Values:
    """Edges of equal bins from the lowest to the highest value of all samples, (count + 1,)."""
    filled = [sample for sample in samples if len(sample)]
    low = min((float(sample.min()) for sample in filled), default=0.0)
    high = max((float(sample.max()) for sample in filled), default=1.0)
    return np.linspace(low, high if high > low else low + 1, count + 1)


@drawing
def distribution(
    axes: Any,
    normal: Values,
    signals: Mapping[str, Values],
    edges: Values,
    styles: Mapping[str, Line],
    *,
    score: str,
    threshold: float | None = None,
) -> str:
    """Histograms of one score, logarithmic: normals filled, signals and threshold as lines."""
    ground = 0.5 / max(len(normal), 1)
    axes.stairs(
        _shares(normal, edges), edges, baseline=ground, fill=True, color=NORMAL.colour, alpha=0.55
    )
    for signal, scores in signals.items():
        options = styles[signal].options() | {"linewidth": 1.2}
        axes.stairs(_shares(scores, edges), edges, baseline=None, **options)
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_yscale("log")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(ground, 1.3))
    _decades(axes.yaxis)
    axes.set(xlabel=score, ylabel="share of events per bin")
    return f"Distribution of {score}: normal events and {len(signals)} signals"


def roc_curve(normal: Values, anomalous: Values, points: int = 160) -> tuple[Values, Values]:
    """False-positive rates, logarithmic from one normal event on, and efficiencies, (points,)."""
    count = len(normal)
    rates = np.geomspace(1 / count, 1, points)
    allowed = np.minimum(np.floor(rates * count * (1 + 1e-12)).astype(int), count)
    descending = np.sort(normal)[::-1]
    # As many as all: the threshold falls below every score.
    edges = np.append(descending, -np.inf)[allowed]
    passed = len(anomalous) - np.searchsorted(np.sort(anomalous), edges, "right")
    return rates, passed / len(anomalous)


@drawing
def roc(
    axes: Any,
    curves: Mapping[str, tuple[Values, Values]],
    styles: Mapping[str, Line],
    *,
    signal: str,
    events: int,
    rate_axis: bool,
) -> str:
    """ROC curves of several scores for one signal, with the trigger rate in kHz at the top.

    `events`: normal events behind the rates; where fewer than 50 pass, the ground is shaded.
    """
    axes.figure.set_figheight(3.3 if rate_axis else 3.1)
    for label, (rates, efficiencies) in curves.items():
        axes.plot(rates, efficiencies, **styles[label].options())
    lowest = 1 / events
    axes.set_xscale("log")
    axes.set(xlim=(lowest, 1), ylim=(0, 1.02))
    _percent(axes.yaxis)
    axes.axvspan(lowest, min(SMALL_COUNT / events, 1), color="#f1f3f5", linewidth=0, zorder=0)
    if lowest < REPORTED_FPR:
        axes.axvline(REPORTED_FPR, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    _decades(axes.xaxis)
    axes.set(xlabel="false-positive rate", ylabel=f"efficiency for {signal}")
    if rate_axis:
        khz = (lambda rate: rate * CROSSING_RATE_KHZ, lambda rate: rate / CROSSING_RATE_KHZ)
        top = axes.secondary_xaxis("top", functions=khz)
        _decades(top.xaxis)
        top.set_xlabel("trigger rate [kHz]")
    return f"ROC curves of {', '.join(curves)} for {signal}"


@drawing
def density(
    axes: Any, target: Values, score: Values, edges: Values, *, student: str, events: str
) -> str:
    """A student's scores against the teacher's, (N,) each in one unit: events per bin."""
    both: Any = (edges, edges)
    counts, *_ = np.histogram2d(target, score, bins=both)
    axes.figure.set_figheight(3.7)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    image = axes.imshow(
        np.where(counts.T > 0, counts.T, np.nan),
        origin="lower",
        extent=(edges[0], edges[-1], edges[0], edges[-1]),
        cmap="viridis_r",
        norm=LogNorm(1, max(float(counts.max()), 10.0)),
        interpolation="none",
        aspect="auto",
        zorder=2,
    )
    bar = axes.figure.colorbar(image, ax=axes, label="events per bin")
    bar.solids.set_rasterized(True)
    bar.outline.set_visible(False)
    bar.ax.grid(visible=False)
    _decades(bar.ax.yaxis)
    axes.set_xlabel("teacher's score [output units]")
    axes.set_ylabel(f"{student}'s score [output units]")
    return f"Score of {student} against the teacher's for {events}"


@drawing
def per_signal(
    axes: Any,
    rows: Mapping[str, PerSignal],
    signals: Mapping[str, Line],
    bars: Mapping[str, Line],
    *,
    quantity: str,
    limits: tuple[float, float],
    percent: bool,
) -> str:
    """A row for each score: the mean over signals as a bar, every signal as a marker."""
    _rows(axes, list(rows))
    for place, (row, values) in enumerate(rows.items()):
        if (mean := mean_over_signals(values)) is not None:
            colour, width = bars[row].colour, mean - limits[0]
            axes.barh(place, width, 0.62, limits[0], color=colour, alpha=0.28, linewidth=0)
            axes.plot([mean, mean], [place - 0.31, place + 0.31], color=colour, lw=2)
    for signal, line in signals.items():
        points = [(v[signal], i) for i, v in enumerate(rows.values()) if signal in v]
        if signal != POOLED:
            axes.plot(*np.transpose(points), line.marker, color=line.colour, markersize=4.2)
    axes.set_xlim(*limits)
    if percent:
        _percent(axes.xaxis)
    axes.set_xlabel(quantity)
    return f"{quantity} of {', '.join(rows)} for each signal"


@drawing
def amounts(
    axes: Any,
    rows: Sequence[tuple[str, float, str]],
    colours: Sequence[str],
    *,
    axis: str,
    show: Callable[[float], str],
    label: str,
) -> str:
    """A bar for each row (label, amount, text), the text at its end."""
    _rows(axes, [title for title, *_ in rows])
    widest = max(value for _, value, _ in rows)
    for place, (_, value, text) in enumerate(rows):
        axes.barh(place, value, 0.62, color=colours[place], alpha=0.55, linewidth=0)
        axes.text(value + 0.015 * widest, place, text, size=8, va="center", color=FAINT)
    axes.set(xlim=(0, 1.18 * widest or 1), xlabel=axis)
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    return label


@drawing
def ladder(
    axes: Any,
    steps: Mapping[str, Mapping[str, float | None]],
    styles: Mapping[str, Line],
    *,
    order: Mapping[str, str],
    quantity: str,
    percent: bool,
) -> str:
    """A quantity from the float teacher to the firmware, a line for each student.

    `steps`: by student and stage, a missing one is left out; `order`: labels by stage.
    """
    for student, values in steps.items():
        found = [
            (place, value)
            for place, stage in enumerate(order)
            if (value := values.get(stage)) is not None
        ]
        if found:
            line = styles[student]
            axes.plot(*np.transpose(found), marker=line.marker, markersize=5, **line.options())
    axes.set_xticks(range(len(order)), list(order.values()))
    if percent:
        _percent(axes.yaxis)
    axes.set(xlim=(-0.3, len(order) - 0.7), ylabel=quantity)
    return f"{quantity} from the teacher to the firmware"


def _rows(axes: Any, labels: Sequence[str]) -> None:
    """Rows of bars from top to bottom."""
    axes.figure.set_figheight(0.75 + 0.27 * len(labels))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _shares(values: Values, edges: Values) -> Values:
    counts, _ = np.histogram(values, edges)
    # A bin that holds nothing has no place on a logarithmic scale: the line has a gap.
    return np.where(counts > 0, counts / max(len(values), 1), np.nan)


def _positive(values: Sequence[float]) -> Values:
    array = np.asarray(values, np.float64)
    return np.where(array > 0, array, np.nan)


def power_of_ten(value: float, _: int | None = None) -> str:
    """A tick's label in plain text: `10` with a raised exponent, or nothing between decades."""
    mantissa, exponent = f"{value:e}".split("e")
    if float(mantissa) != 1:
        return ""
    if -1 <= int(exponent) <= 2:
        return f"{value:g}"
    return "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _decades(axis: Any) -> None:
    """Label a logarithmic axis by decades; matplotlib's own labels are formulas, not text."""
    axis.set_major_formatter(power_of_ten)
    axis.set_minor_formatter(NullFormatter())


def _percent(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
