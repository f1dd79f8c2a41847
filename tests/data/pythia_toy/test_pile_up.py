from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.data.pythia_toy.detector import N_ETA, N_PHI, N_TOWERS, Collisions
from l1kd.data.pythia_toy.pile_up import (
    CHUNK,
    HOT_GEV,
    NO_COLLISION,
    SOFT_USES,
    deal,
    draw_pileup,
    overlay,
)

EMPTY = Collisions(np.zeros(1, np.int64), np.empty(0, np.uint16), np.empty(0, np.float32))


def single_towers(et_gev: list[float], tower: int = 0) -> Collisions:
    """Collisions that fill one tower each."""
    n = len(et_gev)
    return Collisions(np.arange(n + 1), np.full(n, tower, np.uint16), np.array(et_gev, np.float32))


def counts(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@settings(deadline=None)
@given(st.data(), st.integers(1, 200), st.integers(0, 2**32))
def test_cards_are_dealt_evenly_and_never_too_often(data, available, seed):
    draws = data.draw(st.integers(0, available * SOFT_USES))
    none = np.zeros(available, bool)
    used = np.bincount(deal(draws, none, np.random.default_rng(seed)), minlength=available)
    assert used.sum() == draws
    assert used.max() <= SOFT_USES
    assert np.ptp(used) <= 1


@settings(deadline=None)
@given(st.data(), st.lists(st.booleans(), min_size=1, max_size=50), st.integers(0, 2**32))
def test_hot_cards_come_once_while_there_are_others(data, hot, seed):
    once = np.array(hot)
    enough = int((~once).sum()) * SOFT_USES + int(once.sum())
    draws = data.draw(st.integers(0, len(once) * SOFT_USES))
    used = np.bincount(deal(draws, once, np.random.default_rng(seed)), minlength=len(once))
    assert used.sum() == draws
    assert used.max() <= SOFT_USES
    if draws <= enough:
        assert (used[once] <= 1).all()


def test_hot_soft_collisions_are_used_once():
    soft = single_towers([1.0] * 99 + [HOT_GEV + 10])
    events = overlay(np.full(100, 7), np.zeros(100, np.int64), soft, EMPTY, np.random.default_rng())
    assert (events.regions.max(axis=(1, 2)) > 2 * HOT_GEV).sum() == 1


def test_too_few_soft_collisions_are_refused():
    with pytest.raises(ValueError, match="exceed"):
        deal(10 * SOFT_USES + 1, np.zeros(10, bool), np.random.default_rng(0))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 2**32))
def test_every_hard_collision_is_used_exactly_once(per_event, seed):
    n_hard = np.array(per_event, np.int64)
    # Energies are powers of two: the count of an event says which collisions are in it.
    n = int(n_hard.sum())
    hard = single_towers([0.5 * 2 ** (i % 9) for i in range(n)])
    events = overlay(np.zeros_like(n_hard), n_hard, EMPTY, hard, np.random.default_rng(seed))
    wanted = np.zeros(len(n_hard), np.int64)
    np.add.at(wanted, np.repeat(np.arange(len(n_hard)), n_hard), 2 ** (np.arange(n) % 9))
    np.testing.assert_array_equal(events.regions.sum(axis=(1, 2)), np.minimum(wanted, 1023))
    with pytest.raises(ValueError, match="once"):
        overlay(n_hard * 0, n_hard + 1, EMPTY, hard, np.random.default_rng(seed))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, N_TOWERS - 1), min_size=1, max_size=40, unique=True),
    st.integers(0, 2**32),
)
def test_rotation_and_reflection_keep_the_energy(towers, seed):
    tower = np.sort(np.array(towers)).astype(np.uint16)
    et_gev = (0.5 * (1 + np.arange(len(tower)))).astype(np.float32)
    collision = Collisions(np.array([0, len(tower)]), tower, et_gev)
    events = overlay(counts(0), counts(1), EMPTY, collision, np.random.default_rng(seed)).regions
    assert events.sum() == 2 * et_gev.sum()


