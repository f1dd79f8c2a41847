"""Band and bootstrap against loops; the answer in words."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l1kd.core.run_files import BaselineMetrics, Measured, Metrics, StudentMetrics
from l1kd.evaluation import comparison
from l1kd.evaluation.comparison import RULE, Comparison, outcome, points, replicas, sentences
from l1kd.evaluation.metrics import band, efficiency
from l1kd.evaluation.rates import BAND, events_per_collision


def _band_by_rates(normal, anomalous, points=4_000):
    """The mean of the efficiency over many rates."""
    edges = np.geomspace(*BAND, points + 1)
    rates = np.sqrt(edges[1:] * edges[:-1])
    return np.mean([efficiency(normal, anomalous, rate) for rate in rates])


@pytest.mark.parametrize("count", [40, 700, 5_000])
def test_the_band_is_the_mean_efficiency_over_its_rates(count):
    random = np.random.default_rng(count)
    # Whole numbers: ties of normals, and of normals with anomalies.
    normal = np.floor(random.exponential(40, count))
    anomalous = np.floor(random.exponential(160, 300))
    rates = 300 if count == 5_000 else 4_000
    expected = _band_by_rates(normal, anomalous, rates)
    assert band(normal, anomalous) == pytest.approx(expected, abs=2 / rates)


def test_the_band_lies_between_the_efficiencies_at_its_ends():
    random = np.random.default_rng(1)
    normal, anomalous = random.normal(0, 1, 20_000), random.normal(2, 1, 500)
    low, high = (efficiency(normal, anomalous, rate) for rate in BAND)
    assert low < band(normal, anomalous) < high
    assert band(normal, np.full(3, 9.0)) == 1
    assert band(normal, np.full(3, -9.0)) == 0


@given(st.integers(0, 2**32 - 1))
def test_a_band_does_not_depend_on_order_or_scale_and_rises_with_the_scores(seed):
    random = np.random.default_rng(seed)
    normal, anomalous = random.integers(0, 50, 600), random.integers(20, 60, 80)
    found = band(normal, anomalous)
    assert band(random.permutation(normal), random.permutation(anomalous)) == pytest.approx(found)
    assert band(3 * normal + 1, 3 * anomalous + 1) == found
    assert band(normal, anomalous + 1) >= found


def _samples(seed, normals=4_000, signals=300, noise=0.5, names=("a", "b")):
    """Scores `hidden` and others that see it with noise, of the same events."""
    random = np.random.default_rng(seed)
    hidden = {"test": random.normal(0, 1, normals)}
    hidden |= {name: random.normal(2.5, 1, signals) for name in ("near", "far")}
    noisy = {
        name: {key: own + random.normal(0, noise, len(own)) for key, own in hidden.items()}
        for name in names
    }
    return {"hidden": hidden, **noisy}


def test_replicas_of_events_taken_once_are_the_numbers_themselves(monkeypatch):
    class Once:
        def poisson(self, mean, shape):
            return np.full(shape, round(mean))

    samples = _samples(1)
    samples["tied"] = {key: np.rint(own) for key, own in samples["hidden"].items()}
    monkeypatch.setattr(comparison.np.random, "default_rng", lambda seed: Once())
    found = replicas(samples)
    for name, own in samples.items():
        for column, signal in enumerate(("near", "far")):
            exact = band(own["test"], own[signal]), efficiency(own["test"], own[signal])
            np.testing.assert_allclose(found[name][:, :, column], np.transpose([exact] * 400))


def test_replicas_are_those_of_events_written_out(monkeypatch):
    """Each replica's events, as often as they were drawn, through the plain formulas."""
    drawn, rng = [], np.random.default_rng(0)

    class Recorded:
        def poisson(self, mean, shape):
            drawn.append(rng.poisson(mean, shape))
            return drawn[-1]

    samples = _samples(2, normals=900, signals=40)
    samples["tied"] = {key: np.rint(2 * own) for key, own in samples["hidden"].items()}
    monkeypatch.setattr(comparison.np.random, "default_rng", lambda seed: Recorded())
    found = replicas(samples)
    near, far, normals = drawn
    ranks = min(int(2.7 + 8 * np.sqrt(2.7) + 10), 900)
    hottest = [np.argsort(-own["test"], kind="stable")[:ranks] for own in samples.values()]
    union = np.unique(np.concatenate(hottest))
    for replica, (name, own) in itertools.product((0, 1, 2), samples.items()):
        times = dict(zip(union, normals[replica], strict=True))
        for column, (signal, weights) in enumerate((("near", near), ("far", far))):
            share_sum = efficiency_sum = 0.0
            for event, weight in zip(own[signal], weights[replica], strict=True):
                above = sum(t for n, t in times.items() if own["test"][n] >= event)
                if (own["test"] >= event).sum() > ranks:
                    above = np.inf
                fpr = min(max(above / 900, 1e-300), 1)
                share = np.log(BAND[1] / fpr) / np.log(BAND[1] / BAND[0])
                share_sum += weight * min(max(share, 0), 1)
                efficiency_sum += weight * (fpr <= 1e-3)
            expected = np.array([share_sum, efficiency_sum]) / weights[replica].sum()
            np.testing.assert_allclose(found[name][:, replica, column], expected)


