"""Epochs are told apart by their steps, however those are reported."""

import pytest

from tests.benchmarks.bench_colearning import REPEATS, Clock, Enough


@pytest.mark.parametrize("at_once", [1, 2, 54])
def test_epochs_by_their_steps(at_once: int) -> None:
    ended = []
    clock = Clock(54, lambda: ended.append(clock.done))
    clock.start()
    with pytest.raises(Enough):
        for _ in range(54 // at_once * (REPEATS + 2)):
            clock.tick(at_once)
    assert ended == [54 * (epoch + 1) for epoch in range(REPEATS + 1)]
    assert all(each["seconds"] >= 0 for each in clock.epochs)
