"""Figures: small, self-contained, their own ids, and drawn for data that have little to show."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from l1kd.evaluation.metrics import efficiency
from l1kd.report import figures
from l1kd.report.figures import BASELINE, TEACHER, lines, power_of_ten
from l1kd.report.tables import QUALITIES


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


SCORES = np.random.default_rng(0).normal(5, 1, 30_000)


def test_ids_are_the_figures_own_and_equal_figures_are_equal():
    edges = figures.bins([SCORES])
    one, other, again = (
        figures.density(name, "", SCORES, SCORES + 0.1, edges, student="s1", events="normals")
        for name in ("one", "other", "one")
    )
    assert one == again
    ids = [set(re.findall(r'\bid="([^"]*)"', _check(drawing))) for drawing in (one, other)]
    assert ids[0] and not ids[0] & ids[1]


def test_distribution_with_its_threshold_and_one_beyond():
    edges = figures.bins([SCORES])
    styles = lines(["ttbar"])
    for threshold in (8.0, 99.0):
        _check(
            figures.distribution(
                "d", "", SCORES, {"ttbar": SCORES[:50] + 2}, edges, styles,
                score="score", threshold=threshold,
            )
        )  # fmt: skip


def test_bins_of_a_constant_and_of_nothing():
    assert figures.bins([np.zeros(3)], 4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert len(figures.bins([np.array([])], 4)) == 5


def test_learning_curves_with_gaps():
    nan = float("nan")
    drawing = figures.learning_curves(
        "l", "", [1, 2, 3], {"teacher": ([nan] * 3, [3.0, nan, 0.0])}, {"teacher": TEACHER},
        phase_starts=[3], loss="loss",
    )  # fmt: skip
    _check(drawing)


def test_one_epoch_is_a_curve_too():
    drawing = figures.learning_curves(
        "l", "", [1], {"a": ([2.0], [2.0])}, lines(["a"]), phase_starts=[], loss="loss"
    )
    _check(drawing)


def test_roc_curve_is_the_efficiency_at_its_rate():
    normal, anomalous = np.arange(1_000.0), np.arange(500.0, 1_500.0)
    rates, efficiencies = figures.roc_curve(normal, anomalous)
    for rate, found in list(zip(rates, efficiencies, strict=True))[:-1:10]:
        assert found == efficiency(normal, anomalous, rate)
    assert efficiencies[-1] == 1
    assert (np.diff(efficiencies) >= 0).all()


@pytest.mark.parametrize("rate_axis", [False, True])
@pytest.mark.parametrize("events", [20, 50_000])
def test_roc(rate_axis, events):
    curves = {"teacher": figures.roc_curve(SCORES[:events], SCORES[:50] + 1)}
    styles = {"teacher": TEACHER, "sum": BASELINE}
    drawing = figures.roc_curves(
        "r", "", curves, styles, signal="ttbar", events=events, rate_axis=rate_axis
    )
    assert ("trigger rate [kHz]" in _check(drawing)) == rate_axis


def test_rows_for_signals_and_the_ladder():
    rows = {"teacher": {"a": 0.9, "b": 0.8}, "s1": {"a": 0.7}, "none": {}}
    styles = dict.fromkeys(rows, TEACHER)
    for quality in QUALITIES:
        drawing = figures.per_signal("p", "", rows, lines(["a", "b"]), styles, quality)
        assert ">teacher<" in _check(drawing)
        drawing = figures.ladder(
            "l", "", {"s1": {"teacher": 0.9, "csim": None}, "s2": {}}, lines(["s1", "s2"]), quality,
            order=["teacher", "csim"],
        )  # fmt: skip
        assert ">C-sim<" in _check(drawing)


def test_many_names_are_all_told_apart():
    styles = lines([f"s{i}" for i in range(20)])
    assert len({(line.colour, line.dash) for line in styles.values()}) == 20


def test_ticks():
    assert [power_of_ten(v) for v in (1e-4, 0.1, 1, 100, 1e5, 2e-3)] == [
        "10⁻⁴", "0.1", "1", "100", "10⁵", "",
    ]  # fmt: skip