def _differences(samples, a="a", b="b", **options):
    return Comparison(samples, **options).differences(a, {"other": b})["other"]


def test_values_are_differences_of_the_qualities():
    samples = _samples(3)
    found, qualities = _differences(samples), Comparison(samples).qualities
    for kind in ("band", "efficiency"):
        own, other = (getattr(qualities[name], kind) for name in ("a", "b"))
        for signal in ("near", "far"):
            assert found[kind][signal].value == pytest.approx(own[signal] - other[signal])
        mean = np.mean([found[kind][signal].value for signal in ("near", "far")])
        assert found[kind]["mean"].value == pytest.approx(mean)
        assert qualities["a"].error[kind] > 0


def test_the_same_scores_in_another_unit_differ_by_nothing_for_sure():
    samples = _samples(4)
    samples["b"] = {key: 3 * own + 1 for key, own in samples["a"].items()}
    found = _differences(samples)
    assert {(m.value, m.error) for kind in found.values() for m in kind.values()} == {(0.0, 0.0)}
    assert outcome(found) == "alike"


def test_pairing_makes_errors_smaller_and_shared_collisions_make_them_larger():
    samples = _samples(5, noise=0.2)
    paired = _differences(samples)["band"]["mean"].error
    errors = [Comparison(samples).qualities[name].error["band"] for name in ("a", "b")]
    assert paired < 0.8 * np.hypot(*errors)
    shared = Comparison(samples, 4.0).qualities["a"].error["band"]
    assert shared > 1.3 * errors[0]


def test_the_same_again_is_the_same_and_another_score_beside_it_changes_little():
    samples = _samples(6)
    first, again = _differences(samples), _differences(samples)
    assert first == again
    del samples["hidden"]
    alone = _differences(samples)["band"]["mean"]
    assert alone.value == first["band"]["mean"].value
    assert alone.error == pytest.approx(first["band"]["mean"].error, rel=0.2)


def test_errors_are_the_spread_of_repeated_experiments():
    values, errors = [], []
    for seed in range(100, 140):
        found = _differences(_samples(seed, normals=3_000, signals=150))["band"]["mean"]
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.35)


@pytest.mark.full
def test_one_error_covers_two_thirds_and_two_cover_nearly_all():
    """Of a true difference of 0: two scores with equal noise."""
    pulls = []
    for seed in range(1_000, 1_300):
        found = _differences(_samples(seed, normals=10_000))["band"]["mean"]
        pulls.append(abs(found.value) / found.error)
    assert 0.60 < np.mean(np.array(pulls) < 1) < 0.77
    assert np.mean(np.array(pulls) < 2) > 0.91


def test_without_signals_there_is_nothing_to_compare():
    samples = {"a": {"test": np.arange(5.0)}, "b": {"test": np.arange(5.0)}}
    found = Comparison(samples)
    assert found.differences("a", {"b": "b"}) == {}
    assert found.qualities["a"].error == {}


def test_collisions_that_are_known_to_be_fewer_count():
    known = {"distinct_collisions": {"test": {"1e-3": 13.0}}}
    assert events_per_collision(known, 52_000) == pytest.approx(4)
    assert events_per_collision(known, 1_000) == 1
    assert events_per_collision({}, 52_000) == 1


def _difference(value, error):
    measured = {"mean": Measured(value=value, error=error)}
    return {"band": measured, "efficiency": measured}


def _metrics(**differences):
    student = StudentMetrics(
        auc={}, efficiency={}, emd=None, spearman=None, params=1, weight_bits=8,
        difference={name: _difference(*each) for name, each in differences.items()},
    )  # fmt: skip
    baselines = {
        "top4": BaselineMetrics(auc={}, efficiency={}),
        "pca": BaselineMetrics(auc={}, efficiency={}, settings={"components": 1}),
        "menu": BaselineMetrics(auc={}, efficiency={}, settings={"ht": 0.5, "top16": 0.5}),
    }
    return Metrics(
        dataset={}, teacher=None, baselines=baselines, students={"conv": student}, best="conv"
    )


def test_every_outcome_has_its_words():
    found = sentences(
        _metrics(
            top4=(0.012, 0.004), pca=(0.003, 0.004), menu=(-0.021, 0.005), teacher=(-0.01, 0.01)
        )
    )
    assert found == [
        "conv is better than the sum of the four highest (+1.2 ± 0.4).",
        "conv is not distinguishable from the teacher (-1.0 ± 1.0), "
        "PCA (components 1) (+0.3 ± 0.4).",
        "conv is worse than the tuned OR of seeds (-2.1 ± 0.5).",
        RULE,
    ]
    assert sentences(_metrics()) == []


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.02, 0.01, "better"), (0.0199, 0.01, "alike"), (-0.0199, 0.01, "alike"),
        (-0.02, 0.01, "worse"), (0.0, 0.0, "alike"), (1e-9, 0.0, "better"),
    ],
)  # fmt: skip
def test_two_standard_errors_tell_scores_apart(value, error, expected):
    assert outcome(_difference(value, error)) == expected
    assert points(Measured(value=0.0123, error=0.0041)) == "+1.2 ± 0.4"
