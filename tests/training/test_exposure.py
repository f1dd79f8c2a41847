"""Exposure: on the grid, in range, seeded, and what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.config import Distillation
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.teacher_config import Jets, Soft
from l1kd.data.dataset import Dataset, Sample
from l1kd.training.exposure import EXPOSURES, InputRange, measure_inputs, mixer

RECIPE = Distillation()
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
    inputs = measure_inputs(data, RECIPE)
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
    made = EXPOSURES["shuffle"](
        data.train.events(), np.random.default_rng(1), measure_inputs(data, RECIPE)
    )
    assert (np.sort(made.reshape(200, -1)) == np.sort(data.train.events().reshape(200, -1))).all()


def test_patches_only_add() -> None:
    data = dataset((18, 14, 1))
    events = data.train.events()
    made = EXPOSURES["patch"](events, np.random.default_rng(1), measure_inputs(data, RECIPE))
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
    inputs = measure_inputs(dataset((7, 4, 2)), RECIPE)
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


def test_jets_are_pieces_of_other_events_with_the_energy_that_is_asked() -> None:
    """Above the mean, at random places, around the end of a ring."""
    events = np.full((400, 18, 14, 1), 5, np.float32)
    events[:, 8:11, 6:9] += 1
    events[:, 9, 7] = 45
    settings = Jets(number=(1, 1), energy=(96, 96))
    inputs = InputRange(FixedPoint(11, 11), 0, 1023, 10, 45, np.full((18, 14), 5), True, settings)
    made = EXPOSURES["jets"](events, np.random.default_rng(1), inputs)
    added = (made - events)[..., 0]
    inside = added.sum((1, 2)) > 90  # of 96, rounded; the others stick out at the ends of eta
    assert 0.7 < inside.mean() < 0.95
    assert (added.max((1, 2))[inside] == 80).all() and (added.max((1, 2)) <= 80).all()
    assert ((added > 0).sum((1, 2))[inside] == 9).all()
    rows, columns = np.divmod(added.reshape(400, -1).argmax(1), 14)
    assert set(rows) == set(range(18)) and len(set(columns)) == 14
    around = inside & (rows == 0)
    assert around.any() and (added[around, -1].sum(1) > 0).all()


def test_soft_blobs_are_many_small_deposits_of_the_energy_that_is_asked() -> None:
    events = np.zeros((300, 18, 14, 1), np.float32)
    sums = []
    for width in (1.0, 4.0):
        own = Soft(number=(2, 2), energy=(300, 300), width=(width, width), deposit=(2, 2))
        inputs = InputRange(
            FixedPoint(11, 11), 0, 1023, 10, 45, np.full((18, 14), 5), True, soft=own
        )
        made = EXPOSURES["soft"](events, np.random.default_rng(1), inputs)
        assert (made % 2 == 0).all()
        sums.append((made.sum((1, 2, 3)).mean(), (made > 0).sum((1, 2, 3)).mean()))
        assert abs(sums[-1][0] - 600) < 10
    assert sums[1][1] > 2 * sums[0][1]


def test_energies_that_are_not_asked_follow_the_inputs() -> None:
    """Ten times the counts, ten times the energies."""
    for kind in ("jets", "soft"):
        added = []
        for scale in (1, 10):
            events = scale * np.random.default_rng(0).poisson(3, (900, 18, 14, 1))
            sample = Sample.of("train", events)
            data = Dataset(sample, sample, sample, {}, FixedPoint(14, 14))
            inputs = measure_inputs(data, RECIPE)
            values = data.train.events()
            made = EXPOSURES[kind](values, np.random.default_rng(1), inputs)
            added.append((made - values).sum())
        assert 9 < added[1] / added[0] < 11


def test_a_turned_event_is_one_of_its_ring() -> None:
    events = np.random.default_rng(0).poisson(3, (200, 5, 3, 1)).astype(np.float32)
    for ring in (True, False):
        inputs = InputRange(FixedPoint(11, 11), 0, 1023, 1, 45, ring=ring)
        made = EXPOSURES["turn"](events, np.random.default_rng(1), inputs)
        turns = range(5) if ring else range(1)
        images = [np.roll(e, turn, 1) for e in (events, events[:, :, ::-1]) for turn in turns]
        alike = np.array([(made == image).all((1, 2, 3)) for image in images])
        assert alike.any(0).all() and alike.any(1).all()


def test_windows_have_a_middle() -> None:
    with pytest.raises(ValueError, match="odd"):
        Jets(width=4)


@pytest.mark.parametrize("kind", EXPOSURES)
def test_kinds_of_inputs_keep_their_ranges(kind):
    """A bit beside a count stays a bit, whatever is done to the event."""
    random = np.random.default_rng(2)
    events = random.integers(0, 2, (60, 6, 5, 2)).astype(np.float32)
    events[..., 0] = random.poisson(20, (60, 6, 5))
    sample, grid = Sample.of("train", events), FixedPoint(11, 11)
    data = Dataset(sample, sample, sample, {}, grid, highest=(1023.0, 1.0))
    made = EXPOSURES[kind](events, np.random.default_rng(1), measure_inputs(data, RECIPE))
    assert made.shape == events.shape and made[..., 0].max() > 20
    assert set(np.unique(made[..., 1])) <= {0.0, 1.0}
    assert grid.holds(made).all()
