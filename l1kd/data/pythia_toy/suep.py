"""Soft unclustered energy pattern: a scalar that evaporates into pions (arXiv 1612.00850).

At rest ``dN/d^3p ~ exp(-sqrt(p^2 + m^2) / T)``; two charged pions for each neutral one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from l1kd.data.pythia_toy.detector import FloatArray, Particles

TEMPERATURE_GEV = 1.0
CHARGED_PION_GEV = 0.13957
NEUTRAL_PION_GEV = 0.13498


def _directions(n: int, random: np.random.Generator) -> FloatArray:
    """(n, 3) unit vectors, isotropic."""
    cosine = random.uniform(-1, 1, n)
    phi = random.uniform(-np.pi, np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    return np.column_stack([sine * np.cos(phi), sine * np.sin(phi), cosine])


def boltzmann_momenta(
    n: int, mass_gev: float, temperature_gev: float, random: np.random.Generator
) -> FloatArray:
    """`n` absolute momenta in GeV with density ``p^2 exp(-sqrt(p^2 + m^2) / T)``."""
    # Massless momenta follow a gamma distribution of shape 3; a mass thins out the slow ones by
    # exp(-(E - p) / T), which never exceeds 1: rejection is exact.
    found: list[FloatArray] = []
    missing = n
    while missing > 0:
        momentum = random.gamma(3.0, temperature_gev, 2 * missing + 8)
        energy = np.hypot(momentum, mass_gev)
        keep = random.random(len(momentum)) < np.exp((momentum - energy) / temperature_gev)
        found.append(momentum[keep])
        missing -= int(keep.sum())
    drawn: FloatArray = np.concatenate([np.empty(0), *found])[:n]
    return drawn


def boost(momentum_gev: FloatArray, frame_gev: FloatArray) -> FloatArray:
    """Four-momenta given in the rest frame of `frame_gev`, seen from the laboratory."""
    frame = np.broadcast_to(frame_gev, momentum_gev.shape)
    energy = frame[:, 3]
    mass = np.sqrt(np.maximum(energy**2 - (frame[:, :3] ** 2).sum(1), 1e-18))
    along = (momentum_gev[:, :3] * frame[:, :3]).sum(1)
    gained = along / (mass * (energy + mass)) + momentum_gev[:, 3] / mass
    space = momentum_gev[:, :3] + gained[:, None] * frame[:, :3]
    return np.column_stack([space, (energy * momentum_gev[:, 3] + along) / mass])


def _pions_at_rest(
    mass_gev: float, temperature_gev: float, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Pion three-momenta (n, 3) and charges (n,) that sum to a scalar of `mass_gev` at rest."""
    # Momenta are shifted to sum to zero, and scaled by one factor that gives the scalar's mass;
    # charges alternate, so that they sum to zero or one.
    # Pions are drawn until their energy reaches the mass; at least two, to balance each other.
    most = int(mass_gev / CHARGED_PION_GEV) + 2
    absolute = boltzmann_momenta(most, CHARGED_PION_GEV, temperature_gev, random)
    energy = np.hypot(absolute, CHARGED_PION_GEV).cumsum()
    n = max(2, int(np.searchsorted(energy, mass_gev)))
    momentum = absolute[:n, None] * _directions(n, random)
    momentum -= momentum.mean(axis=0)

    charged = random.random(n) < 2 / 3
    charge = np.where(charged, np.where(charged.cumsum() % 2, 1.0, -1.0), 0.0)
    mass = np.where(charged, CHARGED_PION_GEV, NEUTRAL_PION_GEV)
    squared = (momentum**2).sum(1)

    def excess(scale: float) -> float:
        return float(np.sqrt(mass**2 + scale**2 * squared).sum() - mass_gev)

    highest = 2 * mass_gev / float(np.sqrt(squared).sum())
    return momentum * brentq(excess, 0.0, highest, xtol=1e-14, rtol=1e-14), charge


def decay(
    scalar_gev: FloatArray, random: np.random.Generator, temperature_gev: float = TEMPERATURE_GEV
) -> Particles:
    """Charged pions and photons from one scalar; neutral pions decay at once."""
    mass_gev = float(np.sqrt(scalar_gev[3] ** 2 - (scalar_gev[:3] ** 2).sum()))
    momentum, charge = _pions_at_rest(mass_gev, temperature_gev, random)
    mass = np.where(charge == 0, NEUTRAL_PION_GEV, CHARGED_PION_GEV)
    energy = np.sqrt((momentum**2).sum(1) + mass**2)
    pions = boost(np.column_stack([momentum, energy]), scalar_gev)
    neutral = pions[charge == 0]
    half = NEUTRAL_PION_GEV / 2
    one = np.column_stack([half * _directions(len(neutral), random), np.full(len(neutral), half)])
    first = boost(one, neutral)
    photons = np.concatenate([first, neutral - first])
    sign = charge[charge != 0]
    return Particles(
        momentum_gev=np.concatenate([pions[charge != 0], photons]),
        pid=np.concatenate([211 * sign.astype(np.int64), np.full(len(photons), 22)]),
        charge=np.concatenate([sign, np.zeros(len(photons))]),
    )
