"""The files of a toy sample: CICADA-schema HDF5 that says how it was made.

A false-positive rate measured on events that share their hard core is measured on fewer events than
it seems. So the file states the effective number of distinct simulated collisions behind the events
that pass at a trigger's rates.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

import l1kd
from l1kd.core.files import atomic
from l1kd.data.pythia_toy import detector, pile_up, pythia, suep
from l1kd.data.pythia_toy.plan import BATCH_EVENTS, Plan

IntArray = npt.NDArray[np.int64]
RegionArray = npt.NDArray[np.int16]

RATES = (1e-2, 1e-3, 1e-4)


SCORES: Mapping[str, Callable[[RegionArray], IntArray]] = MappingProxyType(
    {
        "sum": lambda events: events.sum(axis=(1, 2), dtype=np.int64),
        "max": lambda events: events.max(axis=(1, 2)).astype(np.int64),
        "top4": lambda events: np.sort(events.reshape(len(events), -1))[:, -4:].sum(
            axis=1, dtype=np.int64
        ),
        # Ranks like the mean square, and is an integer.
        "mean_square": lambda events: (events.astype(np.int64) ** 2).sum(axis=(1, 2)),
    }
)
"""The reference scores by which tails are judged: (n, 18, 14) events to (n,) scores."""


def effective_number(names: IntArray) -> float:
    """Effective number of distinct names: ``(sum n_i)^2 / sum n_i^2``; 0 for none at all.

    It is the number of names where all are equally frequent, and 1 where one has them all.
    """
    counts = np.unique(names, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def accepted(scores: IntArray, rate: float) -> npt.NDArray[np.bool_]:
    """The events at or above the lowest threshold that accepts at most a share `rate`, (n,).

    The rule of every rate l1kd quotes: a tie at the edge is left out as a whole.
    """
    # The tiny amount keeps products like 0.001 * 52000 from being rounded down for nothing.
    allowed = math.floor(rate * len(scores) + 1e-9)
    if allowed >= len(scores):
        return np.ones(len(scores), bool)
    place = len(scores) - 1 - allowed
    return np.asarray(scores > np.partition(scores, place)[place])


def effective_numbers(events: RegionArray, leading: IntArray) -> dict[str, list[float]]:
    """Effective number of leading collisions behind each reference score's accepted events."""
    return {
        name: [effective_number(leading[accepted(score(events), rate)]) for rate in RATES]
        for name, score in SCORES.items()
    }


DESCRIPTION = "Pythia 8 toy calorimeter, not calibrated to CMS"
LICENCE = (
    "The arrays are l1kd's own and free for any use (CC0-1.0, or Apache-2.0 like l1kd); "
    "they were generated with Pythia 8 (GPL-2.0-or-later), which is not part of them."
)


def identity(plan: Plan) -> dict[str, Any]:
    """All that decides the arrays of a sample, as JSON."""
    return {
        **asdict(plan),
        "signals": list(plan.signals),
        "l1kd": l1kd.__version__,
        "pythia8mc": version("pythia8mc"),
        "numpy": np.__version__,
    }


def differences(found: object, wanted: dict[str, Any]) -> str:
    """In what an identity that was `found` differs from the `wanted` one, for a message."""
    if not isinstance(found, dict):
        return "its options cannot be read"
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    return ", ".join(f"{key} was {found.get(key)}, now {wanted[key]}" for key in changed)


def read_identity(path: Path) -> object:
    """The identity stored in a file of a sample; None if it is not one."""
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        try:
            return json.loads(file.attrs["options"])
        except (KeyError, TypeError, ValueError):
            return None


def write(
    path: Path, role: str, plan: Plan, batches: list[Path], fraction: float, command: str
) -> None:
    """Gather one role's batches (see `plan.make_events`) into one file.

    ``CaloRegions`` (n, 18, 14) int16; ``AcceptanceFlag`` of length 0, as in real data without
    one; ``nPV`` (n,): the number of collisions in the event, the signal's included. Everything
    else is in the attributes.
    """
    parts = [_read(batch) for batch in batches]
    events = np.concatenate([part["regions"] for part in parts])
    collisions = np.concatenate([part["collisions"] for part in parts])
    who = identity(plan)
    attributes: dict[str, Any] = {
        "description": DESCRIPTION,
        "licence": LICENCE,
        "command": command,
        "options": json.dumps(who),
        "role": role,
        "process": _process(role),
        "tune": "Monash 2013 (Pythia's default)",
        "collision_energy_gev": pythia.ENERGY_GEV,
        "region_lsb_gev": detector.TOWER_LSB_GEV,
        "l1kd_version": who["l1kd"],
        "pythia8mc_version": who["pythia8mc"],
        "seed": plan.seed,
        "pileup_mean": plan.pileup_mean,
        "pileup_spread": plan.pileup_spread,
        "hard_pt_gev": pythia.HARD_PT_GEV,
        "hard_fraction": fraction,
        "hard_collisions": sum(int(part["hard"]) for part in parts),
        "soft_collisions": sum(int(part["soft"]) for part in parts),
        "soft_uses": pile_up.SOFT_USES,
        "hot_gev": pile_up.HOT_GEV,
        # Only events in the same block of this many rows share soft collisions.
        "block_events": BATCH_EVENTS,
    }
    if role not in plan.signals:
        leading = np.concatenate([part["leading"] for part in parts])
        numbers = effective_numbers(events, leading)
        attributes["effective_collisions_rates"] = RATES
        attributes["effective_collisions"] = np.min(list(numbers.values()), axis=0)
        attributes["effective_collisions_by_score"] = json.dumps(numbers)
    # By way of memory: a full disk then fails one write, not HDF5 once more when it closes.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(attributes)
        compression = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        rows = min(len(events), BATCH_EVENTS)
        file.create_dataset(
            "CaloRegions", data=events, chunks=(rows, *events.shape[1:]), **compression
        )
        # Whoever pushes pile-up beyond what a byte holds gets two.
        kind = np.min_scalar_type(int(collisions.max()))
        file.create_dataset("nPV", data=collisions.astype(kind), chunks=(rows,), **compression)
        file["AcceptanceFlag"] = np.zeros(0, bool)
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _read(batch: Path) -> dict[str, Any]:
    """The arrays of a batch."""
    with np.load(batch, allow_pickle=False) as stored:
        return dict(stored)


def _process(role: str) -> str:
    """The process of `role` in Pythia's terms."""
    if role not in pythia.SIGNALS:
        return "zero bias: inelastic collisions only"
    settings = ", ".join(pythia.SIGNALS[role])
    if role == "suep":
        settings += f"; decayed to pions at T = {suep.TEMPERATURE_GEV} GeV (arXiv 1612.00850)"
    return settings
