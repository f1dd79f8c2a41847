"""The figures of a page: groups with a legend, drawn by matplotlib as inline SVG."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.data.pythia_toy.detector import ETA_EDGES, REGIONS
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import REPORTED_FPR, threshold
from l1kd.report import number_format
from l1kd.report.load_run import RunFiles
from l1kd.report.tables import MEANS, QUALITIES, RUNGS

STYLE = Path(__file__).parent / "templates" / "l1kd.mplstyle"
INK, FAINT, GRID, SHADE = "#1f2933", "#52606d", "#e4e7eb", "#f1f3f5"  # GRID as in the style file
# Okabe and Ito's colours, which people with any colour vision can tell apart; yellow left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#6b4c2a")
_DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_BLUE, _RED = (((*to_rgb(c), 0.1), (*to_rgb(c), 1.0)) for c in ("#1f88c9", "#d55e00"))
SMALL_COUNT = 50  # fewer accepted events than this say little about a rate
MANY = 6  # more signals than this are pooled where each would be a line among the others
MOST_LAYERS = 24  # more bars than these do not read; the table has them all
SERIES = "series: "  # before a line's name, where matplotlib has ids
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Colour, dash (lengths in points), width and marker of one thing."""

    colour: str
    dash: tuple[float, ...] = ()
    width: float = 1.6
    marker: str = "o"
    name: str = ""  # what a reader of the page switches on and off

    def options(self, what: str = "") -> dict[str, Any]:
        """As matplotlib's keyword arguments; its dashes are in line widths."""
        dash = (0, tuple(length / self.width for length in self.dash)) if self.dash else "-"
        return {
            "color": self.colour,
            "linestyle": dash,
            "linewidth": self.width,
            "gid": f"{SERIES}{self.name}{what}" if self.name else None,
        }


TEACHER = Line(INK, (), 2.2, "*", "teacher")
BASELINE = Line("#8a949e", (5, 2), 1.8, "_")
NORMAL = Line("#9aa5b1", name="normal")


def lines(names: Iterable[str]) -> dict[str, Line]:
    """A line for each name: colours first, then the same colours dashed."""
    found = {}
    for index, name in enumerate(names):
        again, place = divmod(index, len(COLOURS))
        marker = _MARKERS[(index + again) % len(_MARKERS)]
        found[name] = Line(COLOURS[place], _DASHES[again % len(_DASHES)], 1.6, marker, name)
    return found


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows."""

    svg: str
    caption: str
    about: str = ""  # the one thing that it is about: it is switched off with it


@dataclass
class Group:
    """Figures with one legend, whose keys are lines or their markers."""

    legend: Mapping[str, Line] = field(default_factory=dict)
    markers: bool = False
    small: bool = False  # three or four beside each other
    drawings: list[Drawing] = field(default_factory=list)

    @contextmanager
    def draw(
        self, caption: str, label: str, about: str = "", cells: Sequence[Sequence[str]] = ()
    ) -> Iterator[Any]:
        """Axes of a new figure; `label`, for those who do not see it, makes its ids its own.

        `cells`: names of an image's columns and rows.
        """
        with matplotlib.rc_context({"svg.hashsalt": label}, STYLE):
            figure, buffer = Figure(), io.StringIO()
            axes = figure.add_subplot()
            yield axes
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            svg = _inline(buffer.getvalue(), label, _readable(axes, cells))
        self.drawings.append(Drawing(svg, caption, about))


def _readable(axes: Any, names: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Data for a script that tells values: scales of drawn axes, and an image's cells."""
    place, size = axes.get_position(), 72 * axes.figure.get_size_inches()
    width, height = size

    def scale(axis: Any, near: float, far: float) -> dict[str, Any]:
        low, high = axis.get_view_interval()
        return {
            "ends": [round(near, 2), round(far, 2), float(low), float(high)],
            "log": axis.get_scale() == "log",
            "share": str(axis.get_major_formatter()(0.5, 0)).endswith("%"),
            "label": axis.get_label_text(),
        }

    found: dict[str, Any] = {
        "x": scale(axes.xaxis, width * place.x0, width * place.x1),
        "y": scale(axes.yaxis, height * (1 - place.y0), height * (1 - place.y1)),
    }
    for image in axes.images:
        cells = np.nan_to_num(np.asarray(image.get_array().data))
        left, right, bottom, top = map(float, image.get_extent())
        found["cells"] = {
            "extent": [left, right, bottom, top],
            "shape": cells.shape,
            "up": image.origin == "lower",
            "names": names,
            # A comma between cells, nothing for an empty one: most of a picture is empty.
            "values": ",".join(f"{each:.4g}" if each else "" for each in cells.reshape(-1)),
        }
    return found


