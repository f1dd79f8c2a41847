from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.data.pythia_toy import suep


@settings(max_examples=50, deadline=None)
@given(
    mass=st.floats(5, 1000),
    temperature=st.floats(0.3, 5),
    pt=st.floats(-500, 500),
    pz=st.floats(-5000, 5000),
    seed=st.integers(0, 2**32),
)
def test_the_decay_conserves_four_momentum(mass, temperature, pt, pz, seed):
    scalar = np.array([pt, 0.5 * pt, pz, np.sqrt(mass**2 + 1.25 * pt**2 + pz**2)])
    decayed = suep.decay(scalar, np.random.default_rng(seed), temperature)
    np.testing.assert_allclose(
        decayed.momentum_gev.sum(0), scalar, rtol=1e-7, atol=1e-6 * scalar[3]
    )
    assert decayed.charge.sum() in (0, 1)
    assert set(np.abs(decayed.pid)) <= {22, 211}
    squared_mass = decayed.momentum_gev[:, 3] ** 2 - (decayed.momentum_gev[:, :3] ** 2).sum(1)
    expected = np.where(decayed.charge == 0, 0, suep.CHARGED_PION_GEV**2)
    np.testing.assert_allclose(squared_mass, expected, atol=1e-9 * scalar[3] ** 2)


def test_two_charged_pions_for_each_neutral_one():
    scalar = np.array([0.0, 0.0, 0.0, 400.0])
    random = np.random.default_rng(3)
    charged = photons = 0
    for _ in range(50):
        decayed = suep.decay(scalar, random)
        charged += int((decayed.charge != 0).sum())
        photons += int((decayed.charge == 0).sum())
    assert charged / (photons / 2) == pytest.approx(2, rel=0.1)
    # "Soft": with T = 1 GeV about 3 GeV for each pion.
    assert 50 * 400 / (charged + photons / 2) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("mass", [0.0, 0.14, 2.0])
def test_momenta_follow_the_boltzmann_distribution(mass):
    momenta = suep.boltzmann_momenta(20_000, mass, 1.0, np.random.default_rng(1))
    grid = np.linspace(0, 60, 60_001)
    density = grid**2 * np.exp(-np.hypot(grid, mass))
    cumulative = density.cumsum() / density.sum()
    measured = np.searchsorted(np.sort(momenta), grid) / len(momenta)
    # The Kolmogorov-Smirnov distance is above 0.0138 once in a thousand times.
    assert np.abs(measured - cumulative).max() < 0.0138


def test_a_boost_takes_rest_to_the_frame():
    frame = np.array([3.0, -4.0, 12.0, 20.0])
    mass = np.sqrt(400 - 169)
    np.testing.assert_allclose(suep.boost(np.array([[0, 0, 0, mass]]), frame), [frame])