def test_collisions_land_everywhere_with_their_eta_up_to_a_sign():
    n = 2000
    eta = 5
    hard = single_towers([4.0] * n, tower=eta)
    events = overlay(
        np.zeros(n, np.int64), np.ones(n, np.int64), EMPTY, hard, np.random.default_rng(1)
    ).regions
    _, phi, ring = np.nonzero(events)
    assert set(ring) == {eta // 4, (N_ETA - 1 - eta) // 4}
    assert 0.45 < (ring == eta // 4).mean() < 0.55
    assert np.bincount(phi, minlength=18).min() > n / 18 / 2


def test_the_signal_stays_where_it_is_and_adds_up_with_pileup():
    n = CHUNK + 3
    tower = 7 * N_ETA + 9
    signal = single_towers([10.0] * n, tower)
    zeros = np.zeros(n, np.int64)
    random = np.random.default_rng(2)
    alone = overlay(zeros, zeros, EMPTY, EMPTY, random, signal)
    assert (alone.regions[:, 7 // 4, 9 // 4] == 20).all()
    assert (alone.regions.sum(axis=(1, 2)) == 20).all()
    assert (alone.leading == NO_COLLISION).all()
    soft = single_towers([2.0] * n)
    piled = overlay(zeros + 3, zeros, soft, EMPTY, random, signal)
    assert (piled.regions.sum(axis=(1, 2)) == 20 + 3 * 4).all()
    with pytest.raises(ValueError, match="signal"):
        overlay(zeros[:-1], zeros[:-1], EMPTY, EMPTY, random, signal)


def test_the_leading_collision_has_most_energy_in_the_hottest_region():
    soft = single_towers([1.0])
    hard = single_towers([2.0, 50.0, 3.0])
    events = overlay(counts(1, 1, 1, 0), counts(1, 1, 1, 0), soft, hard, np.random.default_rng(3))
    assert events.leading.tolist() == [-1, -2, -3, NO_COLLISION]
    weak = overlay(counts(1), counts(1), soft, single_towers([0.5]), np.random.default_rng(4))
    assert weak.leading.tolist() == [0]


def test_a_seed_gives_the_same_events_and_another_seed_others():
    soft = single_towers(list(np.linspace(0.5, 30, 400)), tower=100)
    n = np.full(60, 5)

    def make(seed):
        return overlay(n, n * 0, soft, EMPTY, np.random.default_rng(seed)).regions

    np.testing.assert_array_equal(make(1), make(1))
    assert (make(1) != make(2)).any()


def test_pileup_has_the_stated_mean_and_spread():
    drawn = draw_pileup(20_000, 50, 10, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(50, abs=0.4)
    assert drawn.var() == pytest.approx(50 + 100, rel=0.05)
    fixed = draw_pileup(20_000, 50, 0, np.random.default_rng(0))
    assert fixed.var() == pytest.approx(50, rel=0.05)
    assert (draw_pileup(100, 0, 0, np.random.default_rng(0)) == 0).all()


@settings(deadline=None)
@given(st.floats(0, 200), st.floats(0, 200), st.integers(0, 2**32))
def test_pileup_is_never_negative(mean, spread, seed):
    drawn = draw_pileup(20, mean, spread, np.random.default_rng(seed))
    assert (drawn >= 0).all()
    assert (drawn <= mean + 10 * spread + 10 * (mean + 10 * spread + 1) ** 0.5).all()


def test_phi_wraps_around():
    last = single_towers([4.0] * 200, tower=(N_PHI - 1) * N_ETA)
    ones = np.ones(200, np.int64)
    events = overlay(ones * 0, ones, EMPTY, last, np.random.default_rng(5)).regions
    assert (events.sum(axis=(1, 2)) == 8).all()