def _inline(text: str, label: str, readable: dict[str, Any]) -> str:
    """matplotlib's SVG as an element of a page: no prolog, no fixed size, no ids but those used."""
    size = text.split('viewBox="')[1].split('"')[0]
    text = text[text.index("<svg") :].partition(">")[2]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    # Matplotlib names every group, alike in every figure; what is pointed at is named by a hash.
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = text.replace(f'id="{SERIES}', 'data-series="')
    text = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    # Widths were measured in matplotlib's own font, which is wider than what pages use.
    text = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", r"font\1: \2system-ui, sans-serif", text)
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", text)
    text = re.sub(r"\n\s*", "\n", text)
    description = html.escape(label, quote=True)
    data = html.escape(json.dumps(readable), quote=True)
    start = f'<svg viewBox="{size}" role="img" aria-label="{description}" data-axes="{data}">'
    return f"{start}{text}".strip()


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


def _rows(axes: Any, labels: Sequence[str]) -> None:
    """Rows of bars from top to bottom."""
    axes.figure.set_figheight(0.75 + 0.27 * len(labels))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _bars(axes: Any, rows: Sequence[tuple[str, float, str]], colours: Sequence[str]) -> None:
    """A bar for each row (label, amount, text), the text at its end."""
    _rows(axes, [title for title, *_ in rows])
    widest = max(value for _, value, _ in rows)
    for place, (_, value, text) in enumerate(rows):
        axes.barh(place, value, 0.62, color=colours[place], alpha=0.55, linewidth=0)
        axes.text(value + 0.015 * widest, place, text, size=8, va="center", color=FAINT)
    axes.set_xlim(0, 1.18 * widest or 1)


def _ramp(*ends: Any) -> LinearSegmentedColormap:
    """Colours that begin transparent: they read on a light ground and on a dark one."""
    return LinearSegmentedColormap.from_list("ramp", ends)


def _colour_bar(axes: Any, image: Any, label: str) -> Any:
    bar = axes.figure.colorbar(image, ax=axes, label=label)
    bar.solids.set_rasterized(True)
    bar.outline.set_visible(False)
    bar.ax.grid(visible=False)
    return bar.ax


def _positive(values: Any) -> Values:
    """NaN in place of what a logarithmic axis cannot show: the line has a gap."""
    return np.where(np.asarray(values, np.float64) > 0, values, np.nan)


def bins(samples: Sequence[Values], count: int = 44) -> Values:
    """Edges of equal bins from the lowest to the highest value of all samples, (count + 1,)."""
    filled = np.concatenate(samples)
    low, high = (filled.min(), filled.max()) if len(filled) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1, count + 1)


def _student_lines(run: RunFiles) -> dict[str, Line]:
    """Every student's line, the same in all figures, whichever was chosen."""
    return lines(student.name for student in run.config.students)


