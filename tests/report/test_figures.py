"""Figures: small, self-contained, their own ids, and drawn for data that have little to show."""

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from l1kd.evaluation.metrics import efficiency
from l1kd.evaluation.scores import Scores
from l1kd.report import figures
from l1kd.report.figures import FIGURES, INK, lines, power_of_ten
from l1kd.report.load_run import History, read_run
from l1kd.report.page import themed


def _check(drawing):
    svg = drawing.svg

    class Parser(HTMLParser):
        depth = 0

        def handle_starttag(self, tag, attrs):
            self.depth += 1

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            self.depth -= 1

    parser = Parser()
    parser.feed(svg)
    assert parser.depth == 0
    assert svg.startswith("<svg viewBox=") and svg.endswith("</svg>")
    assert 'role="img" aria-label="' in svg
    assert "http" not in svg and "<?xml" not in svg and "xlink" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    pointed = re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg)
    assert set(pointed) <= set(ids)
    assert len(svg) < 150_000
    return svg


@pytest.fixture(scope="module")
def run(whole_run):
    return read_run(whole_run)


def _with_scores(run, change):
    """The run with other scores of each sample."""
    arrays = {key: change(key.rsplit("_", 1)[1], own) for key, own in run.scores.arrays.items()}
    return replace(run, scores=Scores(arrays))


def test_every_figure_has_its_own_ids(run):
    groups = [draw(run) for draw in FIGURES.values()]
    drawings = [drawing for group in groups for drawing in group.drawings]
    assert len(drawings) >= len(FIGURES) + len(run.signals) + len(run.students)
    ids = [re.findall(r'\bid="([^"]*)"', _check(drawing)) for drawing in drawings]
    assert all(ids) and sum(map(len, ids)) == len({each for own in ids for each in own})


def test_equal_figures_are_equal(run):
    assert figures.densities(run) == figures.densities(run)


def test_distributions_with_their_threshold_and_one_beyond(run):
    for drawing in figures.distributions(run).drawings:
        assert re.search(rf"stroke-dasharray: 4,2; [^\"]*stroke: {INK}", _check(drawing))
    highest = max(array.max() for array in run.scores.arrays.values())
    constant = _with_scores(
        run, lambda sample, own: np.full_like(own, highest) if sample == "test" else own
    )
    for drawing in figures.distributions(constant).drawings:
        assert not re.search(rf"stroke-dasharray: 4,2; [^\"]*stroke: {INK}", _check(drawing))


def test_distributions_and_densities_of_constant_scores(run):
    constant = _with_scores(run, lambda _, own: np.zeros_like(own))
    for group in (figures.distributions(constant), figures.densities(constant)):
        for drawing in group.drawings:
            _check(drawing)


