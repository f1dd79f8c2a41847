"""The toy calorimeter: CMS-like geometry, a response that is not calibrated to CMS.

Left out: material, showers that spread, noise, and the end caps' shorter way through the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
RegionArray = NDArray[np.int16]

FIELD_T = 3.8
RADIUS_M = 1.29
MIN_PT_GEV = 0.05
TOWER_LSB_GEV = 0.5
TOWER_MAX = 511
REGION_MAX = 1023
HADRON_RESPONSE = 0.8

_POSITIVE_EDGES = (
    [0.087 * i for i in range(20)]
    + [1.740, 1.830, 1.930, 2.043, 2.172, 2.322, 2.5, 2.65, 3.0]
)  # fmt: skip
ETA_EDGES = np.array([-edge for edge in _POSITIVE_EDGES[:0:-1]] + _POSITIVE_EDGES)
N_PHI, N_ETA = 72, len(ETA_EDGES) - 1
N_TOWERS = N_PHI * N_ETA
REGIONS = (N_PHI // 4, N_ETA // 4)
# CMS regions start two towers before phi = 0.
PHI_OFFSET = 2

ELECTROMAGNETIC = (11, 22)
# Neutrinos, muons and the lightest neutralino leave (almost) nothing in a calorimeter.
INVISIBLE = (12, 13, 14, 16, 18, 1000022)


class Particles(NamedTuple):
    """Stable particles, one array entry each."""

    momentum_gev: FloatArray  # (n, 4): px, py, pz, energy
    pid: IntArray
    charge: FloatArray

    @staticmethod
    def joined(parts: list[Particles]) -> Particles:
        """All particles of `parts`, in order."""
        return Particles(*map(np.concatenate, zip(*parts, strict=True)))


@dataclass(frozen=True)
class Collisions:
    """Tower energies of many collisions, empty towers left out."""

    offsets: IntArray  # collision i has offsets[i]:offsets[i + 1] of the others
    tower: NDArray[np.uint16]
    et_gev: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def deposit(
    particles: Particles, owner: IntArray, collisions: int, random: np.random.Generator
) -> Collisions:
    """Let the calorimeter see the particles of several collisions."""
    px, py, pz, energy_gev = particles.momentum_gev.T
    pt_gev = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt_gev, 1e-9))
    charged = particles.charge != 0
    # A track of transverse momentum p has the radius p / (0.3 B); half of RADIUS_M / that radius
    # is the sine of the angle by which it arrives displaced. Above 1, it curls up before.
    half_turn = 0.3 * FIELD_T * RADIUS_M / 2 / np.maximum(pt_gev, 1e-9)
    seen = (
        ~np.isin(np.abs(particles.pid), INVISIBLE)
        & (np.abs(eta) < ETA_EDGES[-1])
        & (pt_gev > MIN_PT_GEV)
        & ~(charged & (half_turn > 1))
    )
    pt_gev, eta, energy_gev = pt_gev[seen], eta[seen], np.maximum(energy_gev[seen], 1e-6)
    bend = np.where(charged[seen], np.arcsin(np.minimum(half_turn[seen], 1)), 0)
    phi = np.arctan2(py, px)[seen] - np.sign(particles.charge[seen]) * bend

    electromagnetic = np.isin(np.abs(particles.pid[seen]), ELECTROMAGNETIC)
    resolution = np.where(
        electromagnetic,
        np.hypot(0.03 / np.sqrt(energy_gev), 0.007),
        np.hypot(1.1 / np.sqrt(energy_gev), 0.09),
    )
    response = np.where(electromagnetic, 1, HADRON_RESPONSE)
    et_gev = pt_gev * response * np.maximum(0, 1 + resolution * random.normal(size=len(phi)))

    eta_index = np.clip(np.searchsorted(ETA_EDGES, eta, side="right") - 1, 0, N_ETA - 1)
    phi_index = (np.floor(phi / (2 * np.pi / N_PHI)).astype(np.int64) + PHI_OFFSET) % N_PHI
    address = (owner[seen] * N_PHI + phi_index) * N_ETA + eta_index
    total = np.bincount(address, weights=et_gev, minlength=collisions * N_TOWERS)
    filled = np.flatnonzero(total)
    return Collisions(
        offsets=np.searchsorted(filled, np.arange(collisions + 1) * N_TOWERS).astype(np.int64),
        tower=(filled % N_TOWERS).astype(np.uint16),
        et_gev=total[filled].astype(np.float32),
    )


def concatenate(parts: list[Collisions]) -> Collisions:
    """All collisions of `parts`, in order."""
    counts = [np.diff(part.offsets) for part in parts]
    return Collisions(
        offsets=np.concatenate([[0], *counts]).cumsum().astype(np.int64),
        tower=np.concatenate([np.empty(0, np.uint16), *(part.tower for part in parts)]),
        et_gev=np.concatenate([np.empty(0, np.float32), *(part.et_gev for part in parts)]),
    )


def regions(tower_et_gev: FloatArray) -> RegionArray:
    """Towers to trigger regions: 0.5 GeV steps (9 bits), 4 x 4 sums, 10 bits."""
    counts = np.minimum(np.floor(tower_et_gev / TOWER_LSB_GEV), TOWER_MAX)
    blocks = counts.reshape(*counts.shape[:-2], REGIONS[0], 4, REGIONS[1], 4)
    sums: FloatArray = blocks.sum(axis=(-3, -1))
    return np.minimum(sums, REGION_MAX).astype(np.int16)
