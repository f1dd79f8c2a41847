"""Pile-up: collisions overlaid, hard ones once, soft ones a few times.

Soft ones are rotated in phi and reflected in eta at random; hot ones are used once: repeated, a
single one made a fifth of the hottest per mille of a sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from l1kd.data.pythia_toy import detector
from l1kd.data.pythia_toy.detector import Collisions, FloatArray, IntArray, RegionArray

SOFT_USES = 8  # of a soft collision, at most
# Soft collisions with more than that in one region are used once. At a pile-up of 50, regions of
# 78 GeV make the hottest per mille of events, and 28 GeV of that can be pile-up.
HOT_GEV = 50.0
NO_COLLISION = int(np.iinfo(np.int64).max)  # the leading collision of an event that has none
# Events whose towers are summed at once: 500 x 4032 float64 are 16 MB. Part of what a seed means.
CHUNK = 500


class Overlaid(NamedTuple):
    """Events made of overlaid collisions."""

    regions: RegionArray  # (n, 18, 14)
    # (n,) the collision with most energy in the hottest region: soft i is i, hard i is -1 - i
    leading: IntArray


def draw_pileup(n: int, mean: float, spread: float, random: np.random.Generator) -> IntArray:
    """Numbers of collisions (n,): Poisson, of an intensity that is normal and cut off below 0."""
    uniform = random.random(n)
    if spread > 0:
        below = ndtr(-mean / spread)
        intensity = mean + spread * ndtri(below + (1 - below) * uniform)
    else:
        intensity = np.full(n, mean)
    drawn: IntArray = random.poisson(np.maximum(intensity, 0))
    return drawn


def deal(draws: int, once: NDArray[np.bool_], random: np.random.Generator) -> IntArray:
    """`draws` indices, like cards: all are used before any is used again."""
    available = len(once)
    if draws > available * SOFT_USES:
        raise ValueError(
            f"{draws} draws from {available} collisions exceed {SOFT_USES} uses of each"
        )
    dealt, left_out = np.empty(0, np.int64), np.empty(0, np.int64)
    for deck in range(SOFT_USES):
        if len(dealt) >= draws:
            break
        cards = random.permutation(available)
        out = once[cards] & (deck > 0)
        dealt = np.concatenate([dealt, cards[~out]])
        left_out = np.concatenate([left_out, cards[out]])
    return np.concatenate([dealt, left_out])[:draws]


def overlay(
    n_soft: IntArray,
    n_hard: IntArray,
    soft: Collisions,
    hard: Collisions,
    random: np.random.Generator,
    signal: Collisions | None = None,
) -> Overlaid:
    """Overlay collisions on each other and read the regions out."""
    if len(hard) != n_hard.sum():
        raise ValueError(f"hard collisions are used once: {n_hard.sum()} wanted, {len(hard)} given")
    if signal is not None and len(signal) != len(n_soft):
        raise ValueError(f"{len(n_soft)} events wanted, {len(signal)} signal collisions given")
    soft_dealt = deal(int(n_soft.sum()), _hottest_region_gev(soft) > HOT_GEV, random)
    soft_end, hard_end = n_soft.cumsum(), n_hard.cumsum()
    parts = []
    for start in range(0, len(n_soft), CHUNK):
        stop = min(start + CHUNK, len(n_soft))
        events = np.arange(start, stop)
        softs = soft_dealt[soft_end[start] - n_soft[start] : soft_end[stop - 1]]
        hards = np.arange(hard_end[start] - n_hard[start], hard_end[stop - 1])
        layers = (
            _Layer(soft, softs, np.repeat(events - start, n_soft[start:stop])),
            _Layer(hard, hards, np.repeat(events - start, n_hard[start:stop])),
        )
        still = None if signal is None else _Layer(signal, events, events - start)
        parts.append(_overlay_chunk(stop - start, layers, still, random))
    return Overlaid(*map(np.concatenate, zip(*parts, strict=True)))


class _Layer(NamedTuple):
    """Collision ``chosen[i]`` of ``collisions`` goes into event ``event[i]``."""

    collisions: Collisions
    chosen: IntArray
    event: IntArray


def _entries(
    layer: _Layer, turns: IntArray, flips: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, FloatArray]:
    """All tower entries of a layer, its collisions rotated and reflected."""
    first = layer.collisions.offsets[layer.chosen]
    count = layer.collisions.offsets[layer.chosen + 1] - first
    choice = np.repeat(np.arange(len(layer.chosen)), count)
    entry = np.repeat(first - (count.cumsum() - count), count) + np.arange(len(choice))
    phi, eta = np.divmod(layer.collisions.tower[entry].astype(np.int64), detector.N_ETA)
    phi = (phi + turns[choice]) % detector.N_PHI
    eta = np.where(flips[choice], detector.N_ETA - 1 - eta, eta)
    return choice, phi * detector.N_ETA + eta, layer.collisions.et_gev[entry].astype(np.float64)


def _overlay_chunk(
    n: int, layers: tuple[_Layer, _Layer], signal: _Layer | None, random: np.random.Generator
) -> Overlaid:
    """`overlay` for `n` events; `layers` are the soft and the hard collisions."""
    entries = []
    for layer, names in zip(layers, (layers[0].chosen, -1 - layers[1].chosen), strict=True):
        turns = random.integers(detector.N_PHI, size=len(names))
        flips = random.random(len(names)) < 0.5
        choice, *tower_and_energy = _entries(layer, turns, flips)
        entries.append((*tower_and_energy, layer.event[choice], names[choice]))
    tower, et_gev, event, name = map(np.concatenate, zip(*entries, strict=True))
    total: FloatArray = np.bincount(
        event * detector.N_TOWERS + tower, weights=et_gev, minlength=n * detector.N_TOWERS
    ).astype(np.float64)
    if signal is not None:
        still = np.zeros(n, np.int64)
        choice, where, energy = _entries(signal, still, still.astype(bool))
        total += np.bincount(
            choice * detector.N_TOWERS + where, weights=energy, minlength=n * detector.N_TOWERS
        )
    counts = detector.regions(total.reshape(n, detector.N_PHI, detector.N_ETA))

    hottest = counts.reshape(n, -1).argmax(axis=1)
    inside = _region_of(tower) == hottest[event]
    return Overlaid(counts, _leading(n, event[inside], name[inside], et_gev[inside]))


def _region_of(tower: IntArray) -> IntArray:
    """The flat region index of flat tower indices."""
    phi, eta = np.divmod(tower, detector.N_ETA)
    return (phi // 4) * detector.REGIONS[1] + eta // 4


def _hottest_region_gev(collisions: Collisions) -> FloatArray:
    """Energy in the hottest region of each collision, (n,)."""
    n_regions = detector.REGIONS[0] * detector.REGIONS[1]
    owner = np.repeat(np.arange(len(collisions)), np.diff(collisions.offsets))
    address = owner * n_regions + _region_of(collisions.tower.astype(np.int64))
    total = np.bincount(address, collisions.et_gev, len(collisions) * n_regions)
    hottest: FloatArray = total.reshape(-1, n_regions).max(axis=1)
    return hottest


def _leading(n: int, event: IntArray, name: IntArray, et_gev: FloatArray) -> IntArray:
    """Per event, the name with the largest sum of energies among its entries, (n,)."""
    pair, place = np.unique(np.stack([event, name], axis=1), axis=0, return_inverse=True)
    share = np.bincount(place.ravel(), weights=et_gev, minlength=len(pair))
    leading = np.full(n, NO_COLLISION)
    # Ascending: the largest share of an event is written last and stays.
    order = np.argsort(share, kind="stable")
    leading[pair[order, 0]] = pair[order, 1]
    return leading