def test_bins_of_a_constant_and_of_nothing():
    assert figures.bins([np.zeros(3)], 4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert len(figures.bins([np.array([])], 4)) == 5


def test_learning_curves_with_gaps(run):
    history = History([1, 2, 3], ["a", "a", "b"], {"teacher_val_loss": [3.0, math.nan, 0.0]})
    (drawing,) = figures.learning(replace(run, history=history)).drawings
    _check(drawing)


def test_one_epoch_is_a_curve_too(run):
    history = History([1], ["a"], {"v1_loss": [2.0], "v1_val_loss": [2.0]})
    (drawing,) = figures.learning(replace(run, history=history)).drawings
    _check(drawing)


def test_roc_curve_is_the_efficiency_at_its_rate():
    normal, anomalous = np.arange(1_000.0), np.arange(500.0, 1_500.0)
    rates, efficiencies = figures.roc_curve(normal, anomalous)
    for rate, found in list(zip(rates, efficiencies, strict=True))[:-1:10]:
        assert found == efficiency(normal, anomalous, rate)
    assert efficiencies[-1] == 1
    assert (np.diff(efficiencies) >= 0).all()


@pytest.mark.parametrize("source", ["mnist", "l1toy"])
@pytest.mark.parametrize("events", [20, 20_000])
def test_roc(make, source, events):
    made = read_run(make(source=source, stages=("train", "evaluate"), students={"v1": 0.9}))
    few = _with_scores(made, lambda sample, own: own[:events] if sample == "test" else own)
    group = figures.roc(few)
    assert len(group.drawings) == len(made.signals)
    for drawing in group.drawings:
        assert ("trigger rate [kHz]" in _check(drawing)) == (source == "l1toy")


def test_rows_for_signals_and_the_ladder(run):
    metrics, fidelity = run.metrics.model_copy(deep=True), dict(run.fidelity)
    metrics.teacher.auc.pop("ttbar")
    metrics.baselines["sum"].auc = metrics.baselines["sum"].efficiency = {}
    first, second, *_ = fidelity
    fidelity[first] = [each.model_copy(deep=True) for each in fidelity[first]]
    fidelity[first][3].auc = fidelity[first][3].efficiency = {}
    fidelity[second] = []
    changed = replace(run, metrics=metrics, fidelity=fidelity)
    for drawing in figures.qualities(changed).drawings:
        assert ">teacher<" in _check(drawing)
    for drawing in figures.ladders(changed).drawings:
        assert ">C-sim<" in _check(drawing)


def test_many_names_are_all_told_apart():
    styles = lines([f"s{i}" for i in range(20)])
    assert len({(line.colour, line.dash) for line in styles.values()}) == 20


def test_ticks():
    assert [power_of_ten(v) for v in (1e-4, 0.1, 1, 100, 1e5, 2e-3)] == [
        "10⁻⁴", "0.1", "1", "100", "10⁵", "",
    ]  # fmt: skip


def _axes(drawing):
    """What a script reads of a figure."""
    return json.loads(html.unescape(re.search(r'data-axes="([^"]*)"', drawing.svg)[1]))


@pytest.mark.parametrize(
    ("shape", "each"),
    [((18, 14, 1), 1), ((18, 14, 2), 2), ((6, 4), 1), ((57,), 1), ((2, 3, 2, 2), 1)],
)
@pytest.mark.parametrize("signed", [False, True])
def test_events_as_they_are_shaped(run, shape, each, signed):
    """On the detector's axes, as images channel by channel, or as bars."""
    random, size = np.random.default_rng(1), int(np.prod(shape))
    shown = run.display.model_copy(deep=True)
    shown.shape, shown.events = list(shape), shown.events[:3]
    for event in shown.events:
        event.values = (random.poisson(3, size) - 2.0 * signed).tolist()
    group = figures.events(replace(run, display=shown))
    assert len(group.drawings) == 3 * each
    assert [drawing.about for drawing in group.drawings[::each]] == ["", "", run.signals[0]]
    drawing, values = group.drawings[0], np.reshape(shown.events[0].values, shape)
    _check(drawing)
    found = _axes(drawing)
    if len(shape) in (2, 3):
        first = values.reshape(*shape[:2], -1)[..., 0]
        cells = [float(cell or 0) for cell in found["cells"]["values"].split(",")]
        assert cells == first.reshape(-1).tolist()
        assert found["cells"]["up"] == (shape[:2] == (18, 14))
        columns, rows = found["cells"]["names"] or ([], [])
        assert (len(rows), len(columns)) == ((18, 14) if found["cells"]["up"] else (0, 0))
    else:
        assert "cells" not in found and 'data-series="value"' in drawing.svg


def test_scripts_find_scales_and_lines(run):
    drawing = figures.roc(run).drawings[0]
    found = _axes(drawing)
    assert found["x"]["log"] and not found["y"]["log"]
    assert found["y"]["share"] and not found["x"]["share"]
    assert found["x"]["label"] == "false-positive rate" and drawing.about == run.signals[0]
    # What a script computes at the drawn ends of a line is where the line ends.
    (series,) = re.findall(r'<g data-series="teacher">\s*<path d="([^"]*)"', drawing.svg)
    x, y = map(float, re.findall(r"[\d.]+", series)[-2:])
    for axis, place, value in (("x", x, 1.0), ("y", y, 1.0)):
        near, far, low, high = found[axis]["ends"]
        part = (place - near) / (far - near)
        shown = low * (high / low) ** part if found[axis]["log"] else low + part * (high - low)
        assert shown == pytest.approx(value, rel=0.01)
    own = set(re.findall(r'data-series="([^"]*)"', drawing.svg))
    assert own == set(figures.roc(run).legend)


def test_colours_follow_the_pages_ground(run):
    """Every colour of a figure, but for images, is one that the dark ground changes."""
    css = (Path(figures.__file__).parent / "templates" / "report.css").read_text()
    dark = css[css.index("prefers-color-scheme: dark") :].partition("\n}")[0]
    for draw in (figures.learning, figures.roc, figures.qualities):
        for drawing in draw(run).drawings:
            text = themed(drawing.svg)
            assert f"var(--ink, {INK})" in text
            left = re.sub(r"var\([^)]*\)", "", text)
            assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", left)
            for name in re.findall(r"var\((--\w+),", text):
                assert f"{name}: #" in dark
