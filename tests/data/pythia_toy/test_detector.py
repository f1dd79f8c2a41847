from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.data.pythia_toy import detector
from l1kd.data.pythia_toy.detector import (
    N_ETA,
    N_PHI,
    Collisions,
    Particles,
    concatenate,
    deposit,
    regions,
)

PHOTON, PION, MUON, NEUTRINO = 22, 211, 13, 12


def particle(pt_gev: float, eta: float, phi: float, pid: int = PHOTON, charge: float = 0):
    momentum = pt_gev * np.array([np.cos(phi), np.sin(phi), np.sinh(eta), np.cosh(eta)])
    return momentum, pid, charge


def see(*particles, owner=None, collisions=1, seed=0) -> Collisions:
    momentum, pid, charge = zip(*particles, strict=True)
    return deposit(
        Particles(np.array(momentum), np.array(pid), np.array(charge, float)),
        np.zeros(len(pid), np.int64) if owner is None else np.array(owner),
        collisions,
        np.random.default_rng(seed),
    )


def place(collisions: Collisions) -> tuple[int, int]:
    """phi and eta index of the only tower hit."""
    (tower,) = collisions.tower.tolist()
    return divmod(tower, N_ETA)


def test_a_photon_goes_straight_to_its_tower():
    # The tower that starts at phi = 0 is the third, the one that starts at eta = 0 the 29th.
    hit = see(particle(50, 0.01, 0.01))
    assert place(hit) == (2, 28)
    assert hit.et_gev[0] == pytest.approx(50, rel=0.05)
    assert place(see(particle(50, -2.9, np.pi - 0.01))) == (37, 0)


def test_charged_particles_bend_one_way_or_the_other():
    straight = place(see(particle(2, 0.01, 0.0, PION)))[0]
    positive = place(see(particle(2, 0.01, 0.0, PION, 1)))[0]
    negative = place(see(particle(2, 0.01, 0.0, -PION, -1)))[0]
    assert (positive - straight) % N_PHI > N_PHI / 2
    assert 0 < (negative - straight) % N_PHI < N_PHI / 2


@pytest.mark.parametrize(
    "unseen",
    [
        particle(0.7, 0.1, 0.1, PION, 1),
        particle(50, 0.1, 0.1, MUON, -1),
        particle(50, 0.1, 0.1, -NEUTRINO),
        particle(50, 3.01, 0.1),
        particle(0.04, 0.1, 0.1),
    ],
    ids=["looper", "muon", "neutrino", "forward", "too_soft"],
)
def test_what_the_calorimeter_does_not_see(unseen):
    assert len(see(unseen).tower) == 0


def test_hadrons_are_measured_low_and_badly():
    photons, hadrons = (
        see(*[particle(50, 0.01, 0.01, pid)] * 400, owner=np.arange(400), collisions=400).et_gev
        for pid in (PHOTON, PION)
    )
    assert photons.mean() == pytest.approx(50, rel=0.01)
    assert hadrons.mean() == pytest.approx(40, rel=0.05)
    assert hadrons.std() > 5 * photons.std()


def test_collisions_stay_apart_and_empty_ones_stay():
    hits = see(particle(10, 0.01, 0.01), particle(20, 1.0, 1.0), owner=[0, 2], collisions=4)
    assert np.diff(hits.offsets).tolist() == [1, 0, 1, 0]
    twice = concatenate([hits, hits])
    assert len(twice) == 8
    assert np.diff(twice.offsets).tolist() == [1, 0, 1, 0] * 2
    np.testing.assert_array_equal(twice.et_gev, np.tile(hits.et_gev, 2))
    assert len(concatenate([])) == 0


@settings(deadline=None)
@given(st.integers(0, N_PHI - 1), st.integers(0, N_ETA - 1), st.floats(0, 2000))
def test_one_tower_fills_one_region_up_to_nine_bits(phi, eta, et_gev):
    towers = np.zeros((N_PHI, N_ETA))
    towers[phi, eta] = et_gev
    counts = regions(towers)
    assert counts.dtype == np.int16
    assert counts[phi // 4, eta // 4] == counts.sum() == min(int(et_gev / 0.5), 511)


def test_regions_saturate_at_ten_bits():
    counts = regions(np.full((3, N_PHI, N_ETA), 100.0))
    assert counts.shape == (3, 18, 14)
    assert (counts == 1023).all()


def test_towers_cover_the_stated_range_symmetrically():
    edges = detector.ETA_EDGES
    assert len(edges) == 57
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(edges, -edges[::-1])
    assert edges[-1] == 3
