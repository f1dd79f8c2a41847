"""The figures of a run, each an inline SVG string. Data are binned before they are drawn.

Every figure takes its `name` first: it makes the ids inside it unique on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.evaluation.metrics import POOLED, mean_over_signals
from l1kd.evaluation.rates import CROSSING_RATE_KHZ, REPORTED_FPR
from l1kd.evaluation.svg import FAINT, INK, NORMAL, Line, inline, log_axis, panel
from l1kd.schemas import PerSignal

__all__ = [
    "bins",
    "density",
    "distribution",
    "ladder",
    "learning_curves",
    "per_signal",
    "roc",
    "roc_curve",
]

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

    Parameters
    ----------
    name
        Of the figure.
    epochs
        Epoch numbers, (E,).
    curves
        By network: training and validation loss, (E,) each; NaN where there is none.
    styles
        By network.
    phase_starts
        Epochs before which a new phase of the training begins, drawn as vertical lines.
    loss
        Label of the axis.
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

    Parameters
    ----------
    name
        Of the figure.
    normal, signals
        Scores of normal events, (N,), and of each signal.
    edges
        Bin edges, the same for all scores that are to be compared.
    styles
        By signal.
    score
        Label of the axis.
    threshold
        Where the trigger's decision falls, drawn as a vertical line.
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
    """Efficiencies at logarithmically spaced false-positive rates down to one normal event.

    Returns
    -------
    rates, efficiencies : (points,) each
    """
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

    Parameters
    ----------
    name
        Of the figure.
    curves
        By score: false-positive rates and efficiencies.
    styles
        By score.
    signal
        The signal's name.
    events
        Normal events behind the rates: where fewer than 50 of them pass, the ground is shaded.
    rate_axis
        Whether to give the trigger rate in kHz at the top.
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

    Parameters
    ----------
    name
        Of the figure.
    target, score
        The teacher's and the student's score of the same events, (N,) each, in one unit.
    edges
        Bin edges of both axes.
    student
        The student's name.
    events
        Which events these are.
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

    Parameters
    ----------
    name
        Of the figure.
    rows
        By score, from top to bottom: a value for each signal.
    signals
        Markers by signal.
    bars
        Bars by score.
    quantity
        Label of the axis.
    limits
        Of the axis.
    percent
        Whether the values are shares, to be labelled in per cent.
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

    Parameters
    ----------
    name
        Of the figure.
    steps
        By student: the quantity by stage; a stage that is missing is left out of its line.
    styles
        By student.
    order
        Stages from left to right, and their labels.
    quantity
        Label of the axis.
    percent
        Whether the values are shares, to be labelled in per cent.
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
