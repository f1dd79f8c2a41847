"""The best of several drawings, over all sets of them, as counting every set gives it."""

import statistics
from itertools import combinations

import pytest

from tests.benchmarks.bench_starts import best_of, chances

LOSSES = [0.3, 0.1, 0.4, 0.15, 0.92, 0.65]
VALUES = [0.5, 0.9, 0.2, 0.95, 0.1, 0.7]


@pytest.mark.parametrize("starts", range(1, len(LOSSES) + 1))
def test_the_best_of_every_set_counts_alike(starts: int) -> None:
    sets = combinations(range(len(LOSSES)), starts)
    kept = [VALUES[min(own, key=lambda each: LOSSES[each])] for own in sets]
    assert best_of(LOSSES, VALUES, starts) == pytest.approx(statistics.mean(kept), rel=1e-12)
    assert sum(chances(len(LOSSES), starts)) == pytest.approx(1)


def test_one_drawing_is_any_and_all_are_the_best() -> None:
    assert best_of(LOSSES, VALUES, 1) == pytest.approx(statistics.mean(VALUES))
    assert best_of(LOSSES, VALUES, len(VALUES)) == 0.9