def learning(run: RunFiles) -> Group | None:
    """Losses by epoch, logarithmic: training thin, validation as a line."""
    history = run.history
    if history is None or not history.epochs:
        return None
    epochs = history.epochs
    phases = zip(epochs[1:], pairwise(history.phases), strict=True)
    starts = [epoch for epoch, (last, phase) in phases if last and phase and last != phase]
    styles = {"teacher": TEACHER, **_student_lines(run)}
    curves = {name: curve for name in styles if (curve := history.curve(name)) is not None}
    group = Group({name: styles[name] for name in curves})
    teacher = "Teacher: what it minimises", "mean loss"
    students = "Students: mean absolute error of the score", "mean absolute error [output units]"
    for caption, loss in (teacher, students):
        own = [name for name in curves if (name == "teacher") == (caption in teacher)]
        if not own:
            continue
        label = f"Learning curves of {', '.join(own)}: {loss} by epoch"
        with group.draw(caption, label) as axes:
            for name in own:
                training, validation = map(_positive, curves[name])
                thin = {**styles[name].options(", training"), "linewidth": 0.8, "alpha": 0.55}
                axes.plot(epochs, training, **thin)
                axes.plot(epochs, validation, **styles[name].options())
            for start in starts:
                axes.axvline(start - 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
            margin = 0.03 * max(epochs[-1] - epochs[0], 1)
            axes.set(xlabel="epoch", ylabel=loss, yscale="log")
            axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
            # The axis may span less than a decade.
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    return group if curves else None


def distributions(run: RunFiles) -> Group | None:
    """Histograms of every network's scores: normals filled, signals and threshold as lines."""
    scores = run.scores
    if scores is None:
        return None
    read = {"teacher": scores.target} if run.taught else {}
    read |= {name: partial(scores.student, name) for name in run.students}
    taken = {name: {each: of(each) for each in ("test", *run.signals)} for name, of in read.items()}
    edges = bins([part for parts in taken.values() for part in parts.values()])
    many = len(run.signals) > MANY
    pooled = f"all {len(run.signals)} signals"
    styles = lines([pooled] if many else run.signals)

    def shares(values: Values) -> Values:
        return _positive(np.histogram(values, edges)[0] / max(len(values), 1))

    group = Group({"normal": replace(NORMAL, width=6), **styles})
    for name, parts in taken.items():
        normal = parts.pop("test")
        if many:
            parts = {pooled: np.concatenate(list(parts.values()))}
        score = f"score of {name} [output units]"
        caption = "teacher, transformed" if name == "teacher" else name
        label = f"Distribution of {score}: normal events and {len(parts)} signals"
        with group.draw(caption, label) as axes:
            ground = 0.5 / len(normal)
            filled = NORMAL.options() | {"fill": True, "alpha": 0.55, "linewidth": 0}
            axes.stairs(shares(normal), edges, baseline=ground, **filled)
            for signal, values in parts.items():
                options = styles[signal].options() | {"linewidth": 1.2}
                axes.stairs(shares(values), edges, baseline=None, **options)
            if (reported := threshold(normal, REPORTED_FPR)) <= edges[-1]:
                axes.axvline(reported, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axes.set(xlabel=score, ylabel="share of events per bin", yscale="log")
            axes.set(xlim=(edges[0], edges[-1]), ylim=(ground, 1.3))
            _decades(axes.yaxis)
    return group


def roc_curve(normal: Values, anomalous: Values, points: int = 160) -> tuple[Values, Values]:
    """False-positive rates, logarithmic from one normal event on, and efficiencies, (points,)."""
    count = len(normal)
    rates = np.geomspace(1 / count, 1, points)
    allowed = np.minimum(np.floor(rates * count * (1 + 1e-12)).astype(int), count)
    # As many as all: the threshold falls below every score.
    edges = np.append(np.sort(normal)[::-1], -np.inf)[allowed]
    passed = len(anomalous) - np.searchsorted(np.sort(anomalous), edges, "right")
    return rates, passed / len(anomalous)


def roc(run: RunFiles) -> Group | None:
    """A ROC curve for each signal: teacher, students and the best baseline."""
    scores = run.scores
    if scores is None or not run.signals or run.metrics is None:
        return None
    read: dict[str, Callable[[str], Values]] = {}  # scores of a sample, by curve
    styles: dict[str, Line] = {}
    if baselines := run.metrics.baselines:
        best = max(baselines, key=lambda name: [q.mean(baselines[name]) or 0.0 for q in QUALITIES])
        read[f"baseline {best}"] = partial(scores.baseline, best)
        styles[f"baseline {best}"] = replace(BASELINE, name=f"baseline {best}")
    if run.taught:
        read["teacher"], styles["teacher"] = scores.teacher, TEACHER
    read |= {name: partial(scores.student, name) for name in run.students}
    styles |= _student_lines(run)
    events = len(scores.student(run.metrics.best, "test"))
    scale = 1000 * (run.config.crossings_mhz or 0)
    group = Group(styles)
    for signal in run.signals:
        label = f"ROC curves of {', '.join(read)} for {signal}"
        with group.draw(signal, label, signal) as axes:
            axes.figure.set_figheight(3.3 if run.of_crossings else 3.1)
            for name, of in read.items():
                axes.plot(*roc_curve(of("test"), of(signal)), **styles[name].options())
            axes.set(xlabel="false-positive rate", ylabel=f"efficiency for {signal}", xscale="log")
            axes.set(xlim=(1 / events, 1), ylim=(0, 1.02))
            _decades(axes.xaxis)
            _percent(axes.yaxis)
            few = min(SMALL_COUNT / events, 1)
            axes.axvspan(1 / events, few, color=SHADE, linewidth=0, zorder=0)
            if 1 / events < REPORTED_FPR:
                axes.axvline(REPORTED_FPR, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
            if run.of_crossings:
                khz = (lambda rate: rate * scale, lambda rate: rate / scale)
                top = axes.secondary_xaxis("top", functions=khz)
                _decades(top.xaxis)
                top.set_xlabel("trigger rate [kHz]")
    return group


def densities(run: RunFiles) -> Group | None:
    """The best student's score against the teacher's, for normals and for signals."""
    scores, best = run.scores, run.best
    if scores is None or best is None or not run.taught:
        return None
    samples = {"normal test events": ["test"]}
    if run.signals:
        samples["all signals"] = run.signals
    pairs = {
        events: (
            np.concatenate([scores.target(sample) for sample in names]),
            np.concatenate([scores.student(best, sample) for sample in names]),
        )
        for events, names in samples.items()
    }
    edges = bins([values for pair in pairs.values() for values in pair], 64)
    ends = (edges[0], edges[-1])
    group = Group()
    for events, pair in pairs.items():
        caption = f"{best} against the teacher, {events}"
        label = f"Score of {best} against the teacher's for {events}"
        with group.draw(caption, label) as axes:
            both: Any = (edges, edges)
            counts, *_ = np.histogram2d(*pair, bins=both)
            axes.figure.set_figheight(3.7)
            axes.plot(ends, ends, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            image = axes.imshow(
                _positive(counts.T),
                origin="lower",
                extent=ends * 2,
                cmap=_ramp(*_BLUE),
                norm=LogNorm(1, max(float(counts.max()), 10.0)),
                interpolation="none",
                aspect="auto",
                zorder=2,
            )
            _decades(_colour_bar(axes, image, "events per bin").yaxis)
            axes.set_xlabel("teacher's score [output units]")
            axes.set_ylabel(f"{best}'s score [output units]")
    return group


def events(run: RunFiles) -> Group | None:
    """Stored events on the detector's axes, as an image, or as bars."""
    shown = run.display
    if shown is None or not shown.events:
        return None
    values = np.array([event.values for event in shown.events]).reshape(-1, *shown.shape)
    flat = values.ndim not in (3, 4)
    images = values.reshape(len(values), *((-1, 1, 1) if flat else (*shown.shape, 1)[:3]))
    # A few cells above the rest would leave no colours to the others.
    high, signed = float(np.quantile(np.abs(values), 0.998)) or 1.0, bool(values.min() < 0)
    words = {"lowest": "least", "highest": "most"}
    names: tuple[list[str], ...] = ()
    if images.shape[1:3] == REGIONS:
        ends = [f"{edge:.2f}" for edge in ETA_EDGES[::4]]
        names = (
            [f"η {low} to {high}" for low, high in pairwise(ends)],
            [f"φ {20 * row}°" for row in range(REGIONS[0])],
        )
    group = Group(small=True)
    for event, image in zip(shown.events, images, strict=True):
        about = "" if event.sample == "test" else event.sample
        what = f"{about}: the median" if about else f"the {words.get(event.place)} abnormal normal"
        for channel in range(image.shape[-1]):
            caption = f"{what}, score {number_format.quantity(event.score)}"
            caption += f", channel {channel}" if image.shape[-1] > 1 else ""
            with group.draw(caption, f"Event: {caption}", about, names) as axes:
                axes.figure.set_size_inches(3.3, 2.9)
                if flat:
                    axes.stairs(image[:, 0, 0], fill=True, **lines(["value"])["value"].options())
                    axes.set(xlabel="input", ylabel="value", ylim=(-high * signed, high))
                else:
                    _cells(axes, image[..., channel], high, signed)
    return group


def _cells(axes: Any, cells: Values, high: float, signed: bool) -> None:
    """An image; of a calorimeter with phi and eta, the first row at the bottom."""
    norm = Normalize(-high, high) if signed else PowerNorm(0.5, 0, high)
    regions = cells.shape == REGIONS
    image = axes.imshow(
        np.where(cells == 0, np.nan, cells),
        origin="lower" if regions else "upper",
        extent=(0, cells.shape[1], *((0, cells.shape[0]) if regions else (cells.shape[0], 0))),
        cmap=_ramp(*_BLUE[::-1], *_RED) if signed else _ramp(*_RED),
        norm=norm,
        interpolation="none",
        aspect="auto" if regions else "equal",
        zorder=2,
    )
    axes.grid(visible=False)
    _colour_bar(axes, image, "counts" if regions else "value")
    if regions:
        every = range(0, REGIONS[1] + 1, 2)
        axes.set_xticks(every, [f"{ETA_EDGES[4 * place]:.1f}" for place in every])
        rows = range(0, REGIONS[0], 3)
        axes.set_yticks([row + 0.5 for row in rows], [f"{20 * row}°" for row in rows])
        axes.set(xlabel="η", ylabel="φ")


def qualities(run: RunFiles) -> Group | None:
    """A row for each score: the mean over signals as a bar, every signal as a marker."""
    metrics = run.metrics
    if metrics is None or not run.signals:
        return None
    scored: dict[str, run_files.Quality] = {**run.networks, **metrics.baselines}
    bars = _student_lines(run) | {"teacher": TEACHER} | dict.fromkeys(metrics.baselines, BASELINE)
    group = Group(lines(run.signals), markers=True)
    for each in QUALITIES:
        rows = [(bars[name].colour, each.of(quality)) for name, quality in scored.items()]
        values = [value for _, row in rows for value in row.values()]
        if not values:  # a run of a version that did not know this quality
            continue
        caption = f"{each.title}: mean over signals (bar) and every signal"
        label = f"{each.title} of {', '.join(scored)} for each signal"
        with group.draw(caption, label) as axes:
            low, high = 0.5 if min(values) >= 0.5 else 0.0, 1.0
            if each.share:
                low, high = 0.0, min(1.0, max(values) * 1.08 + 0.01)
                _percent(axes.xaxis)
            _rows(axes, list(scored))
            for place, (colour, row) in enumerate(rows):
                if (mean := mean_over_signals(row)) is not None:
                    axes.barh(place, mean - low, 0.62, low, color=colour, alpha=0.28, linewidth=0)
                    axes.plot([mean, mean], [place - 0.31, place + 0.31], color=colour, lw=2)
            for signal, line in group.legend.items():
                points = [
                    (row[signal], place) for place, (_, row) in enumerate(rows) if signal in row
                ]
                options = line.options() | {"linestyle": "", "marker": line.marker}
                axes.plot(*np.transpose(points), markersize=4.2, **options)
            axes.set(xlim=(low, high), xlabel=each.title)
    return group


def ladders(run: RunFiles) -> Group | None:
    """Means from the float teacher to the firmware, a line for each student."""
    fidelity = run.fidelity
    if not fidelity or not run.signals:
        return None
    present = {rung.stage for rungs in fidelity.values() for rung in rungs}
    places = {stage: i for i, stage in enumerate(stage for stage in RUNGS if stage in present)}
    styles = {name: line for name, line in _student_lines(run).items() if name in fidelity}
    group = Group(styles)
    for each in MEANS:
        mean = f"mean {each.short}"
        label = f"{mean} from the teacher to the firmware"
        with group.draw(f"{mean}, rung by rung", label) as axes:
            for student, rungs in fidelity.items():
                found = [(places[r.stage], v) for r in rungs if (v := each.mean(r)) is not None]
                line = styles[student]
                if found:
                    points = np.transpose(sorted(found))
                    axes.plot(*points, marker=line.marker, markersize=5, **line.options())
            axes.set_xticks(range(len(places)), [RUNGS[stage][1] for stage in places])
            if each.share:
                _percent(axes.yaxis)
            axes.set(xlim=(-0.3, len(places) - 0.7), ylabel=mean)
    return group


def cost(run: RunFiles) -> Group | None:
    """The largest share of the part by every source, and the best student's LUTs by layer."""
    styles = lines(dict.fromkeys(each.design_text for each in run.costs))
    drawn = {each.design_text for each in run.costs if each.best or each.largest_share is not None}
    group = Group({name: line for name, line in styles.items() if name in drawn})
    shares = [(each, each.largest_share) for each in run.costs if each.largest_share is not None]
    if shares:
        parts = dict.fromkeys(str(each.part_short) for each, _ in shares)
        rows = [
            (f"{each.student}, {each.source}", 100 * share, number_format.share(share))
            for each, share in shares
        ]
        label = f"Share of the part: {', '.join(name for name, *_ in rows)}"
        with group.draw("largest share of the part, by source", label) as axes:
            _bars(axes, rows, [styles[each.design_text].colour for each, _ in shares])
            axes.set_xlabel(f"largest share of a {' or '.join(parts)} [%]")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    for each in run.costs:
        luts = [(layer.name, layer.lut) for layer in each.layers if layer.lut is not None]
        if not each.best or not any(lut for _, lut in luts):
            continue
        if rest := luts[MOST_LAYERS:]:
            luts[MOST_LAYERS:] = [(f"{len(rest)} others", sum(lut for _, lut in rest))]
        caption = f"{each.student}: LUT by layer, {each.source_text}"
        label = f"LUT of {each.student} by layer: {each.design_text}, {each.source_text}"
        with group.draw(caption, label) as axes:
            rows = [(name, lut, number_format.count(lut)) for name, lut in luts]
            _bars(axes, rows, [styles[each.design_text].colour] * len(rows))
            axes.set_xlabel("LUT")
            axes.xaxis.set_major_formatter(lambda value, _: number_format.count(value))
    return group if group.drawings else None


FIGURES: dict[str, Callable[[RunFiles], Group | None]] = {
    draw.__name__: draw
    for draw in (events, learning, distributions, roc, densities, qualities, ladders, cost)
}
