"""Metrics against scikit-learn and SciPy, and where they have nothing to say."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import roc_auc_score

from l1kd.evaluation.metrics import (
    auc,
    distance,
    efficiency,
    emd,
    mean_over_signals,
    quality,
    shared_decisions,
    spearman,
)

SCORES = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 12))


@given(SCORES, SCORES)
def test_auc_is_scikit_learns(normal, anomalous):
    labels = np.r_[np.zeros(len(normal)), np.ones(len(anomalous))]
    expected = roc_auc_score(labels, np.r_[normal, anomalous])
    assert auc(normal, anomalous) == pytest.approx(expected, abs=1e-12)


@given(SCORES, SCORES)
def test_auc_of_exchanged_roles_adds_up_to_one(normal, anomalous):
    assert auc(normal, anomalous) + auc(anomalous, normal) == pytest.approx(1, abs=1e-15)


def test_auc_of_ties_is_exactly_one_half():
    assert auc(np.ones(7), np.ones(3)) == 0.5


def test_efficiency_counts_the_threshold_itself():
    assert efficiency(np.arange(1_000), np.array([998, 999, 1_000])) == pytest.approx(2 / 3)


@given(SCORES, SCORES)
def test_emd_is_scipys(a, b):
    assert emd(a, b) == pytest.approx(stats.wasserstein_distance(a, b))


@given(st.data())
def test_spearman_is_scipys(data):
    size = data.draw(st.integers(2, 40))
    a, b = (
        data.draw(hnp.arrays(np.int64, size, elements=st.integers(0, 9)), label)
        for label in ("a", "b")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(a, b).statistic
    if np.isnan(expected):
        assert spearman(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [2.0]), ([1.0, 1.0], [0.0, 1.0]), ([0.0, np.nan], [0.0, 1.0])]
)
def test_spearman_is_none_where_it_means_nothing(a, b):
    assert spearman(np.array(a), np.array(b)) is None


def test_shared_decisions():
    a = np.arange(100)
    assert shared_decisions(a, a * 3.0, 0.1) == 1.0
    assert shared_decisions(a, -a, 0.1) == 0.0
    # ten each, five in common: 5 of 15
    assert shared_decisions(a, np.r_[a[:85], a[95:], a[85:95]], 0.1) == pytest.approx(5 / 15)
    assert shared_decisions(np.zeros(10), np.zeros(10), 0.1) is None


def test_quality_per_signal_and_pooled():
    random = np.random.default_rng(0)
    normal = random.normal(size=2_000)
    signals = {"near": random.normal(1, size=300), "far": random.normal(5, size=100)}
    found = quality({"test": normal, **signals})
    assert list(found.auc) == ["near", "far", "all"]
    assert found.auc["all"] == auc(normal, np.r_[signals["near"], signals["far"]])
    assert list(found.efficiency) == ["near", "far"]
    assert found.efficiency["far"] == efficiency(normal, signals["far"])
    assert mean_over_signals(found.auc) == pytest.approx((found.auc["near"] + found.auc["far"]) / 2)


def test_no_signals_no_quality():
    found = quality({"test": np.arange(3)})
    assert found.auc == {} and found.efficiency == {}
    assert mean_over_signals(found.auc) is None


def test_distance_is_on_the_papers_scale():
    zero, one = np.zeros(4), np.full(4, np.e - 1)
    found = distance({"test": zero, "a": zero, "b": one}, {"test": one, "a": one, "b": one})
    assert found.normal == pytest.approx(1)
    assert found.anomalous == pytest.approx(0.5)
    assert distance({"test": zero}, {"test": one}).anomalous is None


def test_what_is_no_score_is_refused():
    with pytest.raises(ValueError, match="at least one event"):
        auc(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="finite"):
        efficiency(np.array([1.0]), np.array([np.nan]))
    with pytest.raises(ValueError, match="one length"):
        spearman(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "l1kd.evaluation.metrics, l1kd.evaluation.rates",
            {"tensorflow", "hls4ml", "qkeras", "matplotlib"},
        ),
        ("l1kd.report.page", {"tensorflow", "hls4ml", "qkeras"}),
    ],
)
def test_metrics_and_the_report_need_no_heavy_packages(modules, heavy):
    code = f"import sys, {modules}\nprint({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
