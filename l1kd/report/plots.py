"""The figures of a run, each an inline SVG string. Data are binned before they are drawn.

Every figure takes its `name` first: it makes the ids inside it unique on a page.

The look of our figures, and SVG that can stand inside a page.

Matplotlib draws; what it writes is stripped of its prolog, of fixed sizes and of everything that
points outside, text stays text in the page's own font, and ids are made the figure's own so that
many figures can share one page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from l1kd.core.run_files import PerSignal
from l1kd.evaluation.metrics import POOLED, mean_over_signals
from l1kd.evaluation.rates import CROSSING_RATE_KHZ, REPORTED_FPR

INK, FAINT, GRID = "#1f2933", "#52606d", "#e4e7eb"
WIDTH, HEIGHT = 4.5, 3.1  # inches; text of 9 pt then reads well from a phone to a wide screen

# Okabe and Ito's colours, which people with any colour vision can tell apart; yellow left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#6b4c2a")
_DASHES = ("", "6 2", "2 2", "8 2 2 2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@dataclass(frozen=True)
class Line:
    """How one thing is drawn in every figure of a page."""

    colour: str
    dash: str = ""  # as SVG's stroke-dasharray, in units of points
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


def panel(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Any]:
    """A figure with one pair of axes in our style; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes: Any = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_size(9)
        text.set_color(INK)
    return figure, axes


def power_of_ten(value: float, _: int | None = None) -> str:
    """A tick's label in plain text: `10` with a raised exponent, or nothing between decades."""
    mantissa, exponent = f"{value:e}".split("e")
    if float(mantissa) != 1:
        return ""
    if -1 <= int(exponent) <= 2:
        return f"{value:g}"
    return "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def log_axis(axis: Any) -> None:
    """Label a logarithmic axis by decades; matplotlib's own labels are formulas, not text."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(power_of_ten))
    axis.set_minor_formatter(NullFormatter())


def inline(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element for an HTML page."""
    import matplotlib

    buffer = io.StringIO()
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify_threshold": 0.2}
    with matplotlib.rc_context(options):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    text = text[text.index(">") + 1 :]
    text = text.replace("xlink:href", "href")
    # Matplotlib names every group; only what is pointed at needs its id.
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", name)

    def own(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\sid="([^"]*)"', own, text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    # Widths were measured in matplotlib's own font, which is wider than what pages use.
    text = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", _page_font, text)
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", text)
    text = re.sub(r"\n\s*", "\n", text)
    size = box[1] if box else "0 0 1 1"
    return (
        f'<svg viewBox="{size}" role="img" aria-label="{html.escape(label, quote=True)}">{text}'
    ).strip()


def _page_font(match: re.Match[str]) -> str:
    return f"font{match[1] or ''}: {match[2]}system-ui, sans-serif"


def swatch(line: Line) -> str:
    """A short piece of a line, for the legends of a page."""
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    stroke = f'stroke="{line.colour}" stroke-width="{line.width + 0.4:g}"{dash}'
    return (
        '<svg class="swatch" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">'
        f'<path d="M1 4H25" {stroke}/></svg>'
    )


Values = NDArray[np.float64]

SMALL_COUNT = 50  # fewer accepted events than this say little about a rate


