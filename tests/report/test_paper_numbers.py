"""The paper's numbers are all there, and are the paper's."""

import itertools
import statistics

import pytest

from l1kd.report import paper_numbers
from l1kd.report.paper_numbers import CELLS, DATA, MODELS, MODES, STUDENTS, find


def test_every_number_is_there_once():
    keys = [(cell.data, cell.mode, cell.model) for cell in CELLS]
    assert sorted(keys) == sorted(itertools.product(DATA, MODES, MODELS))
    assert all(find(*key) is cell for key, cell in zip(keys, CELLS, strict=True))
    assert find("l1toy", "exposure", "s1") is None
    assert find("mnist", "exposure", "conv") is None


def test_they_are_plausible():
    for cell in CELLS:
        assert 0.78 <= cell.auc <= 0.95
        assert 0.03 <= cell.auc_std <= 0.14
        assert (cell.emd_anomalous is None) == (cell.model == paper_numbers.TEACHER)
        if cell.emd_anomalous is not None:
            assert 0.005 <= cell.emd_anomalous <= 0.022
            assert 0.002 <= cell.emd_anomalous_std <= 0.015


# The same numbers once more, as the paper's figures have them: typed twice, they must agree.
@pytest.mark.parametrize(
    ("data", "auc", "emd"),
    [
        (
            "mnist",
            [0.944, 0.931, 0.946, 0.921, 0.895, 0.883, 0.838, 0.833],
            [0.008, 0.005, 0.009, 0.008, 0.005, 0.008, 0.007],
        ),
        (
            "fashion_mnist",
            [0.892, 0.872, 0.872, 0.876, 0.865, 0.870, 0.865, 0.854],
            [0.014, 0.013, 0.011, 0.009, 0.010, 0.010, 0.010],
        ),
    ],
)
def test_exposure_is_what_our_bars_say(data, auc, emd):
    assert [find(data, "exposure", model).auc for model in MODELS] == auc
    assert [find(data, "exposure", model).emd_anomalous for model in STUDENTS] == emd


@pytest.mark.parametrize(
    ("data", "mode", "mean"),
    [
        ("mnist", "sequential", 0.8774),
        ("mnist", "colearning", 0.8850),
        ("mnist", "exposure", 0.8924),
        ("mnist", "noise", 0.8654),
        ("fashion_mnist", "sequential", 0.8423),
        ("fashion_mnist", "colearning", 0.8409),
        ("fashion_mnist", "exposure", 0.8677),
        ("fashion_mnist", "noise", 0.8139),
    ],
)
def test_means_over_students(data, mode, mean):
    found = statistics.mean(find(data, mode, student).auc for student in STUDENTS)
    assert found == pytest.approx(mean, abs=6e-5)
