"""Exposure: on the grid, in range, seeded, and what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Sample
from l1kd.training.exposure import EXPOSURES, InputRange, measure_inputs, mixer

SHAPES = [(28, 28, 1), (18, 14, 1), (57,), (5, 3)]


def dataset(shape: tuple[int, ...], *, other: bool = False) -> Dataset:
    events = np.random.default_rng(0).poisson(3, (200, *shape))
    samples = [Sample.of(name, events) for name in ("train", "val", "test")]
    exposure = Sample.of("other", np.full((50, *shape), 7)) if other else None
    return Dataset(*samples, {}, FixedPoint(11, 11), exposure)


@pytest.mark.parametrize("kind", EXPOSURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_made_events_are_on_the_grid_and_in_range(kind: str, shape: tuple[int, ...]) -> None:
    data = dataset(shape)
    inputs = measure_inputs(data)
    events = data.train.events()
    before = events.copy()
    made = EXPOSURES[kind](events, np.random.default_rng(1), inputs)
    assert made.shape == events.shape
    assert made.dtype == np.float32
    assert inputs.grid.holds(made).all()
    assert made.min() >= inputs.low
    assert (events == before).all(), "the normal events themselves were changed"
    assert (made != events).any()
    again = EXPOSURES[kind](events, np.random.default_rng(1), inputs)
    assert (made == again).all()


def test_shuffle_keeps_every_value_of_an_event() -> None:
    data = dataset((5, 3))
    made = EXPOSURES["shuffle"](data.train.events(), np.random.default_rng(1), measure_inputs(data))
    assert (np.sort(made.reshape(200, -1)) == np.sort(data.train.events().reshape(200, -1))).all()


def test_patches_only_add() -> None:
    data = dataset((18, 14, 1))
    events = data.train.events()
    made = EXPOSURES["patch"](events, np.random.default_rng(1), measure_inputs(data))
    assert (made >= events).all()


def test_noise_is_a_tenth_of_the_largest_value() -> None:
    events = np.full((500, 28, 28, 1), 0.5, np.float32)
    inputs = InputRange(FixedPoint(9, 1), 0.0, 255 / 256, 0.1, 1.0)
    made = EXPOSURES["noise"](events, np.random.default_rng(1), inputs)
    assert abs(made.std() - 0.1) < 0.002


@pytest.mark.parametrize("kinds", [[], ["patch"], ["dataset", "noise", "shuffle"]])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_mix_has_the_asked_size(kinds: list[str], ratio: float) -> None:
    data = dataset((5, 3), other=True)
    mix = mixer(kinds, ratio, data)
    made = mix(data.train.events(101), np.random.default_rng(1))
    assert len(made) == (round(101 * ratio) if kinds else 0)
    if "dataset" in kinds:
        assert (made == 7).all((1, 2)).sum() == round(101 * ratio) // 3


def test_a_source_without_another_data_set_says_so() -> None:
    data = dataset((5, 3))
    with pytest.raises(UserError, match=r"'dataset'.*no other data set"):
        mixer(["dataset"], 1.0, data)


def test_a_warped_event_is_the_same_thing_elsewhere() -> None:
    grid = FixedPoint(12, 8)
    inputs = InputRange(grid, 0.0, grid.high, 1.0, 100.0)
    events = np.zeros((400, 28, 28, 1), np.float32)
    events[:, 10:18, 12:15] = 64
    made = EXPOSURES["warp"](events, np.random.default_rng(1), inputs)
    assert (made.max((1, 2, 3)) <= 64).all()
    assert (made.max((1, 2, 3)) > 60).all()  # never thinned out
    areas = made.sum((1, 2, 3)) / events.sum((1, 2, 3))
    # The determinant of the map: sides of e^-0.5 to e^0.5 either way.
    assert np.exp(-1) * 0.8 < areas.min() < 0.6
    assert 1.5 < areas.max() < np.e * 1.2
    assert len(np.unique(made.reshape(400, -1), axis=0)) == 400


def test_a_warp_by_nothing_gives_the_event() -> None:
    class Still:
        """Random numbers that are all in the middle."""

        def uniform(self, low: float, high: float, size: object) -> np.ndarray:  # type: ignore[type-arg]
            return np.zeros(size)  # type: ignore[call-overload, no-any-return]

        def choice(self, values: list[float], size: int) -> np.ndarray:  # type: ignore[type-arg]
            return np.ones(size)

    events = dataset((7, 4, 2)).train.events()
    inputs = measure_inputs(dataset((7, 4, 2)))
    assert (EXPOSURES["warp"](events, Still(), inputs) == events).all()  # type: ignore[arg-type]


def test_pieces_are_of_normal_events() -> None:
    inputs = InputRange(FixedPoint(11, 11), 1.0, 1023.0, 1.0, 100.0)
    events = np.arange(2, 202, dtype=np.float32)[:, None, None] * np.ones((1, 12, 9), np.float32)
    made = EXPOSURES["pieces"](events, np.random.default_rng(1), inputs)
    kinds = [np.unique(event) for event in made]
    assert all(np.isin(values, [1, *range(2, 202)]).all() for values in kinds)
    own = np.array([np.mean(a == b) for a, b in zip(made, events, strict=True)])
    assert (own < 1).mean() > 0.6  # a piece of itself is no change here
    assert 0.2 < own.mean() < 0.8
    assert max(map(len, kinds)) == 3  # its own, another's, the lowest


@pytest.mark.parametrize("kind", EXPOSURES)
def test_kinds_of_inputs_keep_their_ranges(kind):
    """A bit beside a count stays a bit, whatever is done to the event."""
    random = np.random.default_rng(2)
    events = random.integers(0, 2, (60, 6, 5, 2)).astype(np.float32)
    events[..., 0] = random.poisson(20, (60, 6, 5))
    sample, grid = Sample.of("train", events), FixedPoint(11, 11)
    data = Dataset(sample, sample, sample, {}, grid, highest=(1023.0, 1.0))
    made = EXPOSURES[kind](events, np.random.default_rng(1), measure_inputs(data))
    assert made.shape == events.shape and made[..., 0].max() > 20
    assert set(np.unique(made[..., 1])) <= {0.0, 1.0}
    assert grid.holds(made).all()