def learning_curves(
    name: str,
    epochs: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    styles: Mapping[str, Line],
    *,
    phase_starts: Sequence[float] = (),
    loss: str,
) -> str:
    """Loss by epoch on a logarithmic scale: validation as lines, training as thin ones.

    `epochs`: epoch numbers, (E,).
    `curves`: by network: training and validation loss, (E,) each; NaN where there is none.
    """
    figure, axes = panel()
    for network, (training, validation) in curves.items():
        options = styles[network].options()
        axes.plot(epochs, _positive(training), **{**options, "linewidth": 0.8, "alpha": 0.55})
        axes.plot(epochs, _positive(validation), **options)
    for start in phase_starts:
        axes.axvline(start - 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yscale("log")
    _sparse_log(axes)
    if epochs:
        margin = 0.03 * max(epochs[-1] - epochs[0], 1)
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    _whole_numbers(axes.xaxis)
    axes.set_xlabel("epoch")
    axes.set_ylabel(loss)
    return inline(figure, name, f"Learning curves of {', '.join(curves)}: {loss} by epoch")


def bins(samples: Sequence[Values], count: int = 44) -> Values:
    """Edges of equal bins from the lowest to the highest value of all samples, (count + 1,)."""
    filled = [sample for sample in samples if len(sample)]
    low = min((float(sample.min()) for sample in filled), default=0.0)
    high = max((float(sample.max()) for sample in filled), default=1.0)
    if high <= low:
        high = low + 1
    return np.linspace(low, high, count + 1)


def distribution(
    name: str,
    normal: Values,
    signals: Mapping[str, Values],
    edges: Values,
    styles: Mapping[str, Line],
    *,
    score: str,
    threshold: float | None = None,
) -> str:
    """Histograms of one score, normals filled and signals as lines, on a logarithmic scale.

    `normal, signals`: scores of normal events, (N,), and of each signal.
    """
    figure, axes = panel()
    ground = 0.5 / max(len(normal), 1)
    axes.stairs(
        _shares(normal, edges), edges, baseline=ground, fill=True, color=NORMAL.colour, alpha=0.55
    )
    for signal, scores in signals.items():
        options = styles[signal].options()
        options["linewidth"] = 1.2
        axes.stairs(_shares(scores, edges), edges, baseline=None, **options)
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_yscale("log")
    axes.set_ylim(ground, 1.3)
    axes.set_xlim(edges[0], edges[-1])
    log_axis(axes.yaxis)
    axes.set_xlabel(score)
    axes.set_ylabel("share of events per bin")
    return inline(
        figure, name, f"Distribution of {score}: normal events and {len(signals)} signals"
    )


def roc_curve(normal: Values, anomalous: Values, points: int = 160) -> tuple[Values, Values]:
    """Efficiencies at logarithmically spaced false-positive rates down to one normal event."""
    count = len(normal)
    rates = np.geomspace(1 / count, 1, points)
    allowed = np.minimum(np.floor(rates * count * (1 + 1e-12)).astype(int), count)
    descending = np.sort(normal)[::-1]
    # As many as all: the threshold falls below every score.
    edges = np.append(descending, -np.inf)[allowed]
    passed = len(anomalous) - np.searchsorted(np.sort(anomalous), edges, "right")
    return rates, passed / len(anomalous)


def roc(
    name: str,
    curves: Mapping[str, tuple[Values, Values]],
    styles: Mapping[str, Line],
    *,
    signal: str,
    events: int,
    rate_axis: bool,
) -> str:
    """ROC curves of several scores for one signal, the false-positive rate on a logarithmic scale.

    `rate_axis`: whether to give the trigger rate in kHz at the top.
    """
    figure, axes = panel(height=3.3 if rate_axis else 3.1)
    for label, (rates, efficiencies) in curves.items():
        axes.plot(rates, efficiencies, **styles[label].options())
    lowest = 1 / events
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(0, 1.02)
    _percent(axes.yaxis)
    axes.axvspan(lowest, min(SMALL_COUNT / events, 1), color="#f1f3f5", linewidth=0, zorder=0)
    if lowest < REPORTED_FPR:
        axes.axvline(REPORTED_FPR, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    log_axis(axes.xaxis)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel(f"efficiency for {signal}")
    if rate_axis:
        top = axes.secondary_xaxis("top", functions=(_to_khz, _from_khz))
        log_axis(top.xaxis)
        top.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5)
        top.spines["top"].set_color(FAINT)
        top.set_xlabel("trigger rate [kHz]", size=9, color=INK)
    return inline(figure, name, f"ROC curves of {', '.join(curves)} for {signal}")


def density(
    name: str, target: Values, score: Values, edges: Values, *, student: str, events: str
) -> str:
    """Where a student's scores lie against the teacher's, as a two-dimensional histogram.

    `target, score`: the teacher's and the student's score of the same events, (N,) each, in one
    unit.
    """
    from matplotlib.colors import LogNorm

    both: Any = (edges, edges)
    counts, *_ = np.histogram2d(target, score, bins=both)
    figure, axes = panel(height=3.7)
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
    bar: Any = figure.colorbar(image, ax=axes)
    bar.set_label("events per bin", size=9, color=INK)
    bar.solids.set_rasterized(True)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5)
    log_axis(bar.ax.yaxis)
    axes.set_xlabel("teacher's score [output units]")
    axes.set_ylabel(f"{student}'s score [output units]")
    return inline(figure, name, f"Score of {student} against the teacher's for {events}")


def per_signal(
    name: str,
    rows: Mapping[str, PerSignal],
    signals: Mapping[str, Line],
    bars: Mapping[str, Line],
    *,
    quantity: str,
    limits: tuple[float, float],
    percent: bool,
) -> str:
    """A row for each score: the mean over signals as a bar, every signal as a marker.

    `percent`: whether the values are shares, to be labelled in per cent.
    """
    figure, axes = panel(height=0.75 + 0.27 * len(rows))
    for place, (row, values) in enumerate(rows.items()):
        mean = mean_over_signals(values)
        if mean is not None:
            axes.barh(place, mean - limits[0], left=limits[0], height=0.62,
                      color=bars[row].colour, alpha=0.28, linewidth=0)  # fmt: skip
            axes.plot([mean, mean], [place - 0.31, place + 0.31], color=bars[row].colour, lw=2)
    for signal, line in signals.items():
        if signal == POOLED:
            continue
        points = [(v[signal], i) for i, v in enumerate(rows.values()) if signal in v]
        axes.plot(
            *np.transpose(points), line.marker, color=line.colour, markersize=4.2, linestyle="none"
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(*limits)
    if percent:
        _percent(axes.xaxis)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(quantity)
    return inline(figure, name, f"{quantity} of {', '.join(rows)} for each signal")


def ladder(
    name: str,
    steps: Mapping[str, Mapping[str, float | None]],
    styles: Mapping[str, Line],
    *,
    order: Mapping[str, str],
    quantity: str,
    percent: bool,
) -> str:
    """A quantity along the way from the float teacher to the firmware, a line for each student.

    `percent`: whether the values are shares, to be labelled in per cent.
    """
    figure, axes = panel()
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
    axes.set_xlim(-0.3, len(order) - 0.7)
    axes.set_ylabel(quantity)
    return inline(figure, name, f"{quantity} from the teacher to the firmware")


def _to_khz(rates: Any) -> Any:
    return rates * CROSSING_RATE_KHZ


def _from_khz(khz: Any) -> Any:
    return khz / CROSSING_RATE_KHZ


def _shares(values: Values, edges: Values) -> Values:
    counts, _ = np.histogram(values, edges)
    # A bin that holds nothing has no place on a logarithmic scale: the line has a gap.
    return np.where(counts > 0, counts / max(len(values), 1), np.nan)


def _positive(values: Sequence[float]) -> Values:
    array = np.asarray(values, np.float64)
    return np.where(array > 0, array, np.nan)


def _sparse_log(axes: Any) -> None:
    """Labels on a logarithmic axis that may span less than a decade: 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
