"""The toy sample cut into numbered pieces of work, each seeded by itself.

A role (train, test, a signal) is a row of batches of 2,000 events. A batch has soft and hard
collisions of its own: batches can be made in any order by any number of processes, memory does not
grow with the sample, and events that share a soft collision stand in the same 2,000 rows of the
file. Each batch takes two jobs, and each job leaves one file in the work directory:

1. `make_soft`: the soft collisions; how many harder ones came up on the way says, over all batches
   together, with which probability a collision is hard;
2. `make_events`: as many hard collisions as that probability asks for, the signal's, the overlay.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from l1kd.core.files import atomic, write_arrays
from l1kd.data.pythia_toy import pile_up, pythia
from l1kd.data.pythia_toy.detector import Collisions

BATCH_EVENTS = 2000
MULTIPARTON_TABLE = "multiparton.dat"
_PILEUP, _SOFT, _HARD, _SIGNAL, _OVERLAY = range(5)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the arrays of a sample, besides versions."""

    train: int  # zero-bias events
    test: int
    signal_events: int
    signals: tuple[str, ...]
    pileup_mean: float  # see `overlay.draw_pileup`
    pileup_spread: float
    seed: int

    @property
    def roles(self) -> dict[str, int]:
        """Events by role, zero bias first; roles without events are left out."""
        events = {"train": self.train, "test": self.test}
        events.update(dict.fromkeys(self.signals, self.signal_events))
        return {role: n for role, n in events.items() if n}

    def batches(self, role: str) -> list[Batch]:
        """The batches of `role`, in the order of its events."""
        total = self.roles[role]
        return [
            Batch(self, role, index, min(BATCH_EVENTS, total - first))
            for index, first in enumerate(range(0, total, BATCH_EVENTS))
        ]


@dataclass(frozen=True)
class Batch:
    """One batch of one role: ``events`` events, number ``index`` of its row."""

    plan: Plan
    role: str
    index: int
    events: int

    def seed(self, purpose: int) -> np.random.SeedSequence:
        """A seed of its own for each plan seed, role, batch and purpose."""
        key = (zlib.crc32(self.role.encode()), self.index, purpose)
        return np.random.SeedSequence(self.plan.seed, spawn_key=key)

    def pileup(self) -> npt.NDArray[np.int64]:
        """Number of collisions overlaid on each event, (events,)."""
        random = np.random.default_rng(self.seed(_PILEUP))
        return pile_up.draw_pileup(
            self.events, self.plan.pileup_mean, self.plan.pileup_spread, random
        )

    def soft_collisions(self) -> int:
        """Number of soft collisions to make, so that none is used too often."""
        return -(-int(self.pileup().sum()) // pile_up.SOFT_USES)

    def soft_file(self, work: Path) -> Path:
        return work / f"soft-{self.role}-{self.index:05}.npz"

    def events_file(self, work: Path) -> Path:
        return work / f"events-{self.role}-{self.index:05}.npz"


def make_table(path: Path) -> None:
    """Write the table that all soft jobs start from."""
    with atomic(path) as temporary:
        pythia.write_multiparton_table(temporary)


def make_soft(batch: Batch, work: Path) -> None:
    """Make the batch's soft collisions and write them into `work`."""
    soft, vetoed = pythia.soft_collisions(
        batch.soft_collisions(), batch.seed(_SOFT), work / MULTIPARTON_TABLE
    )
    write_arrays(
        batch.soft_file(work),
        {"offsets": soft.offsets, "tower": soft.tower, "et_gev": soft.et_gev, "vetoed": vetoed},
    )


def hard_fraction(batches: list[Batch], work: Path) -> float:
    """The fraction of inelastic collisions that are hard, seen by all soft jobs together."""
    kept = vetoed = 0
    for batch in batches:
        with np.load(batch.soft_file(work), allow_pickle=False) as stored:
            kept += len(stored["offsets"]) - 1
            vetoed += int(stored["vetoed"])
    return vetoed / (kept + vetoed) if vetoed else 0.0


def make_events(batch: Batch, work: Path, fraction: float) -> None:
    """Make the batch's hard and signal collisions, overlay all, and write the events into `work`.

    The file holds ``regions`` (n, 18, 14) int16, ``collisions`` (n,) int64: how many each event
    consists of, ``leading`` (n,) int64: see `overlay.Overlaid`, made distinct across
    batches, and the numbers ``soft`` and ``hard`` of collisions that went in.
    """
    pileup = batch.pileup()
    random = np.random.default_rng(batch.seed(_OVERLAY))
    n_hard = random.binomial(pileup, fraction).astype(np.int64)
    hard = pythia.hard_collisions(int(n_hard.sum()), batch.seed(_HARD))
    signal = None
    if batch.role in batch.plan.signals:
        signal = pythia.signal_collisions(batch.role, batch.events, batch.seed(_SIGNAL))
    with np.load(batch.soft_file(work), allow_pickle=False) as stored:
        soft = Collisions(stored["offsets"], stored["tower"], stored["et_gev"])
    events = pile_up.overlay(pileup - n_hard, n_hard, soft, hard, random, signal)
    # A batch has far fewer than 2^32 collisions: a multiple of that keeps batches apart.
    leading = np.where(
        events.leading == pile_up.NO_COLLISION,
        events.leading,
        events.leading + (batch.index << 33),
    )
    write_arrays(
        batch.events_file(work),
        {
            "regions": events.regions,
            "collisions": pileup + (signal is not None),
            "leading": leading,
            "soft": len(soft),
            "hard": len(hard),
        },
    )
