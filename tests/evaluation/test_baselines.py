"""Baselines against their formulas, written out."""

import numpy as np
import pytest

from l1kd.evaluation.scores import BASELINES, baselines


@pytest.fixture
def events():
    return np.random.default_rng(1).integers(0, 50, (9, 3, 4)).astype(np.float32)


def test_every_baseline_is_its_formula(events):
    mean = np.arange(12.0).reshape(3, 4)
    deviation = np.full((3, 4), 2.0)
    functions = baselines(mean, deviation)
    assert functions.keys() == BASELINES.keys()
    for index, event in enumerate(events.astype(np.float64)):
        z = (event - mean) / 2
        expected = {
            "sum": event.sum(),
            "max": event.max(),
            "top4": sum(sorted(event.ravel())[-4:]),
            "mean_square": (event**2).mean(),
            "std_mean_square": (z**2).mean(),
            "std_fourth": (z**4).mean(),
        }
        for name, function in functions.items():
            assert function(events)[index] == pytest.approx(expected[name])


def test_scores_do_not_depend_on_the_chunks(events):
    for function in baselines(np.zeros((3, 4)), np.ones((3, 4))).values():
        np.testing.assert_array_equal(
            function(events), np.concatenate([function(events[:5]), function(events[5:])])
        )


def test_an_input_that_never_varied_does_not_divide_by_zero(events):
    deviation = np.ones((3, 4))
    deviation[0, 0] = 0
    for function in baselines(np.zeros((3, 4)), deviation).values():
        assert np.isfinite(function(events)).all()


def test_fewer_than_four_inputs():
    assert baselines(np.zeros(2), np.ones(2))["top4"](np.array([[1, 2]], np.float32)) == [3]
