"""Who is the best student within budgets, and who is the nearest miss."""

import math

import pytest

from l1kd.core.run_files import Resources
from l1kd.evaluation.student_choice import BUDGETS, candidates, largest_ratio, missed

QUALITIES = {"large": 0.9, "middle": 0.8, "small": 0.7}
PARAMS = {"large": 300, "middle": 200, "small": 100}


def _cost(**amounts):
    common = {"student": "s", "source": "estimate", "implementation": "alkaid"}
    return Resources(**common, tool="alkaid 0.8.2", part=None, clock_ns=5.0, **amounts)


def _costs(**amounts):
    return {name: _cost(**each) for name, each in amounts.items()}


LUT = _costs(large={"lut": 30_000.0}, middle={"lut": 20_000.0}, small={"lut": 10_000.0})


def _order(costs, budgets, qualities=QUALITIES):
    return [each.student for each in candidates(qualities, PARAMS, costs, budgets)]


def test_without_budgets_quality_decides_and_nothing_is_excluded():
    found = candidates(QUALITIES, PARAMS, {}, {})
    assert [each.student for each in found] == ["large", "middle", "small"]
    assert not any(each.excluded for each in found)


def test_the_best_by_quality_is_excluded_and_the_next_is_chosen():
    first, second, last = candidates(QUALITIES, PARAMS, LUT, {"max_lut": 20_000.0})
    assert (first.student, second.student, last.student) == ("middle", "small", "large")
    assert first.excluded == second.excluded == []
    assert last.excluded == ["LUT 30,000: 10,000 over max_lut 20,000 (1.5 times)"]
    assert last.ratio == 1.5 and first.ratio == 1.0


def test_every_budget_has_to_be_met():
    costs = _costs(
        large={"lut": 9.0, "latency_ns": 51.0},
        middle={"lut": 11.0, "latency_ns": 49.0},
        small={"lut": 9.0, "latency_ns": 49.0},
    )
    assert _order(costs, {"max_lut": 10.0, "max_latency_ns": 50.0})[0] == "small"


def test_if_none_meets_the_nearest_miss_is_first_ties_by_quality():
    costs = _costs(
        large={"lut": 11.0, "latency_ns": 100.0},  # 1.1 and 2
        middle={"lut": 14.0, "latency_ns": 70.0},  # 1.4 and 1.4
        small={"lut": 14.0, "latency_ns": 10.0},  # 1.4
    )
    assert _order(costs, {"max_lut": 10.0, "max_latency_ns": 50.0}) == ["middle", "small", "large"]
    assert _order(
        costs, {"max_lut": 10.0, "max_latency_ns": 50.0}, {**QUALITIES, "small": 0.85}
    ) == ["small", "middle", "large"]


def test_an_unknown_cost_meets_no_budget_and_is_the_furthest_away():
    costs = LUT | {"large": _cost(note="too large to trace")}
    budgets = {"max_lut": 15_000.0}
    found = candidates(QUALITIES, PARAMS, costs, budgets)
    assert [each.student for each in found] == ["small", "middle", "large"]
    assert found[-1].excluded == ["LUT not known: max_lut 15,000"]
    assert found[-1].ratio is None and found[-1].lut is None
    assert found[-1].note == "too large to trace"
    assert _order({}, budgets) == ["large", "middle", "small"]  # none known: by quality
    assert _order(LUT | {"large": costs["large"]}, {"max_lut": 5.0})[-1] == "large"


def test_a_quality_that_is_not_known_is_the_last_resort():
    qualities = {"large": -math.inf, "middle": -math.inf, "small": 0.5}
    found = candidates(qualities, PARAMS, LUT, {"max_lut": 1e6})
    assert [each.student for each in found] == ["small", "middle", "large"]  # then the smaller
    assert found[1].quality is None


@pytest.mark.parametrize(
    ("amounts", "text"),
    [
        ({"share": 0.05}, "share of the part 5 %: 3 % over max_share 2 % (2.5 times)"),
        ({"latency_ns": 62.5}, "latency 62.5 ns: 37.5 ns over max_latency_ns 25 ns (2.5 times)"),
        ({"interval_ns": None}, "interval not known: max_interval_ns 25 ns"),
        ({"interval_ns": 25.0}, None),
    ],
)
def test_misses_in_words(amounts, text):
    limits = {"share": 0.02, "latency_ns": 25.0, "interval_ns": 25.0}
    budgets = {key: limits[what] for key, what in BUDGETS.items() if what in amounts}
    assert [each for _, each in missed(amounts, budgets)] == ([text] if text else [])


def test_the_largest_ratio():
    assert largest_ratio({"lut": 5.0}, {}) == 0
    assert largest_ratio({"lut": 5.0}, {"max_lut": 10.0}) == 0.5
    assert largest_ratio({"lut": 5.0}, {"max_lut": 10.0, "max_share": 0.1}) == math.inf
